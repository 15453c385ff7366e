"""Who gives way where the server has no room for all connections of a worker: those that renew, claim and finish stay.

After a cut all come back at once, and whoever is first would keep its place: with four places a worker whose heart came
fifth claimed nothing any more, for good.
"""

import asyncio
import contextlib
import time
from typing import Any

import asyncpg

from jobqueue.store.dialing.sockets import hang_up

_KEPT_FREE = 4.0
"""Seconds after a refusal for which the others stay out: longer than those that come first wait before another try."""


class Room:
    """The connections of one worker: the databases that are opened from one another share it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pools: list[Any] = []
        self._lent: set[Any] = set()
        self._free_until = float("-inf")

    def join(self, pool: Any) -> None:
        """What lies idle in this pool, of the running event loop, gives way. Without one, nothing ever does."""
        self._loop = asyncio.get_running_loop()
        self._pools.append(pool)

    async def take(self, pool: Any, limit: float, first: bool) -> Any:
        """One of this pool. Where the server is full, one that comes `first` has the others end theirs."""
        if not first and time.monotonic() < self._free_until:
            raise asyncpg.TooManyConnectionsError("left to those that renew, claim and finish")
        try:
            connection = await pool.acquire(timeout=limit)
        except asyncpg.TooManyConnectionsError:
            if first and self._loop is not None:
                with contextlib.suppress(RuntimeError):  # it is closed, and all its connections with it
                    self._loop.call_soon_threadsafe(self._make)
            raise
        if not first:
            self._lent.add(connection)
        return connection

    async def give(self, pool: Any, connection: Any, limit: float) -> None:
        """Back to its pool."""
        gives_way = connection in self._lent  # else it may be of another event loop
        self._lent.discard(connection)
        await pool.release(connection, timeout=limit)
        if gives_way and time.monotonic() < self._free_until:
            self._end_idle()

    def _make(self) -> None:
        self._free_until = time.monotonic() + _KEPT_FREE
        for connection in [*self._lent]:
            hang_up(connection)
        self._end_idle()

    def _end_idle(self) -> None:
        for pool in self._pools:
            for holder in getattr(pool, "_holders", ()):  # private in asyncpg, which ends idle ones after minutes only
                if holder.is_connected() and holder.is_idle():
                    hang_up(getattr(holder, "_con", None))
