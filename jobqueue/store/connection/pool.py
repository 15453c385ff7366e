"""Opens and closes the connections of one app on one event loop.

Every call has a time limit: connecting, acquiring, each statement (here and on the server), releasing, closing.
asyncpg leaves TCP keepalive off, so a cut network would stay unnoticed for a quarter of an hour: it is set here.
Nothing session-scoped is done on a pooled connection, so nothing has to be reset when one is given back.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import anyio
import asyncpg

from jobqueue.base.settings import Pooler
from jobqueue.store.connection.faults import Fault, UnreadableAnswer, classify
from jobqueue.store.schema.migrate import applied_migrations, check_whole
from jobqueue.store.schema.statements import statement

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

CONNECT_LIMIT = 10.0
STATEMENT_LIMIT = 10.0
CLOSE_LIMIT = 5.0
_CANCEL_REQUEST_LIMIT = 0.25
_SERVER_LIMIT_MS = 9_000  # below STATEMENT_LIMIT, so that the server ends a statement before we stop waiting for it


class Database:
    """A pool, the schema in it, and how statements must be run there."""

    def __init__(
        self, pool: Pool, schema: str, *, owned: bool, leave: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """`leave` is called last, once the pool is closed: the share in an embedded server."""
        self._leave = leave
        self._again: Callable[..., Awaitable[Database]] | None = None
        self.pool = pool
        self.schema = schema
        self.owned = owned
        self.checked = False
        """True once the schema was found to fit."""
        self._pins_isolation = False

    @classmethod
    async def open(
        cls,
        dsn: str,
        schema: str,
        *,
        name: str,
        max_size: int,
        pooler: Pooler = "none",
        leave: Callable[[], Awaitable[None]] | None = None,
        limited: bool = True,
    ) -> "Database":
        """Make a pool that connects, and reads the DSN, on first use: see `fault_of_dsn`.

        `limited`: statements have a time limit, here and on the server.
        """
        direct = pooler == "none"
        settings = {"application_name": name[:63]}
        if direct:  # a transaction pooler refuses start-up parameters that it does not know
            settings |= {
                "default_transaction_isolation": "read committed",
                "jit": "off",
            }
            settings |= {"statement_timeout": str(_SERVER_LIMIT_MS)} if limited else {}
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=max_size,
            max_queries=2**31,
            timeout=CONNECT_LIMIT,
            command_timeout=STATEMENT_LIMIT if limited else None,
            statement_cache_size=100 if direct else 0,
            server_settings=settings,
            init=keep_alive,
            reset=_nothing_to_reset,
        )
        database = cls(pool, schema, owned=True, leave=leave)
        database._again = partial(cls.open, dsn, schema, name=name, max_size=1, pooler=pooler)
        return database

    @classmethod
    def around(cls, pool: Pool, schema: str) -> "Database":
        """Stand on the user's own pool: never closed here, its settings are left alone."""
        return cls(pool, schema, owned=False)

    @property
    def can_open_beside(self) -> bool:
        """False on the user's own pool, which belongs to one event loop."""
        return self._again is not None

    async def open_beside(self) -> "Database":
        """The same database once more, with one connection, for another event loop: call this there."""
        assert self._again is not None  # noqa: S101 - asked for by can_open_beside
        database = await self._again()
        database._pins_isolation = self._pins_isolation
        return database

    async def open_for_handlers(self, max_size: int) -> "Database":
        """The same database once more, for the user's own statements: with no limit on how long they take."""
        assert self._again is not None  # noqa: S101 - asked for by can_open_beside
        database = await self._again(max_size=max_size, limited=False)
        database._pins_isolation = self._pins_isolation
        return database

    async def check(self) -> None:
        """Raise NotMigrated or SchemaTooNew unless the schema fits."""
        async with self.connection() as connection:
            check_whole(await applied_migrations(connection, self.schema), self.schema)
        self.checked = True

    async def reach(self) -> None:
        """Connect for the first time; learn the default isolation."""
        async with self.connection() as connection:
            isolation = await connection.fetchval("select current_setting('default_transaction_isolation')")
            self._pins_isolation = isolation != "read committed"

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled connection. One that was cut off in mid-statement is thrown away, not reused."""
        connection = await self.pool.acquire(timeout=CONNECT_LIMIT)
        try:
            yield connection
        except BaseException as error:
            if not isinstance(error, asyncpg.PostgresError):
                await stop_and_cut(connection)  # not reused: the request may yet reach whatever runs there next
            raise
        finally:
            with anyio.move_on_after(CLOSE_LIMIT, shield=True):
                await self.pool.release(connection, timeout=CLOSE_LIMIT)

    async def fetch(self, name: str, *values: object) -> list[asyncpg.Record]:
        """Run one named statement on any pooled connection, in a transaction of its own."""
        async with self.connection() as connection:
            return await self.run(connection, name, *values)

    async def run(self, connection: Connection, name: str, *values: object) -> list[asyncpg.Record]:
        """Run one named statement on this connection, in READ COMMITTED whatever the default is."""
        sql = statement(name, self.schema)
        with contextlib.suppress(OverflowError, UnicodeDecodeError):  # of a time or a text; it may quote the value
            if not self._pins_isolation or connection.is_in_transaction():
                return await connection.fetch(sql, *values)
            async with connection.transaction(isolation="read_committed"):
                return await connection.fetch(sql, *values)
        raise UnreadableAnswer(name)

    async def expire(self) -> None:
        """Throw away every pooled connection: they lead to a server that does not accept writes any more."""
        await self.pool.expire_connections()

    def cut_off(self) -> None:
        """End every connection now, if they are ours: what they would still say, nobody may hear."""
        if self.owned:
            with contextlib.suppress(asyncpg.InterfaceError):  # not one was opened
                self.pool.terminate()

    async def close(self, limit: float | None = None) -> None:
        """Close the pool, if it is ours, within `limit` seconds (default: CLOSE_LIMIT); what still lives is cut off."""
        if self.owned:
            await self._close_pool(CLOSE_LIMIT if limit is None else limit)
        if self._leave is not None:
            await self._leave()

    async def _close_pool(self, limit: float) -> None:
        with anyio.move_on_after(limit, shield=True):
            try:
                await self.pool.close()
                return
            except asyncpg.InterfaceError:  # closed already, or attached to another loop
                return
        self.pool.terminate()


class Session:
    """One connection for one loop of work, taken from the pool on first use and replaced once it breaks.

    Not for concurrent use. A statement that was cut off in any way costs the connection, so that a cancel request
    still under way cannot hit the next statement.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.breaks = 0
        """How many connections were lost so far."""
        self._connection: Any = None  # asyncpg's proxy; its class is private

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
        """Statements inside commit together or not at all. A connection that broke has rolled back by itself."""
        connection = await self._ready()
        transaction = connection.transaction(isolation="read_committed")
        try:
            await transaction.start()
        except BaseException:
            await self._drop(connection)
            raise
        try:
            yield
        except BaseException:
            if not is_lost(connection):
                await self._roll_back(connection, transaction)
            raise
        try:
            await transaction.commit()
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
                    await self.database.pool.release(connection, timeout=CLOSE_LIMIT)

    async def _roll_back(self, connection: Any, transaction: Any) -> None:
        """Roll back, or cut the connection, which does the same."""
        try:
            with anyio.fail_after(CLOSE_LIMIT, shield=True):
                await transaction.rollback()
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
            self._connection = await self.database.pool.acquire(timeout=CONNECT_LIMIT)
        return self._connection


def is_lost(connection: Any) -> bool:
    """True once the connection is closed. asyncpg takes a broken one from its holder, who cannot even ask then."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


async def stop_and_cut(connection: Any) -> None:
    """End a connection whose statement was cut off, but let the server know first.

    It would not notice by itself: a statement that waits for a lock would go on waiting, and commit in the end.
    """
    inner = getattr(connection, "_con", connection)
    with anyio.move_on_after(_CANCEL_REQUEST_LIMIT, shield=True):
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # by now asyncpg has sent its request on the way, in a task
        requests = getattr(inner, "_cancellations", None)  # private in asyncpg, so its absence is tolerated
        if requests:
            await asyncio.wait(set(requests))
    cut(connection)


def cut(connection: Any) -> None:
    """End a connection at once, in whatever state it is."""
    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()


DSN_HINT = "use the form postgresql://user:password@host:5432/database"


async def keep_alive(connection: Connection) -> None:
    """Notice a cut network after about 11 s of silence (measured), instead of 15 minutes."""
    transport = getattr(connection, "_transport", None)  # private in asyncpg, so its absence is tolerated
    plug = transport.get_extra_info("socket") if transport is not None else None
    if plug is None or plug.family not in (socket.AF_INET, socket.AF_INET6):
        return
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 11_000)):
        if hasattr(socket, option):
            plug.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


async def _nothing_to_reset(connection: Connection) -> None:
    pass


def chunks(sizes: Sequence[int], rows: int, size: int) -> list[slice]:
    """Cut a sequence of items with these sizes into runs of at most `rows` items and `size` bytes."""
    cuts, start, held = [], 0, 0
    for place, item in enumerate(sizes):
        if place > start and (place - start >= rows or held + item > size):
            cuts.append(slice(start, place))
            start, held = place, 0
        held += item
    if start < len(sizes):
        cuts.append(slice(start, len(sizes)))
    return cuts
