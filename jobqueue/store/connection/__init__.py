"""Connections: where the database is, how one is opened, kept, lost and replaced, and what its errors mean.

`location.py` finds and opens the database, `pool.py` has its connections, `session.py` is one at work, `faults.py` says
what an error means, `listener.py` hears notifications, `callers` run our statements on a connection of the caller's. No
topic of the queue is known here.
"""
