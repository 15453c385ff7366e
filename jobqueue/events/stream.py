"""What `app.events` gives: the events that are meant, one after the other."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from jobqueue.base.flows.event import Choice, Entry, Event, Place
from jobqueue.events.feed import Feed


class EventStream(AsyncIterator[Event]):
    """Events in the order of the log. For one consumer; `async with` fixes where it begins, and ends it at once.

    Without that it begins at the first event that is asked for, and ends when it is thrown away. It goes on by itself
    after the database was away. Iterating raises EventsLost if retention was quicker, AppClosed once the app is
    closed, and DatabaseError if it may not read the log.
    """

    def __init__(self, feed: Callable[[], Awaitable[Feed]], choice: Choice, after: Place | None) -> None:
        self._open = feed
        self.choice = choice
        """Which events are meant."""
        self._place = after
        self._feed: Feed | None = None
        self._known = 0.0
        self._leave: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False
        self._read: Iterator[tuple[Event, Place]] = iter(())
        self._reached: Place | None = after

    @property
    def position(self) -> str | None:
        """Where it stands: `after=` this goes on from here, past what was left out as well. None before it began."""
        return None if self._reached is None else str(self._reached)

    async def __anext__(self) -> Event:
        while not self._ended:
            if (found := next(self._read, None)) is not None:
                event, self._reached = found
                return event
            rows = await self.rows()
            self._read = ((entry.event(index), Place(entry.seq, index)) for entry, some in rows for index in some)
            if not rows:
                self._reached = self._place
        raise StopAsyncIteration

    async def rows(self, wait: float = math.inf) -> list[tuple[Entry, Sequence[int]]]:
        """The next rows of the log that have events which are meant, and which these are.

        Waits for rows of any kind, at most so many seconds: perhaps there are none.
        """
        feed = await self.begin()
        assert self._place is not None  # noqa: S101 - begin() has set it
        entries, reached = await feed.after(self._place, wait, known=self._known)
        chosen = [(entry, self.choice.indexes(entry, self._place)) for entry in entries]
        self._place = reached
        return [(entry, indexes) for entry, indexes in chosen if indexes]

    @property
    def place(self) -> Place | None:
        """Up to where `rows` has given all."""
        return self._place

    def jump(self, place: Place) -> None:
        """Go on from another place."""
        self._place = self._reached = place

    async def begin(self) -> Feed:
        """Fix where it begins, unless that was done. Raises what opening the app raises."""
        if self._feed is None:
            feed = await self._open()
            self._loop = asyncio.get_running_loop()
            self._leave = feed.join()
            self._feed, self._known = feed, time.monotonic()
        if self._place is None:
            self._place = self._reached = await self._feed.now()
        return self._feed

    def close(self) -> None:
        """End it: whoever iterates gets no more. May be called again."""
        self._ended = True
        if self._leave is not None:
            self._leave()
            self._leave = None

    async def aclose(self) -> None:
        """End it, as an asynchronous generator is ended."""
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await self.begin()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._leave is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                self._loop.call_soon_threadsafe(self._leave)
