"""What workers note for those who look later: their counts minute by minute, and how long the queues are."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import anyio
import orjson

from jobqueue.base.job import WorkerId
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking.overview import queue_stats

MINUTES_KEPT, HOURS_KEPT = 2 * 86_400.0 + 3_600, 60 * 86_400.0
"""Seconds for which counts and depths stay by the minute, an hour more than is read, and counts by the hour."""
QUEUES = 200
"""Of so many queues the depth is noted, the largest ones."""
_COUNTED = 2_000
_LOOK_MS = 2_000
_SWEPT = 2_000


@dataclass(frozen=True, slots=True)
class Counted:
    """What one worker has counted of one task in one queue; with empty names, of all."""

    queue: str
    task: str
    claimed: int
    completed: int
    cancelled: int
    dead: int
    retried: int
    snoozed: int
    suspended: int
    released: int
    put_aside: int
    lined_up: int
    refused: int
    lost: int
    seconds: float
    run: Sequence[int]
    """Histogram of run times; may lack zeros at its end."""
    wait: Sequence[int]
    """The same of waits."""


_FIELDS = [field.name for field in fields(Counted)]


def text_of(rows: Sequence[Counted]) -> str:
    """What `note_counts` sends, to be kept until it has arrived."""
    return orjson.dumps([{name: getattr(row, name) for name in _FIELDS} for row in rows]).decode()


async def note_counts(database: Database, worker: WorkerId, number: int, age: float, rows: str) -> float:
    """Add counts to the minute and the hour that were `age` seconds ago; gives the second of the database's minute.

    Numbers of one worker grow. What is sent again under its number, since the answer was lost, counts once.
    """
    second: float = (await database.fetch("note_counts", worker, number, age, rows))[0]["second"]
    return second


async def begin_depths(database: Database) -> tuple[datetime | None, float]:
    """A moment for one caller of all in each minute, who notes the depths; and the second of the database's minute."""
    row = (await database.fetch("begin_depths"))[0]
    return row["at"], row["second"]


async def note_depths(executor: Executor, at: datetime) -> None:
    """Note how long the queues are; a look that takes too long is cut off, and raises what the driver says."""
    async with executor.transaction():
        await executor.fetch("limit_look", str(_LOOK_MS))
        rows = [
            {
                "queue": each.queue,
                "ready": each.ready,
                "scheduled": each.scheduled,
                "blocked": each.blocked,
                "running": each.running,
                "oldest_due": each.oldest_due,
            }
            for each in await queue_stats(executor, _COUNTED)
        ]
        await executor.fetch("note_depths", at, QUEUES, orjson.dumps(rows).decode())


async def forget_history(database: Database, minutes: float = MINUTES_KEPT, hours: float = HOURS_KEPT) -> int:
    """Delete what is older than so many seconds, in small steps; how many rows, of the table that had most."""
    gone = 0
    while True:
        began = time.monotonic()
        step: int = (await database.fetch("forget_history", _SWEPT, minutes, hours))[0]["gone"]
        gone += step
        if step < _SWEPT:
            return gone
        await anyio.sleep(time.monotonic() - began)  # half of the time is for others
