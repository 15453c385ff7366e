"""From a function's parameters to JSON and back, exactly or not at all.

`signature.py` is the door: what a task takes and returns. `adapter.py` turns one annotation into a strict codec,
`faithful.py` proves that what was encoded is what was given, `storable.py` that PostgreSQL can keep it.
"""
