"""Claims jobs for the free slots: how many, from which queues, when.

One claimer a worker. It looks again at once after a full batch, when a quarter of the slots is free, or 1 ms after
the first freed slot. When there is nothing, it dozes (looks after 1, 2, 4 ms: a busy stream never needs a
notification), then publishes that it sleeps, looks once more, and waits for a notification or its poll.
"""

import asyncio
import contextlib
import random
from collections.abc import Sequence

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.outcome import Released
from jobqueue.base.service import Patience, Seldom
from jobqueue.base.settings import Settings
from jobqueue.store import claims
from jobqueue.store.faults import DATABASE_ERRORS, Fault, brief, classify
from jobqueue.store.outcomes import Ended, write
from jobqueue.store.pool import Database, Session
from jobqueue.worker.finishing import Finisher
from jobqueue.worker.queues import Queues
from jobqueue.worker.slots import Slots
from jobqueue.worker.wakeup import Wakeup

_DOZES = (0.001, 0.002, 0.004)
_LINGER = 0.001
_LAST_CLAIM = 2.0
_BURST_POLL = 0.05
_BACKLOG_LIMIT = 5_000
"""Unwritten outcomes beyond which nothing is claimed."""


class Claimer:
    """Keeps the slots of one worker filled."""

    def __init__(
        self,
        database: Database,
        worker: WorkerId,
        settings: Settings,
        queues: Queues,
        slots: Slots,
        finisher: Finisher,
    ) -> None:
        self.wakeup = Wakeup()
        self.listening = asyncio.Event()
        """Set while notifications arrive; without them publishing a sleep would be of no use."""
        self._session = Session(database)
        self._worker = worker
        self._settings = settings
        self._queues = queues
        self._slots = slots
        self._finisher = finisher
        if queues.limits:
            slots.when_freed = self._slot_freed
        self._number = 0
        self._unsettled = 0
        """The number of a claim whose answer has not come; 0 if all have."""
        self._claiming = anyio.CancelScope()
        self._asleep = False
        self._sleep_until = 0.0
        self._log = get_logger(__name__)
        self._seldom = Seldom()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Claim until cancelled. Survives every database error."""
        task_status.started()
        patience = Patience()
        try:
            while True:
                try:
                    await self._serve(patience)
                except DATABASE_ERRORS as error:
                    await self._wait_for_database(error, patience.next())
        finally:
            await self._leave()

    async def run_until_empty(self) -> None:
        """Claim until nothing is ready and nothing runs, then return. Survives every database error."""
        patience = Patience()
        try:
            while True:
                try:
                    if await self._found_nothing():
                        return
                except DATABASE_ERRORS as error:
                    await self._wait_for_database(error, patience.next())
        finally:
            await self._leave()

    async def _found_nothing(self) -> bool:
        await self._settle_lost_claim()
        await self._room()
        self._queues.stale = True
        if await self._look():
            return False
        while not self._slots.idle:  # a job may wait for one that it has deferred: go on looking
            self._slots.freed.clear()
            with anyio.move_on_after(_BURST_POLL):
                await self._slots.freed.wait()
            self._queues.stale = True
            if await self._look():
                return False
        await self._finisher.settled()
        self._queues.stale = True
        return not await self._look()  # what has just ended may have deferred, or failed without a delay

    def _slot_freed(self, queue: str) -> None:
        """A queue with a limit may go on: its backlog waits for a slot, not for a notification."""
        if queue in self._queues.limits:
            self.wakeup.ring()

    def look_everywhere(self) -> None:
        """Jobs have become ready, perhaps in a queue that nobody has told us of."""
        self._queues.stale = True
        self.wakeup.ring()

    def gap(self) -> None:
        """Notifications may have been missed, and our flag may be gone: a crash of the server empties its table."""
        self._asleep = False
        self._queues.stale = True

    async def _serve(self, patience: Patience) -> None:
        """From one look that finds nothing to the next."""
        await self._settle_lost_claim()
        for doze in (0.0, *_DOZES):
            await self.wakeup.wait(doze)
            await self._room()
            self.wakeup.clear()
            found = await self._look()
            if patience.reset():
                self._log.info("database.back", doing="claim")
            if found:
                await self._wake_up()
                return
            if self._asleep:
                break  # woken for nothing, somebody was quicker: the flag still stands
        await self._sleep()

    async def _sleep(self) -> None:
        clock = asyncio.get_running_loop().time
        if not self._asleep:
            seconds = self._settings.poll * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
            self._sleep_until = clock() + seconds
            if self.listening.is_set():
                await claims.publish_sleep(self._session, self._worker, self._queues.flags, seconds)
                self._asleep = True
                self._queues.stale = True  # a new queue's first job may have come while nobody slept
                if await self._look():  # the second look: what was committed before the flag could be seen
                    await self._wake_up()
                    return
        if not await self.wakeup.wait(self._sleep_until - clock()):
            self.gap()  # the flag's time is over: look at everything, publish anew

    async def _wake_up(self) -> None:
        if self._asleep:
            self._asleep = False
            await claims.end_sleep(self._session, self._worker, self._queues.flags)

    async def _look(self) -> bool:
        """Claim for all free slots and start what comes; True if anything did."""
        found = False
        await self._queues.refresh(self._session)
        while (room := self._slots.room) > 0:
            rows = await self._claim(self._queues.rooms(room, self._slots.held), room)
            for row in rows:
                self._slots.start(row)
            found = found or bool(rows)
            if not self._queues.worth_another(rows, room, self._slots.held):
                break
        return found

    async def _claim(self, rooms: dict[str, int], room: int) -> Sequence[claims.Claim]:
        if not rooms:
            return ()
        self._number += 1
        self._unsettled = self._number
        # Shielded: a claim that was cancelled on its way may have committed, and nobody would run its jobs.
        with anyio.CancelScope(shield=True) as self._claiming:
            rows = await claims.claim(self._session, self._worker, self._number, self._settings.lease, rooms, room)
            self._unsettled = 0
            return rows
        return ()

    def hurry(self) -> None:
        """The worker stops: a claim that is under way gets a little longer, then it is cut off."""
        self._claiming.deadline = anyio.current_time() + _LAST_CLAIM

    async def _settle_lost_claim(self) -> None:
        """Ask for the claim whose answer was lost, and give back what it took: no job waits out a lease for us."""
        if not self._unsettled:
            return
        rows = await self._session.fetch("claimed_before", self._worker, self._unsettled)
        await write(self._session, [Ended(row["id"], row["fence"], Released()) for row in rows])
        self._unsettled = 0

    async def _leave(self) -> None:
        """Close; a claim that the stop has cut off is asked for once more, for nobody would run its jobs."""
        with anyio.move_on_after(_LAST_CLAIM, shield=True), contextlib.suppress(*DATABASE_ERRORS):
            await self._settle_lost_claim()
        await self._session.close()

    async def _room(self) -> None:
        """Wait until it is worth to claim: a quarter of the slots is free, or a little after the first."""
        slots = self._slots
        while slots.room <= 0 or self._finisher.backlog > _BACKLOG_LIMIT:
            slots.freed.clear()
            with anyio.move_on_after(1.0):
                await slots.freed.wait()
        if slots.room * 4 < slots.capacity:
            await anyio.sleep(_LINGER)

    async def _wait_for_database(self, error: BaseException, delay: float) -> None:
        self._asleep = False
        if self._seldom():
            self._log.warning("database.unreachable", doing="claim", error=brief(error), retry_in=round(delay, 2))
        if classify(error) is Fault.READ_ONLY:
            await self._session.close()
            await self._session.database.expire()
        await anyio.sleep(delay)
