"""New jobs on their way to the database, and results on their way back.

`sender.py` is what a task sees; `database_sender.py` is one; `testing/` has others. `opening.py` has what
an app opened: a `producer.py` for each event loop. `coalescer.py` sends the defers that wait at the same moment in one
statement, `surely.py` sends once more when an answer is lost, `waiting.py` waits for jobs to end.
"""
