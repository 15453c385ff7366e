"""New jobs on their way to the database, and results on their way back.

`producer.py` is the door. `coalescer.py` sends the defers that wait at the same moment in one statement, `surely.py`
sends once more when an answer is lost, `waiting.py` waits for jobs to end.
"""
