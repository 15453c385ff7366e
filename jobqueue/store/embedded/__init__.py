"""The embedded PostgreSQL server: started by the first user on this machine, stopped by the last.

`share.py` is the door. `server.py` joins and leaves, `postmaster.py` starts and stops the process, `home.py` is the
folder it lives in, `file_lock.py` counts who uses it.
"""
