"""Sends a worker's counts, once a minute, in one statement.

They are taken when the minute ends, and sent a little later, so that the workers do not all come at once. What is taken
stays in one parcel with a number until the database has said that it is in; what is counted meanwhile goes with the
next one. So nothing is lost while the database is away, and nothing counts twice when an answer is lost: of each number
the database takes only the first parcel. A worker that dies takes up to a minute with it.
"""

import contextlib
import random
import time
from dataclasses import dataclass

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.looking.history import trimmed
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.noting import Counted, note_counts, text_of
from jobqueue.worker.keeping.tally import Counts, Tally
from jobqueue.worker.noting.clock import MinuteClock

_SPREAD = 1 / 6
"""Of a minute, within which its counts are sent."""
_LAST = 1.0
"""Seconds for the last parcels of a worker that ends."""


@dataclass(frozen=True, slots=True)
class _Parcel:
    number: int
    rows: str
    middle: float
    """When it was counted, on the monotonic clock: inside its minute."""


class CountSender:
    """One for a worker; runs until all of its outcomes are written."""

    def __init__(self, database: Database, worker: WorkerId, tally: Tally, *, minute: float = 60.0) -> None:
        """`minute`: its length in seconds, shorter for those who test."""
        self._database = database
        self._worker = worker
        self._tally = tally
        self._minute = minute
        self._clock = MinuteClock(minute)
        self._parcel: _Parcel | None = None
        self._number = 0
        self._taken_at = time.monotonic()
        self._outage = Outage("counting", get_logger(__name__), cap=30.0)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled, then what is left, within a second. Survives every database error."""
        task_status.started()
        self._taken_at = time.monotonic()
        try:
            while True:
                await anyio.sleep(self._clock.left)
                self._take()
                await anyio.sleep(self._minute * _SPREAD * random.random())  # noqa: S311 - spreads load, guards nothing
                await self._send_patiently()
        finally:
            with anyio.move_on_after(_LAST, shield=True), contextlib.suppress(*DATABASE_ERRORS):
                await self._send()
                self._take()
                await self._send()

    def _take(self) -> None:
        """Make a parcel of what was counted since the last one, if that has arrived."""
        if self._parcel is not None:
            return
        now, before = time.monotonic(), self._taken_at
        self._taken_at = now
        if counted := self._tally.take():
            total = Counts()
            for counts in counted.values():
                total.add(counts)
            rows = [_row(*pair, counts) for pair, counts in counted.items()]
            self._number += 1
            middle = now - min((now - before) / 2, self._minute / 2)
            self._parcel = _Parcel(self._number, text_of([_row("", "", total), *rows]), middle)

    async def _send_patiently(self) -> None:
        while self._parcel is not None:
            try:
                await self._send()
            except DATABASE_ERRORS as error:
                delay = self._outage.met(error)
                if classify(error) is Fault.BAD_DATA:
                    self._parcel = None  # it would be refused for ever, and all that follows would wait behind it
                await anyio.sleep(delay)
            else:
                self._outage.over()

    async def _send(self) -> None:
        if (parcel := self._parcel) is not None:
            age = time.monotonic() - parcel.middle
            self._clock.heard(await note_counts(self._database, self._worker, parcel.number, age, parcel.rows))
            self._parcel = None


def _row(queue: str, task: str, counts: Counts) -> Counted:
    return Counted(
        queue, task, claimed=counts.claimed, seconds=counts.seconds, run=trimmed(counts.buckets),
        wait=trimmed(counts.waits), **counts.outcomes,
    )  # fmt: skip
