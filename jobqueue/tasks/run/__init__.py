"""The run of one job: `attempt.py` runs it and turns its end into one outcome.

Knows nothing of claims or databases: the worker, `task.run` (`here.py`) and tests come here. Around the run:
`middleware.py`, `hooks.py`. What a failure means: `groups.py`; when the job runs again: `again.py`; what stays on
record: `failure.py`. What a batch task is: `batch.py`.
"""
