"""One value per running event loop: asyncpg's pools cannot be shared between loops, nor over a fork."""

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Place(Generic[T]):
    pid: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    value: T | None = None
    guard: AsyncGenerator[None, None] | None = None
    left: bool = False


class PerLoop(Generic[T]):
    """Makes a value on first use in a loop, and closes it when that loop ends or `close` is called.

    `asyncio.run` ends every asynchronous generator of its loop; one of those is what closes the value. So no
    background task is needed, and a loop per test leaves nothing open. A loop that was closed by hand ends no
    generator: its value is abandoned when the next loop needs one.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[T]],
        close: Callable[[T], Awaitable[None]],
        abandon: Callable[[T], Awaitable[None]],
    ) -> None:
        """`abandon` ends a value from another loop than its own, which is closed."""
        self._make = make
        self._close = close
        self._abandon = abandon
        self._places: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Place[T]] = weakref.WeakKeyDictionary()
        self._inherited: list[_Place[T]] = []

    async def get(self) -> T:
        """The running loop's value, made on first use. Raises what `make` raises; the next call tries again."""
        place = self._place()
        if place.value is not None:
            return place.value
        await self._sweep()
        async with place.lock:
            if not place.left:
                return await self._fill(place)
        return await self.get()  # closed while we waited: begin anew

    async def close(self) -> None:
        """Close the running loop's value and wait until it is closed, whoever closes it. Other loops keep theirs."""
        await self._sweep()
        place = self._places.get(asyncio.get_running_loop())
        if place is None or place.pid != os.getpid():
            return
        async with place.lock:  # whoever is making the value, or closing it, comes first
            if place.guard is not None:
                await place.guard.aclose()

    async def _sweep(self) -> None:
        """Abandon what loops have left that were closed by hand."""
        for loop in [loop for loop in list(self._places) if loop.is_closed()]:
            place = self._places.pop(loop, None)  # None: another thread's loop was quicker
            if place is not None and place.value is not None and place.pid == os.getpid():
                await self._abandon(place.value)

    async def _fill(self, place: _Place[T]) -> T:
        if place.value is None:
            value = await self._make()
            place.guard = self._guarded(place, value)
            await place.guard.__anext__()
            place.value = value
        return place.value

    def _place(self) -> _Place[T]:
        loop = asyncio.get_running_loop()
        place = self._places.get(loop)
        if place is not None and place.pid != os.getpid():
            self._inherited.append(place)  # kept alive, not closed: its sockets belong to the parent process
            place = None
        if place is None:
            place = self._places[loop] = _Place(os.getpid())
        return place

    async def _guarded(self, place: _Place[T], value: T) -> AsyncGenerator[None, None]:
        loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            place.value, place.left = None, True
            try:
                await self._close(value)
            finally:
                if self._places.get(loop) is place:  # the value knows its loop: a place that stayed would keep both
                    del self._places[loop]
