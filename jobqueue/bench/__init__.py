"""How fast jobqueue is here, beside the raw limit: the least SQL that does the same work, driven by the bare driver.

`run.py` is the door: it takes the measurements of `workloads.py` one after the other, ours and the limit in turns. A
measurement has a name, says what it does, and `run`s on a `Side`: `ours.py`, or `raw.py` with the SQL of `sql.py`. To
add one, add an entry to `workloads.py`. Workers and producers are processes of their own (`children.py`), of both sides
alike.

Everything happens in a schema that `ground.py` makes and drops. Shows nothing: that is the command line's work.
"""
