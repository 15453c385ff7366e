"""Looks at the gates of limits: lets go whom they let through, whoever has made room for them.

Rung when jobs of ours have given places up, when somebody has come to a gate, and when the next token of a rate is due.
Whatever of this was missed is seen within a second, while there is any limit at all.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.base.service import FirstLook, Patience, Seldom, Wakeup
from jobqueue.base.settings import Settings
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.flows.limits import Admitted, admit, forget_gates, note_lines
from jobqueue.store.upkeep import take_turn

_ROOM = 1_000
"""Notes in one look."""
_HORIZON = 0.3
"""Seconds ahead of which rates give their tokens out: each look does so for all that start until the next."""
_POLL = 1.0
_BUSY = (0.003, 0.2)
"""Seconds until the next look at gates that another has locked: at first about as long as a look takes; at most."""
_LAGS = 5.0
"""Seconds that a gate has wanted a look after which that is told."""
_INSPECTION = 60.0
_PAGE, _PAGES = 1_000, 20
"""Lines, or gates, of a page; and how many pages one inspection looks at."""
_IDLE = 3_600.0
"""Seconds after which a gate that nobody uses is removed."""


class Admitter:
    """Every worker has one; a gate is looked at by one of them at a time."""

    def __init__(self, database: Database, settings: Settings, ready: Callable[[], None]) -> None:
        """`ready` is called when jobs have become ready, of any queue."""
        self.wakeup = Wakeup()
        self.admitted = Counter[str]()
        """How many each limit has let through here."""
        self._database = database
        self._session = Session(database)
        self._turn = asyncio.Lock()  # a burst looks as well, on the same connection
        self._poll = settings.poll
        self._ready = ready
        self._any_limit = True
        self._inspect_at = time.monotonic() + random.uniform(0.0, _INSPECTION)  # noqa: S311 - spreads load, guards nothing
        self._line = self._gate = ""
        self._others = Patience(*_BUSY)
        self._seldom = Seldom(60.0)
        self._log = get_logger(__name__)
        self._outage = Outage("admit", self._log)

    def promoted(self) -> None:
        """Jobs have come due: some may have lined up."""
        if self._any_limit:
            self.wakeup.ring()

    async def settle(self) -> None:
        """Let go all that may go now."""
        async with self._turn:
            while (done := await self._look()).jobs or done.busy:
                if done.busy:
                    await anyio.sleep(self._others.next())

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled. Survives every database error."""
        first = FirstLook(task_status)
        try:
            while True:
                self.wakeup.clear()
                try:
                    async with self._turn:
                        pause = self._pause(await self._look())
                        if time.monotonic() >= self._inspect_at:
                            await self._inspect()
                        self._outage.over()
                        await self._session.close()
                except DATABASE_ERRORS as error:
                    first.over()
                    await self._outage.wait(error)
                    continue
                first.over()
                await self.wakeup.wait(pause)
        finally:
            await self._session.close()

    async def _look(self) -> Admitted:
        done = await admit(self._session, _ROOM, _HORIZON)
        self._any_limit = done.any_limit
        if done.jobs or not done.busy:
            self._others.reset()
        self.admitted.update(done.by_limit)
        if done.ready:
            self._ready()
        if done.next_in is not None and done.next_in < -_LAGS and self._seldom():
            self._log.warning("limit.lagging", seconds=round(-done.next_in, 1))
        return done

    def _pause(self, done: Admitted) -> float:
        spread = random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
        if done.busy:
            return self._others.next()
        rest = (min(_POLL, self._poll) if self._any_limit else self._poll) * spread
        return rest if done.next_in is None else max(0.0, min(rest, done.next_in))

    async def _inspect(self) -> None:
        """Have a look taken where the triggers have missed something, and remove gates that nobody uses."""
        self._inspect_at = time.monotonic() + _INSPECTION
        if not self._any_limit or not await take_turn(self._database, 0.9 * _INSPECTION, "limits"):
            return
        for _ in range(_PAGES):
            self._line = await note_lines(self._session, self._line, _PAGE) or ""
            self._gate = await forget_gates(self._session, self._gate, _PAGE, _IDLE) or ""
            if not self._line and not self._gate:
                return
