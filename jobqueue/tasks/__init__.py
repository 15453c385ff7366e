"""What users write: tasks, routers, options, handles, the context, and the run of one job.

`task.py` is the door. `payload/` turns a function's parameters into a strict codec, `sending/` brings new jobs to the
database and results back, `run/` runs one job and turns its end into an outcome. Nothing here knows the App: a task
sees a narrow `Sender`.
"""
