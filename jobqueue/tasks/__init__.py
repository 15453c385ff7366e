"""What users write: tasks, routers, options, handles, the context, and the run of one job.

`task.py` is the door. `signature.py` turns a function's parameters into a strict codec, `coalescer.py` sends the
defers that wait at the same moment in one statement, `running.py` runs one job and turns its end into an outcome.
Nothing here knows the App: a task sees a narrow `Sender`.
"""
