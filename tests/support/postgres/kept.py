"""Plain connections that one test uses one after the other: a new one costs the server more than most questions.

Who asks gets one for the length of a block, in the state of a new one. They are closed with the test's database, and
`backends.py` does not count them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import asyncpg

from jobqueue.store.dialing.known_types import KnowingConnection
from tests.support.patience import PATIENCE

NAME = "kept by the test"
_AS_NEW = "discard all"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
T = TypeVar("T")


class Kept:
    """Those of one database, on one event loop, that nobody uses now."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._opened: dict[object, Any] = {}
        self._stack = AsyncExitStack()

    @property
    def idle(self) -> bool:
        """Whether one is there that was used before."""
        return bool(self._idle)

    async def take(self) -> Connection:
        """One that works, for whoever asks."""
        while self._idle:
            connection = self._idle.pop()
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # a test may cut every connection
                await connection.execute(_AS_NEW, timeout=PATIENCE)
                return connection
            connection.terminate()
        return await open_plain(self.dsn, application_name=NAME)

    async def give(self, connection: Connection) -> None:
        """Take it back, without what the block has left in it."""
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await connection.reset(timeout=PATIENCE)
            self._idle.append(connection)
            return
        connection.terminate()

    async def shared(self, opening: Callable[[str], AbstractAsyncContextManager[T]]) -> T:
        """What this opens on the database: opened for who asks first, the same for all others."""
        if opening not in self._opened:
            self._opened[opening] = await self._stack.enter_async_context(opening(self.dsn))
        found: T = self._opened[opening]
        return found

    async def close(self) -> None:
        """End them all."""
        await self._stack.aclose()
        while self._idle:
            await end(self._idle.pop())


_OPEN: dict[str, Kept] = {}


@asynccontextmanager
async def kept_open(dsn: str) -> AsyncIterator[None]:
    """Keep connections to this database inside the block."""
    _OPEN[dsn] = kept = Kept(dsn)
    try:
        yield
    finally:
        del _OPEN[dsn]
        await kept.close()


def kept_for(dsn: str) -> Kept | None:
    """What is kept for this database here; None in another event loop, and where nobody said so."""
    kept = _OPEN.get(dsn)
    return kept if kept is not None and kept.loop is asyncio.get_running_loop() else None


@asynccontextmanager
async def shared(dsn: str, opening: Callable[[str], AbstractAsyncContextManager[T]]) -> AsyncIterator[T]:
    """What this opens on the database, for the length of a block: kept until the end of the test if others are."""
    kept = kept_for(dsn)
    if kept is not None:
        yield await kept.shared(opening)
        return
    async with opening(dsn) as opened:
        yield opened


async def open_plain(dsn: str, **settings: str) -> Connection:
    """A new connection that knows nothing of jobqueue."""
    return await asyncpg.connect(
        dsn, timeout=PATIENCE, command_timeout=PATIENCE, server_settings=settings, connection_class=KnowingConnection,
        statement_cache_size=0,
    )  # fmt: skip


async def end(connection: Connection) -> None:
    """Close it, or cut it if it is in the middle of something."""
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await connection.close(timeout=PATIENCE)
        return
    connection.terminate()
