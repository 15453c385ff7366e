"""Writes what handlers report of their progress: at once, then at most twice a second, only the last word of each job.
And, for the log, that followed jobs have begun.

What is still unwritten when a job ends, whoever ends it writes first: the finisher, or the job's own transaction.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.outcomes import still_claimed
from jobqueue.store.progress import log_started, write_progress
from jobqueue.worker.keeping.holds import Held, Hold

_PAUSE = 0.5
_BATCH = 500


class Reporter:
    """Keeps the last report of each running job until it is written."""

    def __init__(self, database: Database, worker: WorkerId, holds: Held) -> None:
        self._worker = worker
        self._session = Session(database)
        self._holds = holds
        self._loop = asyncio.get_running_loop()
        self._latest: dict[Hold, str] = {}
        """Handlers write here from any thread, and are read from the loop: by single steps of a dict."""
        self._begun: set[Hold] = set()
        """Followed jobs of whose start the log does not tell yet."""
        self._starting: Collection[Hold] = ()
        """Those of which it is being told."""
        self._arrived = asyncio.Event()
        self._in_flight: Collection[Hold] = ()
        self._landed = asyncio.Event()
        self._outage = Outage("progress", get_logger(__name__))

    @property
    def unwritten(self) -> int:
        """How many jobs have reported what nobody has written yet."""
        return len(self._latest)

    def say(self, hold: Hold, report: str) -> None:
        """Take over a report; from any thread, and never waits."""
        first = hold not in self._latest
        self._latest[hold] = report
        if first:
            with contextlib.suppress(RuntimeError):  # the loop is closed: a thread has outlived its worker
                self._loop.call_soon_threadsafe(self._arrived.set)

    def begins(self, hold: Hold) -> None:
        """Tell the log that this job has begun: once, or never if the database is away just then."""
        self._begun.add(hold)
        self._arrived.set()

    async def have_begun(self, executor: Executor, holds: Collection[Hold]) -> None:
        """See to it that the log tells first that these have begun: something else of them is about to be told."""
        while any(hold in self._starting for hold in holds):
            self._landed.clear()
            await self._landed.wait()
        if self._begun:
            await self._log_begun(executor, self._begun.intersection(holds))

    async def write_last_words(self, executor: Executor, holds: Collection[Hold]) -> Collection[Hold]:
        """Write what these jobs, which are about to end, have last reported; after what is being written of them now.

        Gives those that somebody has locked, such as a beat: their reports are kept. Raises the database's errors; the
        reports are then kept, unless they are what it refuses.
        """
        while any(hold in self._in_flight for hold in holds):
            self._landed.clear()
            await self._landed.wait()
        if self._begun:
            await self._log_begun(executor, self._begun.intersection(holds))
        return await self._write(executor, holds)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled. Survives every database error."""
        task_status.started()
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                self._forget_the_ended()
                try:
                    await self._log_begun(self._session, self._begun)
                    # The last word of one that has ended is the finisher's to write.
                    if await self._write(self._session, [hold for hold in list(self._latest) if _runs(hold)]):
                        self._arrived.set()
                    self._outage.over()
                except DATABASE_ERRORS as error:
                    await self._outage.wait(error)
                    self._arrived.set()
                await self._session.close()  # seldom needed: not a connection of its own
                await anyio.sleep(_PAUSE)
        finally:
            await self._session.close()

    async def _log_begun(self, executor: Executor, holds: Collection[Hold]) -> None:
        if holds:
            self._begun = self._begun.difference(holds)
            self._starting = {*self._starting, *holds}
            try:
                with self._sending(holds):
                    await log_started(executor, self._worker, [(hold.id, hold.fence) for hold in holds])
            finally:
                self._starting = {hold for hold in self._starting if hold not in holds}

    @contextlib.contextmanager
    def _sending(self, holds: Collection[Hold]) -> Iterator[None]:
        """What is said of these jobs is on its way: nothing may be said of their end before it is there."""
        self._in_flight = {*self._in_flight, *holds}
        try:
            yield
        finally:
            self._in_flight = {hold for hold in self._in_flight if hold not in holds}
            self._landed.set()

    async def _write(self, executor: Executor, holds: Iterable[Hold]) -> Collection[Hold]:
        """Write what these have reported; those that somebody has locked."""
        locked = set[Hold]()
        if not self._latest:
            return locked
        found = ((hold, self._latest.pop(hold, None)) for hold in holds)
        reports = {hold: report for hold, report in found if report is not None}
        while reports:
            part = list(reports)[:_BATCH]
            try:
                with self._sending(part):
                    words = [(hold.id, hold.fence, reports[hold]) for hold in part]
                    stored = await write_progress(executor, self._worker, words)
                    left = [hold for hold in part if hold.id not in stored]
                    locked.update(await self._still(executor, left) if left else ())
            except BaseException as error:
                if not (isinstance(error, DATABASE_ERRORS) and classify(error) is Fault.BAD_DATA):
                    for hold, report in reports.items():
                        self._latest.setdefault(hold, report)  # unless it has reported again
                raise
            for hold in part:
                report = reports.pop(hold)
                if hold in locked:
                    self._latest.setdefault(hold, report)
        return locked

    async def _still(self, executor: Executor, holds: Collection[Hold]) -> Collection[Hold]:
        """Of those of which nothing could be written: whose claims hold, so that it can be later."""
        still = await still_claimed(executor, self._worker, [(hold.id, hold.fence) for hold in holds])
        return {hold for hold in holds if hold.id in still}

    def _forget_the_ended(self) -> None:
        """A thread may report on after its job has ended, and some jobs end without an outcome to write."""
        for hold in list(self._latest):
            if hold not in self._holds:
                self._latest.pop(hold, None)


def _runs(hold: Hold) -> bool:
    return hold.task is not None and not hold.task.done()
