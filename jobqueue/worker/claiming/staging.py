"""Promotes scheduled jobs when they come due, within milliseconds and without polling fast.

The stager sleeps until the next due time it knows. It publishes that time, so that a job with a nearer one wakes it;
and looks once more after publishing, for the same reason as the claimer.

It goes on from where it has been: an old snapshot keeps the index entries of all that was promoted. What has committed
late is behind that; a look from the beginning finds it: after publishing, at each wake-up and every poll. After a long
one it rests.
"""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import datetime

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.service import Wakeup
from jobqueue.base.settings import Settings
from jobqueue.store import claims
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.worker.keeping.windows import Rest

_BATCH = 500
_FLAG = [""]
_LONGEST_REST = 60.0
"""Seconds: it cannot look a piece at a time, so a look takes as long as all that has gone."""


class Stager:
    """Every worker has one; they share the work by SKIP LOCKED."""

    def __init__(self, database: Database, worker: WorkerId, settings: Settings, ready: Callable[[], None]) -> None:
        """`ready` is called when jobs of any queue have become ready."""
        self.wakeup = Wakeup()
        self.listening = asyncio.Event()
        self._session = Session(database)
        self._worker = worker
        self._poll = settings.poll
        self._seen: datetime | None = None
        self._stale = True
        self._due = False
        """Whether the time has come that was next: then it promotes, without asking first whether anything is due."""
        self._looked_at = 0.0
        self._rest = Rest(_LONGEST_REST)
        self._ready = ready
        self._outage = Outage("stage", get_logger(__name__))

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Promote until cancelled. Survives every database error."""
        task_status.started()
        try:
            while True:
                try:
                    await self._until_next()
                except DATABASE_ERRORS as error:
                    await self._outage.wait(error)
                    self._stale = True
        finally:
            await self._session.close()

    async def _until_next(self) -> None:
        self.wakeup.clear()
        seconds = await self._promote()
        if self.listening.is_set():
            await claims.publish_sleep(self._session, self._worker, _FLAG, seconds)
            # Who committed late while no flag stood has told nobody. Where a look at all takes long the poll finds it.
            self._stale = self._stale or not self._rest.left
            seconds = min(seconds, await self._promote())
        if self._stale:
            seconds = min(seconds, self._rest.left)
        woken = await self.wakeup.wait(seconds)  # for a job that has committed long after its due time, perhaps
        self._due = not woken
        self._stale = self._stale or woken or time.monotonic() - self._looked_at >= self._poll

    async def _promote(self) -> float:
        """Promote all that is due; in how many seconds to look again."""
        while True:
            done = await self._next_batch()
            if done.jobs:
                self._ready()  # wake() tells the others; we may not be published as asleep
            self._due = done.jobs == _BATCH
            if not self._due:
                poll = self._poll * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
                return poll if done.next_in is None else min(poll, max(0.0, done.next_in))
            await claims.promote_each(self._session, _BATCH, done.seen)

    async def _next_batch(self) -> claims.Promoted:
        began = time.monotonic()
        whole = self._seen is None or (self._stale and not self._rest.left)
        after = None if whole else self._seen
        done = None if self._due else await claims.next_due(self._session, after)
        done = done or await claims.promote_due(self._session, _BATCH, after)
        self._outage.over()
        self._seen = done.seen
        if whole:
            self._stale = False
            self._looked_at = time.monotonic()
            self._rest.begin(self._looked_at - began)
        return done
