"""The run of one job: `attempt.py` runs it and turns its end into one outcome.

Knows nothing of claims or databases: the worker, `task.run` (`here.py`) and tests come here. Around the run:
`middleware.py`, `hooks.py`; what a failure leaves on record: `failure.py`; what a batch task is: `batch.py`.
"""
