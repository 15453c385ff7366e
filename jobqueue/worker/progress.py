"""Writes what handlers report of their progress: at once, then at most twice a second, only the last word of each job.

What is still unwritten when a job ends, the finisher writes before its outcome.
"""

import asyncio
import contextlib
from collections.abc import Iterable

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.store.faults import DATABASE_ERRORS
from jobqueue.store.outage import Outage
from jobqueue.store.pool import Database, Session
from jobqueue.store.progress import Report, write_progress
from jobqueue.worker.holding import Hold

_PAUSE = 0.5
_BATCH = 500


class Reporter:
    """Keeps the last report of each running job until it is written."""

    def __init__(self, database: Database) -> None:
        self._session = Session(database)
        self._loop = asyncio.get_running_loop()
        self._latest: dict[Hold, str] = {}
        """Handlers write here from any thread, and are read from the loop: by single steps of a dict."""
        self._arrived = asyncio.Event()
        self._writing = asyncio.Lock()
        self._outage = Outage("progress", get_logger(__name__))

    def say(self, hold: Hold, report: str) -> None:
        """Take over a report; from any thread, and never waits."""
        first = hold not in self._latest
        self._latest[hold] = report
        if first:
            with contextlib.suppress(RuntimeError):  # the loop is closed: a thread has outlived its worker
                self._loop.call_soon_threadsafe(self._arrived.set)

    async def last_words(self, holds: Iterable[Hold]) -> list[Report]:
        """What these jobs, which have ended, have last reported, after all that is being written now."""
        if self._writing.locked():
            async with self._writing:
                pass
        return self.take(holds)

    def take(self, holds: Iterable[Hold]) -> list[Report]:
        """What these jobs have last reported, if nobody has written it yet."""
        if not self._latest:
            return []
        found = ((hold, self._latest.pop(hold, None)) for hold in holds)
        return [(hold.id, hold.fence, report) for hold, report in found if report is not None]

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled. Survives every database error; a report may be lost then, the next one is not."""
        task_status.started()
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                try:
                    async with self._writing:
                        # The last word of one that has ended is the finisher's to write.
                        reports = self.take([hold for hold in list(self._latest) if hold.task and not hold.task.done()])
                        for start in range(0, len(reports), _BATCH):
                            await write_progress(self._session, reports[start : start + _BATCH])
                    self._outage.over()
                except DATABASE_ERRORS as error:
                    await self._outage.wait(error)
                await self._session.close()  # seldom needed: not a connection of its own
                await anyio.sleep(_PAUSE)
        finally:
            await self._session.close()
