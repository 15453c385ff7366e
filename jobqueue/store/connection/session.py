"""One connection for one loop of work, of whatever database it is given."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg

from jobqueue.store.connection.faults import Fault, classify
from jobqueue.store.dialing.dial import CLOSE_LIMIT
from jobqueue.store.dialing.sockets import is_lost, stop_and_cut

if TYPE_CHECKING:
    from jobqueue.store.connection.pool import Database


class Session:
    """One connection for one loop of work, taken from the pool on first use and replaced once it breaks.

    Not for concurrent use. A statement that was cut off in any way costs the connection, so that a cancel request
    still under way cannot hit the next statement.
    """

    def __init__(self, database: "Database", *, first: bool = False) -> None:
        """`first`: the others of this worker make room for it, see `room.py`."""
        self.database = database
        self._first = first
        self.breaks = 0
        """How many connections were lost so far."""
        self._connection: Any = None  # asyncpg's proxy; its class is private

    async def server(self) -> str:
        """PostgreSQL's version, such as 18.4, which it said when the connection began."""
        version = (await self._ready()).get_server_version()
        return f"{version.major}.{version.minor}"

    async def fetch(self, name: str, *values: object) -> list[asyncpg.Record]:
        """Run one named statement. Raises what `faults.DATABASE_ERRORS` lists."""
        connection = await self._ready()
        try:
            return await self.database.run(connection, name, *values)
        except asyncpg.PostgresError as error:
            if classify(error) is Fault.READ_ONLY:  # a standby, or a primary no more: so is every other connection
                await self._drop(connection)
                await self.database.expire()
            elif is_lost(connection):
                await self.close()
            raise
        except BaseException:
            await self._drop(connection)
            raise

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Statements inside commit together or not at all. A connection that broke has rolled back by itself.

        Inside a transaction of this session it is a part of that one.
        """
        connection = await self._ready()
        if connection.is_in_transaction():
            yield
            return
        try:
            await connection.execute(self.database.asked.begin)
        except BaseException:
            await self._drop(connection)
            raise
        try:
            yield
        except BaseException:
            if not is_lost(connection):
                await self._roll_back(connection)
            raise
        try:
            await connection.execute("commit")
        except BaseException:
            await self._drop(connection)
            raise

    async def ready(self) -> None:
        """Wait for a connection, so that the next statement is sent at once."""
        await self._ready()

    async def rest(self) -> None:
        """Called when there is nothing to do: a connection of the user's own pool is given back."""
        if not self.database.owned:
            await self.close()

    async def close(self) -> None:
        """Give the connection back. Bounded, and safe to call at any time."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.move_on_after(CLOSE_LIMIT, shield=True):
                with contextlib.suppress(asyncpg.InterfaceError, OSError):
                    await self.database.release(connection)

    async def _roll_back(self, connection: Any) -> None:
        """Roll back, or cut the connection, which does the same."""
        try:
            with anyio.fail_after(CLOSE_LIMIT, shield=True):
                await connection.execute("rollback")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            await self._drop(connection)

    async def _drop(self, connection: Any) -> None:
        self.breaks += 1
        await stop_and_cut(connection)
        await self.close()

    async def _ready(self) -> Any:
        if self._connection is not None and is_lost(self._connection):
            self.breaks += 1
            await self.close()
        if self._connection is None:
            self._connection = await self.database.acquire(first=self._first)
        return self._connection
