"""The orderly stop of a worker: wait for what runs, cancel the rest, write what has ended, all within limits."""

import asyncio
import contextlib

import anyio

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.store import workers
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.pool import Database
from jobqueue.worker.ending.finishing import Finisher
from jobqueue.worker.slots.slots import Slots

FINAL_WRITES = 5.0
"""Seconds for cancelled handlers to end and for the last outcomes to be written, beyond the drain's limit."""


class Drain:
    """One worker's stop. Asked for any number of times; the nearest limit counts."""

    def __init__(self, database: Database, worker: WorkerId, slots: Slots, finisher: Finisher) -> None:
        self.begun = asyncio.Event()
        """Set once the worker is to stop."""
        self.clean = True
        """False once a handler outlived its stop, or an outcome could not be written."""
        self.cut_off = 0
        """Jobs that were still running when their time was over."""
        self._by = float("inf")
        self._database = database
        self._worker = worker
        self._slots = slots
        self._finisher = finisher
        self._log = get_logger(__name__).bind(worker=str(worker))

    @property
    def final_writes(self) -> float:
        """Seconds that the end takes at most, once the limit is over."""
        return FINAL_WRITES

    def begin(self, limit: float) -> None:
        """Stop claiming, give running jobs `limit` seconds, then cancel them. Again with less: sooner."""
        self._by = min(self._by, asyncio.get_running_loop().time() + limit)
        self.begun.set()
        self._slots.close()  # what a claim under way still brings is given back
        self._slots.freed.set()  # a drain that waits looks at its new limit

    async def run(self, no_more_work: asyncio.Event) -> None:
        """Wait, cancel, write, within the limits. `no_more_work` is set once nothing can be claimed any more.

        What still runs then is not given back: its claim holds until the lease ends.
        """
        if not self.begun.is_set():
            self.begin(0)
        await self._wait_and_cancel()
        hard = asyncio.get_running_loop().time() + FINAL_WRITES
        if not await self._slots.wait_idle(lambda: hard - FINAL_WRITES / 2):
            self._leave_behind()
        with anyio.move_on_after(hard - asyncio.get_running_loop().time()) as scope:
            if not self.clean:
                with contextlib.suppress(*DATABASE_ERRORS):
                    await workers.leave(self._database, self._worker)
            await no_more_work.wait()
            await self._finisher.settled()
        self.clean = self.clean and not scope.cancelled_caught

    async def _wait_and_cancel(self) -> None:
        slots = self._slots
        if slots.running:
            limit = round(max(0.0, self._by - asyncio.get_running_loop().time()), 1)
            self._log.info("worker.draining", running=len(slots.running), limit=limit)
        await slots.wait_idle(lambda: self._by)
        self.cut_off = len(slots.running)
        slots.stop_running()

    def _leave_behind(self) -> None:
        self.clean = False
        for hold in list(self._slots.running):
            self._log.error("job.outlived_stop", job_id=str(hold.id), task=hold.claim["task"])
        self._slots.abandon_threads()
