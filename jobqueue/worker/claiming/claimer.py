"""Claims jobs for the free slots: how many, from which queues, when.

One claimer a worker. It looks again at once after a full batch, when a quarter of the slots is free, or 1 ms after
the first freed slot; while enough is claimed ahead, up to 7 ms after. When there is nothing, it dozes (looks after 1,
2, 4 ms: a busy stream never needs a notification), then publishes that it sleeps, looks once more, and waits for a
notification or its poll. The flag stands until jobs come in a stream again.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.service import Wakeup
from jobqueue.base.settings import Settings
from jobqueue.store import claims
from jobqueue.store.connection.faults import CUT_SHORT, DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.leases import give_back_strays
from jobqueue.worker.claiming.lots import Lots
from jobqueue.worker.claiming.marks import Marks
from jobqueue.worker.claiming.patrol import Patrol
from jobqueue.worker.claiming.queues import Haul, Queues
from jobqueue.worker.claiming.unknown import Unknown
from jobqueue.worker.ending.finishing import Finisher
from jobqueue.worker.keeping.holds import Held
from jobqueue.worker.slots.runs import Tasks
from jobqueue.worker.slots.slots import Slots

_DOZES = (0.001, 0.002, 0.004)
_STREAM = 0.008
"""Seconds from a look that found jobs to the next one: closer together they are a stream, for which dozing pays."""
_LINGER = 0.001
_LAST_CLAIM = 2.0
_BURST_POLL = 0.05
_ON_RECORD = 1.0
"""Seconds for outcomes to be written, before or after a job that runs alone; then it is tried again."""
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
        tasks: Tasks,
        slots: Slots,
        holds: Held,
        finisher: Finisher,
        is_heard: Callable[[], bool],
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        """`is_heard`: whether a claim made now could be renewed; when it is again, `slots.freed` is set.

        `settle` stores whatever jobs follow from those that have ended.
        """
        self.wakeup = Wakeup()
        self.listening = asyncio.Event()
        """Set while notifications arrive; without them publishing a sleep would be of no use."""
        self._session = database.session(first=True)
        self._worker = worker
        self._settings = settings
        self._queues = queues
        self._slots = slots
        self._holds = holds
        self._finisher = finisher
        self._is_heard = is_heard
        self._settle = settle
        self._lots = Lots(slots)
        self._marks = Marks()
        self._patrol = Patrol(queues, self._marks)
        self._unknown = Unknown(tasks, settings.aside_max_age)
        self._recall = tasks.names
        """Tasks whose jobs others may have put aside, because they did not know them."""
        self._breaks = 0
        self._quotas = slots.quotas
        self._quotas.when_freed, self._quotas.limited = self.wakeup.ring, queues.limits
        self._number = 0
        self._unsettled = 0
        """The number of a claim whose answer has not come; 0 if all have."""
        self._claiming = anyio.CancelScope()
        self._asleep = False
        self._sleep_until = 0.0
        self._looked_at = self._found_at = float("-inf")
        """When the last look began, and when the last one ended that found jobs."""
        self._outage = Outage("claim", get_logger(__name__))

    @property
    def answered(self) -> int:
        """The number of the last claim whose answer has come: of none before it is anything still to be expected."""
        return self._unsettled - 1 if self._unsettled else self._number

    async def connect(self) -> None:
        """Try to get its connection, before others have them all."""
        with contextlib.suppress(*DATABASE_ERRORS):
            await self._session.ready()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Claim until cancelled. Survives every database error."""
        task_status.started()
        try:
            while True:
                try:
                    await self._serve()
                except DATABASE_ERRORS as error:
                    await self._wait_for_database(error)
        finally:
            await self._leave()

    async def run_until_empty(self) -> None:
        """Claim until nothing is due, ready or running, then return. Survives every database error."""
        try:
            while True:
                try:
                    if await self._found_nothing():
                        return
                except DATABASE_ERRORS as error:
                    await self._wait_for_database(error)
        finally:
            await self._leave()

    async def _found_nothing(self) -> bool:
        await self._settle_lost_claim()
        await self._room()
        # A claim first: behind an old snapshot a look at everything takes 0.36 us for each job that has gone.
        if await self._look() or await self._look(whole=not self._patrol.long):
            return False
        while not self._slots.idle:  # a job may wait for one that it has deferred: go on looking
            self._slots.hurry_batches()
            self._slots.freed.clear()
            with anyio.move_on_after(_BURST_POLL):
                await self._slots.freed.wait()
            if await self._look(whole=not self._patrol.long):
                return False
        await self._finisher.settled()
        await self._settle()
        # before the look: what is promoted in between is ready by then
        due = await claims.next_due(self._session) is None
        if await self._look(whole=True):  # what has just ended may have deferred, or failed without a delay
            return False
        if due:
            await anyio.sleep(_BURST_POLL)  # a stager promotes it, ours or another's
        return not due

    def look_everywhere(self) -> None:
        """Jobs have become ready, perhaps in a queue that nobody has told us of."""
        self._patrol.stale = True
        self.wakeup.ring()

    def make_way(self) -> None:
        """A job waits to run alone."""
        self._slots.way.make()
        self.wakeup.ring()

    def gap(self) -> None:
        """Notifications may have been missed, and our flag may be gone: a crash of the server empties its table."""
        self._asleep = False
        self._patrol.stale = True

    async def _serve(self) -> None:
        """From one look that finds nothing to the next."""
        await self._settle_lost_claim()
        for doze in (0.0, *_DOZES):
            await self.wakeup.wait(doze)
            await self._room()
            self.wakeup.clear()
            found = await self._look()
            self._outage.over()
            if found:
                await self._wake_up()
                return
            if self._asleep:
                break  # woken for nothing, somebody was quicker: the flag still stands
        await self._sleep()

    async def _sleep(self) -> None:
        clock = asyncio.get_running_loop().time
        if self._blind:
            return
        if not self._asleep:
            seconds = self._settings.poll * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
            self._sleep_until = clock() + seconds
            if self.listening.is_set():
                await claims.publish_sleep(self._session, self._worker, self._queues.flags, seconds)
                self._asleep = True
                self._patrol.stale = True  # a new queue's first job may have come while nobody slept
                # The second look: what was committed before the flag could be seen.
                if await self._look() or self._blind:
                    await self._wake_up()
                    return
        await self.wakeup.wait(min(self._sleep_until - clock(), self._patrol.owed_in))
        if clock() >= self._sleep_until:
            self.gap()  # the flag's time is over: look at everything, publish anew

    @property
    def _blind(self) -> bool:
        """True if the last look may not have looked: its room was that of a batch, which has begun meanwhile."""
        return self._slots.room <= 0

    async def _wake_up(self) -> None:
        """Jobs have come. The flag stands until they come in a stream, or every slot is taken: to take it back, to look
        three times and to publish it anew for each lone job would more than double what that costs."""
        before, self._found_at = self._found_at, asyncio.get_running_loop().time()
        in_stream = self._looked_at - before < _STREAM or self._slots.unused == 0
        if self._asleep and (in_stream or self._found_at >= self._sleep_until):
            self._asleep = False
            await claims.end_sleep(self._session, self._worker, self._queues.flags)

    async def _look(self, *, whole: bool = False) -> bool:
        """Claim for all free slots and start what comes; True if anything did. `whole`: leave nothing unseen."""
        self._looked_at = asyncio.get_running_loop().time()
        if self._slots.way.made and await self._look_alone():
            return True
        self._remember()
        found = self._patrol.begun and await self._take()
        self._patrol.owing |= found
        self._patrol.stale |= self._queues.named and not found  # it was named for a job that no claim sees
        self._queues.named = False
        if self._slots.room > 0 and (whole or self._patrol.wanted):
            unknown, max_age = self._unknown.names, self._settings.aside_max_age
            if await self._patrol.walk(self._session, unknown, max_age, idle=not found, whole=whole):
                found = await self._take() or found
        if self._recall:
            await claims.recall_aside(self._session, self._recall)
            self._recall = frozenset()
        return found or (self._slots.way.hinted and await self._look_alone())

    def _remember(self) -> None:
        """Forget what may not hold any more: on another connection, or with tasks registered since."""
        registered = self._unknown.registered()
        if self._session.breaks != self._breaks or registered:
            self._breaks = self._session.breaks
            self._marks.forget()
            self._patrol.restart()
            self._recall |= registered

    async def _take(self) -> bool:
        """Claim for all free slots: a share for each queue, then what is left for those that have more."""
        found = False
        while (room := self._lots.room) > 0 and (rooms := self._queues.rooms(room, self._quotas.held)):
            sent = time.monotonic()
            rows = await self._claim(rooms, room)
            found = found or bool(rows)
            haul = Haul(rows, rooms, room)
            self._unknown.meet(rows)
            self._marks.learn(haul.tops, haul.emptied, sent)
            for queue in self._queues.learn(haul):
                self._marks.drop(queue)
            await self._lots.start(rows, sent + self._settings.lease)
            if not self._queues.worth_another(haul, self._quotas.held):
                break
        return found

    async def _look_alone(self) -> bool:
        """Claim a job that must run alone, if nothing runs and all that has run is on record."""
        if self._slots.room <= 0 or not await self._all_is_on_record():
            return False
        sent = time.monotonic()
        rows = await self._settled_claim(
            lambda number: claims.claim_alone(
                self._session, self._worker, number, self._settings.lease, self._queues.served
            )
        )
        self._slots.way.over(found=bool(rows))
        for row in rows:
            self._slots.start(self._slots.hold(row, sent + self._settings.lease), alone=True)
        return bool(rows)

    async def _all_is_on_record(self) -> bool:
        """Whether nothing runs here, nor has an outcome that is not written: a crash would count against nobody."""
        with anyio.move_on_after(_ON_RECORD) as patience:
            if self._slots.idle:
                await self._finisher.settled()
        return self._slots.idle and not patience.cancelled_caught

    async def _claim(self, rooms: dict[str, int], room: int) -> Sequence[claims.Claim]:
        idle = self._slots.unused
        return await self._settled_claim(
            lambda number: claims.claim(
                self._session, self._worker, number, self._settings.lease, rooms, room,
                idle=idle, suspects=max(1, idle), arms=self._marks.arms, unknown=self._unknown.names,
                aside_age=self._settings.aside_max_age,
            )
        )  # fmt: skip

    async def _settled_claim(self, claim: Callable[[int], Awaitable[list[claims.Claim]]]) -> Sequence[claims.Claim]:
        """Make a claim with the next number; whether its answer has come is known at any time."""
        self._number += 1
        self._unsettled = self._number
        # Shielded: a claim that was cancelled on its way may have committed, and nobody would run its jobs.
        with anyio.CancelScope(shield=True) as self._claiming:
            try:
                rows = await claim(self._number)
            except CUT_SHORT:
                self._marks.skip()
                raise
            self._unsettled = 0
            self._holds.came(rows)
            return rows
        return ()

    def hurry(self) -> None:
        """The worker stops: a claim that is under way gets a little longer, then it is cut off."""
        self._claiming.deadline = anyio.current_time() + _LAST_CLAIM

    async def _settle_lost_claim(self) -> None:
        """Ask for the claim whose answer was lost, and give back what it took: no job waits out a lease for us."""
        if not self._unsettled:
            return
        await give_back_strays(self._session, self._worker, self._unsettled, self._holds.fences())
        self._unsettled = 0

    async def _leave(self) -> None:
        """Close; a claim that the stop has cut off is asked for once more, for nobody would run its jobs."""
        with anyio.move_on_after(_LAST_CLAIM, shield=True), contextlib.suppress(*DATABASE_ERRORS):
            await self._settle_lost_claim()
        await self._session.close()

    async def _room(self) -> None:
        """Wait until it is worth to claim: a quarter of the slots is free, or a little after the first."""
        slots = self._slots
        while slots.room <= 0 or self._finisher.backlog > _BACKLOG_LIMIT or not self._can_keep():
            slots.freed.clear()
            if slots.idle and slots.way.hold is not None and await self._all_is_on_record():
                slots.way.leaves()
                continue
            with anyio.move_on_after(1.0):
                await slots.freed.wait()
        if slots.room * 4 < slots.capacity:
            await asyncio.sleep(max(_LINGER, slots.lasts))

    def _can_keep(self) -> bool:
        """Whether what it claimed would be renewed, and written when it has ended."""
        return self._is_heard() and self._finisher.can_write

    async def _wait_for_database(self, error: BaseException) -> None:
        self._asleep = False
        self._patrol.stale = True
        await self._outage.wait(error)
