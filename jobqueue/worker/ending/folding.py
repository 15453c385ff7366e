"""Looks after what the ends of jobs mean for others, after the commits that say so: bundles, and jobs that come after.

What a finish notes is a fact, in a row of its own: no row is locked by the end of every member. Jobs that others wait
for are looked at at once. To add up a bundle takes 1.5 ms (measured), so it is done seldom while much is left, and at
once near the end. Facts stay until somebody has done that: what a dead worker has left, others find. What somebody has
deleted past us is found once a minute.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.store.connection.faults import CUT_SHORT, DATABASE_ERRORS, Fault, brief, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.bundles import fold_bundles, heal_bundles, waiting_facts
from jobqueue.store.flows.dependencies import START, heal_dependencies, resolve
from jobqueue.store.upkeep import take_turn
from jobqueue.worker.ending.due import AGAIN, Due

_SWEEP = 5.0
"""Seconds between two looks for facts that nobody has told us of."""
_SELDOM = 1.0
"""Seconds between two times that a bundle is added up, while very much of it is left."""
_PACE = 100_000
"""Members that may end in a second, in a large fleet: what is left after that time is added up once more."""
_BATCH = 200
_INSPECTION = 60.0
"""Seconds between two looks for what could never end; one worker has the turn."""
_PAGES = 20
"""Pages of blocked jobs that one inspection looks at; the next one goes on."""
_GIVEN_UP = 1_000
"""So many jobs that cannot come back are remembered: of others it is found out again."""
_REFUSED = 60.0
"""Seconds until the next try of what the database refuses, as it would a callback of a bundle."""


class Folder:
    """One for a worker; SKIP LOCKED keeps several apart."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session = database.session()
        self._bundles, self._needed = Due(), Due()
        self._news = asyncio.Event()
        self._sweep_at = self._swept_at = 0.0
        self._inspect_at = time.monotonic() + random.uniform(0.0, _INSPECTION)  # noqa: S311 - spreads load, guards nothing
        self._place = START
        self._given_up = set[UUID]()
        """Jobs that cannot come back with what they need: another has their key."""
        self._turn = asyncio.Lock()
        self._log = get_logger(__name__)
        self._outage = Outage("fold", self._log)

    def touched(self, bundles: Iterable[UUID], needed: Iterable[UUID] = ()) -> None:
        """Members of these bundles have ended, or were added; jobs have ended that others wait for."""
        self._bundles.add(bundles)
        self._needed.add(needed)
        self._news.set()

    def look(self) -> None:
        """Somebody else has noted something."""
        self._sweep_at = min(self._sweep_at, self._swept_at + AGAIN)
        self._news.set()

    async def settle(self) -> None:
        """See to all that there is, now."""
        others_have = set[UUID]()
        async with self._turn:
            while True:
                bundles, needed = await waiting_facts(self._session, _BATCH + len(others_have))
                self._bundles.add(set(bundles) - others_have, at_once=True)
                self._needed.add(set(needed) - others_have, at_once=True)
                if not self._bundles and not self._needed:
                    return
                while self._bundles or self._needed:
                    await self._see_to_what_is_due(float("inf"))
                others_have |= self._bundles.put_off | self._needed.put_off

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled. Survives every database error."""
        task_status.started()
        try:
            while True:
                self._news.clear()
                try:
                    async with self._turn:
                        await self._look()
                    self._outage.over()
                    await self._session.close()
                except DATABASE_ERRORS as error:
                    await self._outage.wait(error)
                    continue
                with anyio.move_on_after(self._pause()):
                    await self._news.wait()
        finally:
            await self._session.close()

    def _pause(self) -> float:
        return max(0.0, min(self._sweep_at, self._bundles.first, self._needed.first) - time.monotonic())

    async def _look(self) -> None:
        now = time.monotonic()
        if now >= self._sweep_at:
            self._swept_at, self._sweep_at = now, now + _SWEEP
            # those that are put off are among them, and must not be all of them
            room = _BATCH + len(self._bundles.put_off) + len(self._needed.put_off)
            bundles, needed = await waiting_facts(self._session, room)
            self.touched(bundles, needed)
            if len(bundles) + len(needed) >= room:
                self.look()  # there are more
            else:
                self._bundles.shown(set(bundles))
                self._needed.shown(set(needed))
        if now >= self._inspect_at:
            self._inspect_at = now + _INSPECTION
            await self._inspect()
        await self._see_to_what_is_due(now)

    async def _see_to_what_is_due(self, now: float) -> None:
        """A database error leaves them to the next sweep: the facts are there."""
        if needed := self._needed.take(now, _BATCH):
            await self._bisected(self._needed, self._resolve, needed)
        if bundles := self._bundles.take(now, _BATCH):
            await self._bisected(self._bundles, self._fold, bundles)

    async def _resolve(self, due: Collection[UUID]) -> None:
        found = await resolve(self._session, due, self._given_up)
        for id in found.given_up:
            self._log.warning("dependency.key_taken", job_id=str(id))
        self._given_up = found.given_up | (self._given_up if len(self._given_up) < _GIVEN_UP else set())
        if found.doomed or found.revived:
            self._log.info("dependencies.resolved", doomed=found.doomed, revived=found.revived)
        for id in found.looked:
            self._needed.looked(id)
        self._missed(self._needed, set(due) - found.looked)
        self.touched(found.bundles, found.needed)

    async def _fold(self, due: Collection[UUID]) -> None:
        began = time.monotonic()
        folded, now = await fold_bundles(self._session, due), time.monotonic()
        for one in folded:
            pause = max(one.pending / _PACE, now - began)  # at most half of the time is spent on it
            self._bundles.looked(one.id, None if one.finished else now + min(_SELDOM, pause))
        self._missed(self._bundles, set(due) - {one.id for one in folded})
        self.touched(one.parent for one in folded if one.parent is not None)

    def _missed(self, due: Due, missed: Collection[UUID]) -> None:
        again_at = due.missed(missed, time.monotonic())
        if again_at is not None:
            self._sweep_at = min(self._sweep_at, again_at)

    async def _bisected(self, due: Due, work: Callable[[Collection[UUID]], Awaitable[None]], ids: list[UUID]) -> None:
        """If the database refuses something of one of them, a callback perhaps, the others are done without it.

        Also what takes too long is done in parts.
        """
        try:
            await work(ids)
        except DATABASE_ERRORS as error:
            slow = isinstance(error, CUT_SHORT) and len(ids) > 1
            if not slow and classify(error) not in (Fault.BAD_DATA, Fault.OURS):
                raise
            if len(ids) > 1:
                half = len(ids) // 2
                await self._bisected(due, work, ids[:half])
                await self._bisected(due, work, ids[half:])
                return
            if due is self._bundles:
                self._log.error("bundle.refused", bundle=str(ids[0]), error=brief(error), retry_in=_REFUSED)
            else:
                self._log.error("dependency.refused", dependency=str(ids[0]), error=brief(error), retry_in=_REFUSED)
            due.refused(ids[0], time.monotonic() + _REFUSED, _REFUSED)

    async def _inspect(self) -> None:
        if not await take_turn(self._database, 0.9 * _INSPECTION, "bundles"):
            return
        if healed := await heal_bundles(self._session, _BATCH):
            self._log.warning("bundles.healed", bundles=len(healed))
            self.touched(healed)
        lost, released = list[UUID](), 0
        for _ in range(_PAGES):
            page = await heal_dependencies(self._session, self._place)
            lost, released, self._place = lost + page.lost, released + page.released, page.next
            if self._place == START:
                break
        if lost or released:
            self._log.warning("dependencies.healed", ended=len(lost), released=released)
            self.touched((), lost)
