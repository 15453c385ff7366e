"""The one reader of the log on an event loop. It reads only while somebody wants to know.

What it has read last stays in a ring, from which every stream takes what lies behind its own place: there is no queue
for each, so that nothing can overflow. A stream that has fallen behind the ring reads the log by itself, page by page.
"""

import asyncio
import contextlib
import contextvars
import math
import time
from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter

import anyio

from jobqueue.base.errors import AppClosed, EventsLost
from jobqueue.base.flows.event import WHOLE, Entry, Place
from jobqueue.base.log import get_logger
from jobqueue.base.service import Patience
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.listener import Listener
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.events import ASKED, Settling, look_at_edge, read_events, say_reading

RING = 20_000
"""Events that are kept for streams."""
_SOON, _BUSY, _IDLE = 0.02, 0.25, 1.0
"""Seconds to the next look: while what was seen is being written, at first; after news; after none."""
_GAP = 0.05
"""Seconds between two looks, however often we are told that there is more."""
_READING = 20.0
"""Seconds between two times that we say that somebody reads; workers believe it for three times as long."""
_CLOSE_LIMIT = 5.0

log = get_logger(__name__)


class Feed:
    """Reads the log for all streams of one event loop."""

    def __init__(self, database: Database, *, listens: bool) -> None:
        self._database = database
        self._listens = listens
        self._streams = 0
        self._reading: asyncio.Task[None] | None = None
        self._hint = asyncio.Event()
        self._asked = asyncio.Event()
        """A worker wants to know whether somebody reads."""
        self._moved = asyncio.Event()
        self._closed = False
        self._forget()

    def _forget(self) -> None:
        self._settling = Settling()
        self._entries: list[Entry] = []
        self._size = 0
        self._low: Place | None = None
        """All that lies behind it, up to `_edge`, is in the ring; None: nothing is known yet."""
        self._edge = 0
        self._looked = -math.inf
        """When the last look began, on the monotonic clock."""
        self._failed: BaseException | None = None

    def join(self) -> Callable[[], None]:
        """Read from now on, for one stream more; what is given ends that, at once, and may be called again."""
        if not self._streams:
            self._forget()
        self._refuse_if_closed()
        self._streams += 1
        if self._streams == 1:
            self._reading = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
            self._reading.add_done_callback(self._ended)
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._streams -= 1
                if not self._streams and self._reading is not None:
                    self._reading.cancel()

        return leave

    async def now(self) -> Place:
        """The place behind all that is in the log. Waits for the first look."""
        while self._low is None:
            await self._news()
        return Place(self._edge, WHOLE)

    async def after(self, place: Place, wait: float = math.inf, *, known: float) -> tuple[list[Entry], Place]:
        """Rows that come behind a place, in order, and the place reached by them; waits until there are some.

        After `wait` seconds it gives none; what is just being read is not thrown away for it. The first row may be one
        of which the place is in the middle. `known` is since when the caller has known the place, on the monotonic
        clock: if the log has drawn no such number since, the place is one of another log. Raises EventsLost, AppClosed,
        and DatabaseError for what no patience mends. Cancelled, nothing is lost.
        """
        ends = time.monotonic() + wait
        while True:
            if place.seq > self._settling.drawn and self._looked > known:
                raise EventsLost("0")
            if self._low is not None and place < self._low:
                with EDGE:
                    return await self._from_log(place, ends)
            if self._low is not None and (entries := self._in_ring(place)):
                return entries, Place(self._edge, WHOLE)
            if time.monotonic() >= ends:
                return [], place
            await self._news(ends - time.monotonic())

    async def close(self) -> None:
        """End the reading; whoever waits gets AppClosed. Bounded."""
        self._closed = True
        self._tell()
        if self._reading is not None:
            self._reading.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({self._reading}, timeout=_CLOSE_LIMIT)

    def _in_ring(self, place: Place) -> list[Entry]:
        start = bisect_right(self._entries, place.seq, key=attrgetter("seq"))
        if start and self._entries[start - 1].seq == place.seq and place.part < WHOLE:
            start -= 1
        return self._entries[start:]

    async def _from_log(self, place: Place, ends: float) -> tuple[list[Entry], Place]:
        patience = Patience()
        while True:
            self._refuse_if_closed()
            try:
                return await read_events(self._database, place, self._edge)
            except DATABASE_ERRORS as error:
                if classify(error) in (Fault.SETUP, Fault.SCHEMA, Fault.OURS):
                    raise
            if (left := ends - time.monotonic()) <= 0:
                return [], place
            await anyio.sleep(min(left, patience.next()))

    async def _news(self, limit: float = math.inf) -> None:
        self._refuse_if_closed()
        with anyio.move_on_after(limit):
            await self._moved.wait()
        self._refuse_if_closed()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise AppClosed
        if self._failed is not None:
            raise self._failed

    def _ended(self, reading: asyncio.Task[None]) -> None:
        """Whoever waits must not wait for ever for a reader that has died of a fault of ours."""
        if reading is self._reading and not reading.cancelled():
            self._failed = reading.exception()
            self._tell()

    async def _run(self) -> None:
        async with anyio.create_task_group() as group:
            if self._listens:
                group.start_soon(Listener(self._database, "log", self._hear).run)
                group.start_soon(self._say_that_we_read)
            await self._read()

    async def _read(self) -> None:
        outage, pause, soon = Outage("events", log), 0.0, Patience(_SOON, _BUSY)
        while True:
            with anyio.move_on_after(pause):
                await self._hint.wait()
            self._hint.clear()
            began = time.monotonic()
            try:
                await look_at_edge(self._database, self._settling)
                self._looked = began
                news = await self._catch_up()
            except EventsLost:  # we were away for days: each stream finds out by itself
                self._forget()
                continue
            except DATABASE_ERRORS as error:
                await outage.wait(error)
                continue
            outage.over()
            if not self._settling.waits:
                soon.reset()
            pause = soon.next() if self._settling.waits else _BUSY if news else _IDLE
            await anyio.sleep(max(0.0, min(pause, _GAP) - (time.monotonic() - began)))

    async def _catch_up(self) -> bool:
        """Read up to the edge; whether anything was new."""
        edge = self._settling.edge
        if edge is None:
            return False
        if self._low is None:
            self._low, self._edge = Place(edge, WHOLE), edge
            self._tell()
        news = edge > self._edge
        while self._edge < edge:
            entries, reached = await read_events(self._database, Place(self._edge, WHOLE), edge)
            self._keep(entries)
            self._edge = reached.seq
            self._tell()
        return news

    def _keep(self, entries: list[Entry]) -> None:
        self._entries += entries
        self._size += sum(len(entry.jobs) for entry in entries)
        gone = 0
        while self._size > RING and gone < len(self._entries) - 1:
            self._size -= len(self._entries[gone].jobs)
            self._low = Place(self._entries[gone].seq, WHOLE)
            gone += 1
        del self._entries[:gone]

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def _hear(self, payload: str | None) -> None:
        if payload == ASKED:
            self._asked.set()
        else:
            self._hint.set()

    async def _say_that_we_read(self) -> None:
        while True:
            with contextlib.suppress(*DATABASE_ERRORS):  # a hint: without it we poll
                await say_reading(self._database)
            self._asked.clear()
            with anyio.move_on_after(_READING):
                await self._asked.wait()
