"""A caller's own connection as an executor: jobs join the transaction that it is in, wake-up included.

`choosing.py` tells by what it is what was given, and refuses what cannot be joined. `on_asyncpg.py`, `on_psycopg.py`
and `on_sqlalchemy.py` run statements, `wrapped.py` finds the driver's connection in what Django, Tortoise and Piccolo
have. None of these libraries is imported, but where its user has done so.

Nothing of a connection is changed: not its codecs, its search_path or its isolation. Where a library's error would
quote the row, asyncpg's is raised in its place, for `faults`: see `telling.py`.
"""
