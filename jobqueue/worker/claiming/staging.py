"""Promotes scheduled jobs when they come due, within milliseconds and without polling fast.

The stager sleeps until the next due time it knows. It publishes that time, so that a job with a nearer one wakes it;
and looks once more after publishing, for the same reason as the claimer.
"""

import asyncio
import random
from collections.abc import Callable

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.settings import Settings
from jobqueue.store import claims
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database, Session
from jobqueue.worker.claiming.wakeup import Wakeup

_BATCH = 500
_FLAG = [""]


class Stager:
    """Every worker has one; they share the work by SKIP LOCKED."""

    def __init__(self, database: Database, worker: WorkerId, settings: Settings, ready: Callable[[], None]) -> None:
        """`ready` is called when jobs of any queue have become ready."""
        self.wakeup = Wakeup()
        self.listening = asyncio.Event()
        self._session = Session(database)
        self._worker = worker
        self._poll = settings.poll
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
        finally:
            await self._session.close()

    async def _until_next(self) -> None:
        self.wakeup.clear()
        seconds = await self._promote()
        if self.listening.is_set():
            await claims.publish_sleep(self._session, self._worker, _FLAG, seconds)
            seconds = min(seconds, await self._promote())
        await self.wakeup.wait(seconds)

    async def _promote(self) -> float:
        """Promote all that is due; in how many seconds to look again."""
        while True:
            promoted, next_in = await claims.promote_due(self._session, _BATCH)
            self._outage.over()
            if promoted:
                self._ready()  # wake() tells the others; we may not be published as asleep
            if promoted < _BATCH:
                poll = self._poll * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
                return poll if next_in is None else min(poll, max(0.0, next_in))
