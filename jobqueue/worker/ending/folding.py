"""Adds up what has become of the members of bundles, after the commits that say so, and so ends the bundles.

What a finish notes is a fact, in a row of its own: no row is locked by the end of every member. To add facts up takes
1.5 ms (measured), so it is done seldom while much is left, and at once near the end. Facts stay until somebody has
added them up: what a dead worker has left, others find. What somebody has deleted past us is found once a minute.
"""

import asyncio
import random
import time
from collections.abc import Iterable
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, brief, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database, Session
from jobqueue.store.flows.bundles import Folded, fold_bundles, heal_bundles, waiting_facts
from jobqueue.store.upkeep import take_turn

_SWEEP = 5.0
"""Seconds between two looks for facts that nobody has told us of."""
_AGAIN = 0.01
"""Seconds after which somebody else will have done with a bundle."""
_SELDOM = 0.25
"""Seconds between two times, while so much is left that it does not matter."""
_PACE = 20_000
"""Members that may end in a second: what is left after that time is added up once more."""
_BATCH = 200
_INSPECTION = 60.0
"""Seconds between two looks for bundles that could never end; one worker has the turn."""
_REFUSED = 60.0
"""Seconds until the next try of a bundle that the database refuses to end, as it would a callback of it."""
_KNOWN = 10_000
"""Bundles of which we remember when they are due next."""


class Folder:
    """One for a worker; SKIP LOCKED keeps several apart."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session = Session(database)
        self._due: dict[UUID, float] = {}
        """When each bundle that has news is to be added up."""
        self._next: dict[UUID, float] = {}
        """Of bundles that were: not before."""
        self._news = asyncio.Event()
        self._sweep_at = self._swept_at = 0.0
        self._waits: dict[UUID, float] = {}
        """Of bundles that are put off: for how many seconds last."""
        self._inspect_at = time.monotonic() + random.uniform(0.0, _INSPECTION)  # noqa: S311 - spreads load, guards nothing
        self._turn = asyncio.Lock()
        self._log = get_logger(__name__)
        self._outage = Outage("fold", self._log)

    def touched(self, bundles: Iterable[UUID]) -> None:
        """Members of these have ended, or were added."""
        for id in bundles:
            self._due.setdefault(id, self._next.get(id, 0.0))
            self._news.set()

    def look(self) -> None:
        """Somebody else has noted something."""
        self._sweep_at = min(self._sweep_at, self._swept_at + _AGAIN)
        self._news.set()

    async def settle(self) -> None:
        """Add up all that there is, now."""
        async with self._turn:
            self._due |= dict.fromkeys(await waiting_facts(self._session, _BATCH), 0.0)
            while self._due:
                await self._fold(list(self._due)[:_BATCH])

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Add up until cancelled. Survives every database error."""
        task_status.started()
        try:
            while True:
                self._news.clear()
                try:
                    async with self._turn:
                        await self._look()
                    self._outage.over()
                    await self._session.rest()
                except DATABASE_ERRORS as error:
                    await self._outage.wait(error)
                    continue
                with anyio.move_on_after(self._pause()):
                    await self._news.wait()
        finally:
            await self._session.close()

    def _pause(self) -> float:
        first = min([self._sweep_at, *self._due.values()])
        return max(0.0, first - time.monotonic())

    async def _look(self) -> None:
        now = time.monotonic()
        if now >= self._sweep_at:
            self._swept_at, self._sweep_at = now, now + _SWEEP
            # those that are put off are among them, and must not be all of them
            self.touched(await waiting_facts(self._session, _BATCH + len(self._waits)))
        if now >= self._inspect_at:
            self._inspect_at = now + _INSPECTION
            await self._inspect()
        if due := [id for id, at in self._due.items() if at <= now][:_BATCH]:
            await self._fold(due)

    async def _inspect(self) -> None:
        if await take_turn(self._database, 0.9 * _INSPECTION, "bundles"):
            healed = await heal_bundles(self._session, _BATCH)
            if healed:
                self._log.warning("bundles.healed", bundles=len(healed))
                self.touched(healed)

    async def _fold(self, due: list[UUID]) -> None:
        """A database error leaves them to the next sweep: the facts are there."""
        for id in due:
            del self._due[id]
        folded = await self._added_up(due)
        now = time.monotonic()
        for one in folded:
            self._waits.pop(one.id, None)
            if one.finished:
                self._next.pop(one.id, None)
            else:
                self._next[one.id] = now + min(_SELDOM, one.pending / _PACE)
        self.touched(one.parent for one in folded if one.parent is not None)
        self._put_off(set(due) - {one.id for one in folded}, now)
        if max(len(self._next), len(self._waits)) > _KNOWN:
            self._next.clear()
            self._waits.clear()

    def _put_off(self, missed: Iterable[UUID], now: float) -> None:
        """Others have them, some for long, or they are gone: the facts tell."""
        for id in missed:
            if self._next.get(id, 0.0) > now:
                continue  # refused: it has its time
            wait = self._waits[id] = min(_SELDOM, 2 * self._waits.get(id, _AGAIN / 2))
            self._next[id] = now + wait
            self._sweep_at = min(self._sweep_at, now + wait)

    async def _added_up(self, due: list[UUID]) -> list[Folded]:
        """If the database refuses something in one of them, a callback perhaps, the others are added up without it."""
        try:
            return await fold_bundles(self._session, due)
        except DATABASE_ERRORS as error:
            if classify(error) not in (Fault.BAD_DATA, Fault.OURS):
                raise
            if len(due) > 1:
                half = len(due) // 2
                return await self._added_up(due[:half]) + await self._added_up(due[half:])
            self._log.error("bundle.refused", bundle=str(due[0]), error=brief(error), retry_in=_REFUSED)
            self._next[due[0]] = time.monotonic() + _REFUSED
            self._waits[due[0]] = _REFUSED
            return []
