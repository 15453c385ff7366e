"""Stands for the client library of a carrier, which blocks: a plain function is a phase too, and runs in a thread."""

import sqlite3
from contextlib import closing
from pathlib import Path

BOOK = Path("parcels.db")
"""The carrier's, in the folder where the worker runs."""
_PATIENCE = 30.0

TABLE = "create table if not exists parcel (key text primary key, what text not null, asked integer not null default 1)"
BOOKING = """
insert into parcel (key, what) values (?, ?)
on conflict (key) do update set asked = asked + 1
returning rowid
"""


def book(key: str, what: str) -> int:
    """Hand over one parcel for each key, however often that is asked; its number."""
    with closing(sqlite3.connect(BOOK, timeout=_PATIENCE)) as connection, connection:
        connection.execute(TABLE)
        (number,) = connection.execute(BOOKING, (key, what)).fetchone()
        return int(number)
