"""Dialing: a connection string is read and checked, one of its hosts answers, and a silent line is noticed.

`strings.py` reads what users have, `dial.py` is the door to a server, `sockets.py` keeps and ends a connection,
`silence.py` has the limits that the server keeps of it, and `asking.py` how a session gets them. Nothing is known here
of pools, of the schema or of the queue.
"""
