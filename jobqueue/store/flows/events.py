"""The log is read: exactly, and by everybody in the same order. See `event_edge()` in `schema/migrations`."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from jobqueue.base.errors import EventsLost
from jobqueue.base.flows.event import WHOLE, Choice, Entry, Event, Place
from jobqueue.store.connection.executor import Reader
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking.lookup import as_uuid

ASKED = "?"
"""What `ask_readers` says to readers."""
_RECOVERED = "-1/"
"""How the name of a prepared transaction begins that has outlived a restart of the server."""
_ROWS_OF_JOB = 2_000
PAGE = 200
"""Rows read at once; each may tell of 500 jobs."""


@dataclass(slots=True)
class Settling:
    """Up to where the log is settled: whoever drew a number up to there has committed or rolled back.

    A look gives the last number drawn and who may still be writing. Once none of those is there any more, all up to
    that number is settled, however many write by then.
    """

    edge: int | None = None
    """The last number that is settled; None: nothing is known yet."""
    drawn: int = 0
    """The last number that was drawn at all."""
    _last: int = 0
    _writers: frozenset[str] | None = None

    def look(self, last: int, writers: Collection[str]) -> None:
        """Take in what a look has given."""
        self.drawn = last
        if self._writers is not None:
            # One that was prepared goes by another name once the server has started anew.
            self._writers = frozenset(w for w in writers if w in self._writers or w.startswith(_RECOVERED))
            if not self._writers:
                self.edge, self._writers = max(self._last, self.edge or 0), None
        if self._writers is None:
            if writers:
                self._last, self._writers = last, frozenset(writers)
            else:
                self.edge = max(last, self.edge or 0)

    @property
    def waits(self) -> bool:
        """Whether somebody may still be writing what was drawn when we looked."""
        return self._writers is not None


async def look_at_edge(database: Database, settling: Settling) -> None:
    """Look once."""
    (row,) = await database.fetch("event_edge")
    settling.look(row["edge"], row["writers"])


async def read_events(reader: Reader, after: Place, edge: int) -> tuple[list[Entry], Place]:
    """A page of what comes behind a place, up to a settled number; and the place that is reached by it.

    Raises EventsLost if retention has dropped some of it, be it the rest of the row that the place is in.
    """
    first = after.seq + 1 if after.part >= WHOLE else after.seq
    rows = await reader.fetch("read_events", first, edge, PAGE)
    entries = [_entry(row) for row in rows if row["seq"] is not None]
    reached = Place(entries[-1].seq if len(entries) == PAGE else max(edge, after.seq), WHOLE)
    if after.seq >= 0:
        if reached.seq - first >= len(entries):  # a number is missing: rolled back, or dropped since that look began
            rows = await reader.fetch("event_floor")
        floor = Place(rows[0]["floor"], WHOLE)
        if after < floor:
            raise EventsLost(str(floor))
    return entries, reached


async def last_events(database: Database, before: int) -> list[Entry]:
    """A page of rows from before this number back, the newest first; what is not settled yet may be missing."""
    return [_entry(row) for row in await database.fetch("last_events", before, PAGE)]


async def events_of_job(database: Reader, id: UUID, since: datetime) -> list[Event]:
    """What the log's newest rows say of a job that was stored at `since`, in order; perhaps not all there is."""
    rows = await database.fetch("events_of_job", id, since, _ROWS_OF_JOB)
    entries = [(_entry(row), Choice(job=id)) for row in rows]
    return [entry.event(index) for entry, choice in entries for index in choice.indexes(entry, Place(0, 0))]


def _entry(row: Any) -> Entry:
    """A row as it is stored; plain SQL may have written odd ones."""
    return Entry(
        row["seq"], row["at"], row["type"], row["task"] or "", row["queue"] or "", row["origin"],
        row["bundle_id"] and as_uuid(row["bundle_id"]), [as_uuid(id) for id in row["jobs"] or () if id is not None],
        [attempt or 0 for attempt in row["attempts"] or ()], row["error"], row["reason"],
        _data(row["data"]),
    )  # fmt: skip


def _data(text: str | None) -> dict[str, Any] | None:
    try:
        data = None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


async def say_logged(database: Database) -> None:
    """Tell those who read the log that there is more."""
    await database.fetch("say_logged")


async def say_reading(database: Database) -> None:
    """Tell the workers that somebody reads the log, so that they say when there is more."""
    await database.fetch("say_reading")


async def ask_readers(database: Database) -> None:
    """Ask those who read the log to say so."""
    await database.fetch("ask_readers")


async def events_lag(database: Database) -> float:
    """For how many seconds readers wait for a transaction that is writing the log."""
    seconds: float = (await database.fetch("events_lag"))[0]["seconds"]
    return seconds
