"""Which gates a job passes: the keys of its limits, found in its arguments.

`gates.py` is the door: used where a job is made, and by the worker that looks once more before a job starts.
"""
