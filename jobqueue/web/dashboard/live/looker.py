"""Looks at the whole once for all who watch. Nobody watches: nothing is asked.

There is no task that could die or be forgotten: whoever needs a look that is too old makes a new one, the others wait
for that one. A look costs at most a twentieth of the time: after a slow one the next waits for longer.
"""

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar, cast
from weakref import WeakValueDictionary

import anyio
from starlette.exceptions import HTTPException

from jobqueue.app import App
from jobqueue.base.errors import DatabaseError
from jobqueue.store.connection.edge import own_session
from jobqueue.store.connection.session import Session
from jobqueue.store.looking.overview import (
    Flow,
    QueueStats,
    RunningJob,
    WorkerNow,
    longest_running,
    queue_stats,
    read_flow,
    workers_now,
)

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two looks."""
_LONGEST_INTERVAL = 10.0
_LONGEST_KEPT = 60.0
_SHARE = 20
_LIMIT = 4.0
_LONGEST = 20
_READERS, _SLOW = 3, 2
"""Readings at once for `kept`, and of them those that take their time, see `turn`: of the four connections one is left
for the look, and another for what is quick."""
_COUNTED = 2_000
"""Waiting jobs that are counted each second; what goes beyond is estimated. Of 200 000: 17 ms, and 50 for 10 000."""
_WINDOW = 10
"""Looks over which rates are taken."""
_FRESH_ENOUGH = 30.0
"""Seconds after which an earlier look is no beginning of a rate any more."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Jobs a second, over the last seconds in which somebody watched."""

    deferred: float
    started: float
    finished: float
    failed: float
    """Dead and cancelled."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What one look has seen."""

    number: int
    flow: Flow
    rates: Rates | None
    """None at the first look."""
    queues: tuple[QueueStats, ...]
    workers: tuple[WorkerNow, ...]
    longest: tuple[RunningJob, ...]

    @property
    def at(self) -> datetime:
        """When, by the database's clock."""
        return self.flow.now


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read once for all."""

    at: float
    cost: float
    """Seconds that it took."""
    value: object


class Looker:
    """Has the last look, and makes the next."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._looking = anyio.Lock()
        self._last: Frame | None = None
        self._looked_at = float("-inf")
        self._cost = 0.0
        self._kept: dict[object, _Kept] = {}
        self._locks: WeakValueDictionary[object, anyio.Lock] = WeakValueDictionary()
        self._reading = anyio.Semaphore(_READERS)
        self._slow = anyio.Semaphore(_SLOW)
        self._changes = 0
        self._fault: tuple[float, DatabaseError] | None = None
        self._flows: deque[tuple[float, Flow]] = deque(maxlen=_WINDOW)
        self.server: str | None = None
        """PostgreSQL's version, once a look was made."""

    @property
    def last(self) -> Frame | None:
        """The last look, however old."""
        return self._last

    def peek(self, key: object) -> object:
        """What `kept` has under this key now, however old; None if it has nothing. Reads nothing."""
        found = self._kept.get(key)
        return None if found is None else found.value

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._looked_at

    @property
    def interval(self) -> float:
        """Seconds between two looks now."""
        return min(max(INTERVAL, _SHARE * self._cost), _LONGEST_INTERVAL)

    async def frame(self) -> Frame:
        """A look that is not older than the interval. Raises DatabaseError, and what opening an App raises.

        After one that failed all are told so until the interval is over: else each would wait for a look of its own.
        """
        if self._last is not None and self.age < self.interval:
            return self._last  # two hundred viewers need no turn for it
        async with self._looking:
            if self._fault is not None and time.monotonic() - self._fault[0] < self.interval:
                raise DatabaseError(self._fault[1].reason, self._fault[1].sqlstate)
            if self._last is None or self.age >= self.interval:
                changes = self._changes
                try:
                    self._last = await self._look()
                except DatabaseError as error:
                    self._fault = time.monotonic(), error
                    raise
                self._fault = None
                if changes == self._changes:
                    self._looked_at = time.monotonic()
            return self._last

    def look_anew(self) -> None:
        """Somebody has changed something: who looks next sees it, also if a look is under way."""
        self._changes += 1
        self._looked_at = float("-inf")
        self._kept.clear()

    async def kept(
        self, key: object, seconds: float, read: Callable[[Session], Awaitable[T]], *, within: float = _LIMIT
    ) -> T:
        """What `read` finds, kept for so many seconds for all who ask for the same. Raises as `frame` does.

        That it was not found `within` so many seconds is kept as well: else each who asks would wait for as long.
        """

        async def on_session() -> T:
            async with self._reading, self._limited(within) as session:
                return await read(session)

        async with self._one_for(key):
            return await self._fresh(key, seconds, on_session)

    async def renewed(self, key: object, seconds: float, read: Callable[[], Awaitable[T]]) -> T:
        """The same for a part of a page that renews itself: what took long is kept for twenty times as long.

        `read` takes a connection by itself, and nobody who asks for something else waits for it.
        """
        async with self._one_for(key):
            found = self._kept.get(key)
            cost = 0.0 if found is None else found.cost
            return await self._fresh(key, max(seconds, min(_SHARE * cost, _LONGEST_INTERVAL)), read)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """For what takes its time, a search that goes on, a preview: two at once, the others wait for some seconds.

        Raises HTTPException if it is nobody's turn by then.
        """
        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(_LIMIT):
                    await stack.enter_async_context(self._slow)
                    await stack.enter_async_context(self._reading)
            except TimeoutError:
                raise HTTPException(
                    503, "Others are searching just now. Try again in a moment.", {"retry-after": "5"}
                ) from None
            yield

    @asynccontextmanager
    async def _one_for(self, key: object) -> AsyncIterator[None]:
        """Who asks for the same waits for one reading."""
        lock = self._locks.setdefault(key, anyio.Lock())
        async with lock:
            yield

    async def _fresh(self, key: object, seconds: float, read: Callable[[], Awaitable[T]]) -> T:
        began, changes = time.monotonic(), self._changes
        found = self._kept.get(key)
        if found is None or began - found.at >= seconds:
            self._kept = {key: each for key, each in self._kept.items() if began - each.at < _LONGEST_KEPT}
            try:
                found = _Kept(began, 0.0, await read())
            except DatabaseError as error:
                self._kept[key] = _Kept(time.monotonic(), 0.0, error)
                raise
            found = replace(found, cost=time.monotonic() - began)
            if changes == self._changes:
                self._kept[key] = found
        if isinstance(found.value, DatabaseError):
            raise DatabaseError(found.value.reason, found.value.sqlstate)
        return cast(T, found.value)

    @asynccontextmanager
    async def _limited(self, within: float = _LIMIT) -> AsyncIterator[Session]:
        try:
            with anyio.fail_after(within):
                async with own_session(self._app.looks) as session:
                    await session.ready()  # connecting is no part of what a look costs
                    yield session
        except TimeoutError:
            raise DatabaseError("no answer in time") from None

    async def _look(self) -> Frame:
        async with self._limited() as session:
            began = time.monotonic()
            try:
                self.server = await session.server()
                return await self._read(session)
            finally:
                self._cost = time.monotonic() - began

    async def _read(self, session: Session) -> Frame:
        now = time.monotonic()
        while self._flows and now - self._flows[0][0] > _FRESH_ENOUGH:
            self._flows.popleft()
        first = self._flows[0][1] if self._flows else None
        flow = await read_flow(session, first)
        self._flows.append((now, flow))
        queues = tuple(await queue_stats(session, _COUNTED))
        workers = tuple(await workers_now(session))
        longest = tuple(await longest_running(session, _LONGEST))
        number = 0 if self._last is None else self._last.number + 1
        return Frame(number, flow, _rates(first, flow), queues, workers, longest)


def _rates(first: Flow | None, now: Flow) -> Rates | None:
    seconds = 0.0 if first is None else (now.now - first.now).total_seconds()
    if first is None or seconds <= 0:
        return None
    return Rates(
        max(now.deferred - first.deferred, 0) / seconds,
        max(now.started - first.started, 0) / seconds,
        max(now.finished - first.finished, 0) / seconds,
        max(now.dead + now.cancelled, 0) / seconds,
    )
