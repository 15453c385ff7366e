"""Opens and closes the connections of one app on one event loop.

Every call has a time limit: connecting, acquiring, each statement (here and on the server), releasing, closing. So
have the locks of a client that has vanished or is frozen, see `Database.open`.
Nothing session-scoped is done on a pooled connection, so nothing has to be reset when one is given back.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import anyio
import asyncpg

from jobqueue.base.errors import ConfigurationError, NotMigrated
from jobqueue.base.settings import Pooler
from jobqueue.store.connection.faults import DATABASE_ERRORS, UnreadableAnswer
from jobqueue.store.connection.room import Room
from jobqueue.store.connection.session import Session
from jobqueue.store.dialing.asking import LOOK_LIMIT, Asked, look
from jobqueue.store.dialing.dial import CLOSE_LIMIT, CONNECT_LIMIT, Dialer
from jobqueue.store.dialing.known_types import KnowingConnection
from jobqueue.store.dialing.silence import A_POOLER, BRIEF, PLAIN, PLANNED_ONCE, SILENCE
from jobqueue.store.dialing.sockets import stop_and_cut, unplug
from jobqueue.store.schema.migrate import applied_migrations, check_encoding, check_whole, is_being_migrated
from jobqueue.store.schema.statements import statement

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

STATEMENT_LIMIT = 10.0
_MIGRATOR_COMES, _MIGRATOR_ENDS, _MIGRATOR_LOOK = 1.0, 60.0, 0.2


class Database:
    """A pool, the schema in it, and how statements must be run there."""

    is_lent = False
    """Whether it is one connection of a caller's, in a transaction of theirs: see `lent.py`."""

    def __init__(
        self,
        pool: Pool,
        schema: str,
        *,
        owned: bool,
        pooler: Pooler,
        asked: Asked | None = None,
        leave: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`leave` is called last, once the pool is closed: the share in an embedded server."""
        self._leave = leave
        self.pooler = pooler
        self._again: Callable[..., Awaitable[Database]] | None = None
        self.pool = pool
        self.schema = schema
        self.owned = owned
        self.checked = False
        """True once the schema was found to fit."""
        self._pins_isolation = False
        self.asked = asked or Asked(pooler)
        """How its sessions get their settings."""
        self._further: list[Database] = []
        """Those that end with this one."""
        self.remedy: str | None = None
        """SQL for an administrator, where nothing on the server limits our single statements."""
        self._for_handlers: Mapping[str, str] = {}  # settings for what they do
        self._room = Room()

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
        apart: bool = False,
        more: Mapping[str, str] | None = None,
    ) -> "Database":
        """Make a pool that connects, and reads the DSN, on first use: see `fault_of_dsn`.

        `limited`: statements have a time limit, here and on the server, and so has the time between two of them in a
        transaction. Both are wrong for what handlers do: there only a client that has vanished is ended.
        `apart`: a pooler by session has shown that it is one.
        """
        dialer: Any = Dialer()  # takes whatever the driver's own `connect` takes
        asked = Asked(pooler, {**PLAIN, **SILENCE, **(BRIEF if limited else {}), **(more or {})}, dialer)
        if apart:
            asked.tell_all()
        pool = await asyncpg.create_pool(
            dsn,
            connect=dialer,
            min_size=0,
            max_size=max_size,
            max_queries=2**31,
            timeout=CONNECT_LIMIT,
            command_timeout=STATEMENT_LIMIT if limited else None,
            statement_cache_size=0 if pooler == "transaction" else 100,
            server_settings={"application_name": name[:63], **asked.at_start},
            connection_class=KnowingConnection,
            reset=_nothing_to_reset,
        )
        database = cls(pool, schema, owned=True, pooler=pooler, asked=asked, leave=leave)
        database._again = partial(cls.open, dsn, schema, name=name, max_size=1, pooler=pooler)
        database._room.join(pool)
        return database

    @classmethod
    def around(cls, pool: Pool, schema: str, pooler: Pooler = "none") -> "Database":
        """Stand on the user's own pool: never closed here, its settings are left alone."""
        return cls(pool, schema, owned=False, pooler=pooler)

    @property
    def size(self) -> int:
        """How many connections there can be."""
        return self.pool.get_max_size()

    @property
    def can_open_beside(self) -> bool:
        """False on the user's own pool, which belongs to one event loop."""
        return self._again is not None

    async def open_beside(self) -> "Database":
        """The same database once more, with one connection, for another event loop: call this there."""
        database = await self._once_more()
        database._room = self._room
        return database

    async def open_for_handlers(self, max_size: int) -> "Database":
        """The same database once more, for the user's own statements: with no limit on how long they take.

        So the server looks now and then whether the client of a long one is still there, if it can.
        """
        database = await self._once_more(max_size=max_size, limited=False, more=self._for_handlers)
        self._room.join(database.pool)
        return database

    async def open_planned_once(self) -> "Database":
        """The same database once more, with one connection, for a loop that says one thing again and again.

        It plans a statement once: to plan a finish of one job takes longer than to run it (0.65 ms instead of 1.5 in
        all, and 11 us a job instead of 17 in batches of 500). Closed, and cut off, with this one. Gives this one where
        that cannot be asked for: through a pooler, on the user's own pool.
        """
        if self._again is None or self.pooler != "none":
            return self
        database = await self._once_more(more=PLANNED_ONCE)
        database._room = self._room
        self._further.append(database)
        return database

    async def _once_more(self, **how: Any) -> "Database":
        assert self._again is not None  # noqa: S101 - asked for by can_open_beside
        database = await self._again(**how, apart=self.asked.holds)
        database._pins_isolation, database._for_handlers = self._pins_isolation, self._for_handlers
        return database

    async def check(self) -> str:
        """The last migration. Raises NotMigrated, SchemaTooNew; ConfigurationError if the encoding does not fit."""
        async with self.connection() as connection:
            check_encoding(connection)
            last = check_whole(await applied_migrations(connection, self.schema), self.schema)
        self.checked = True
        return last

    async def check_patiently(self) -> str:
        """As `check`, for workers, which are often started together with the migration: they wait for it a minute."""
        began = seen = time.monotonic()
        while True:
            try:
                return await self.check()
            except NotMigrated:
                now = time.monotonic()
                async with self.connection() as connection:
                    if await is_being_migrated(connection, self.schema):
                        seen = now
                if now > seen + _MIGRATOR_COMES or now > began + _MIGRATOR_ENDS:
                    raise
            await anyio.sleep(_MIGRATOR_LOOK)

    async def reach(self) -> None:
        """Connect for the first time; learn what is there. Raises ConfigurationError if no such pooler was named."""
        try:
            async with self.connection() as connection:
                found = await look(connection, self.pooler)
                self._pins_isolation = found.isolation != "read committed"
                self._for_handlers, self.remedy = found.for_handlers, found.remedy
                if self.asked.can_be_told and self.size > 1:
                    with contextlib.suppress(*DATABASE_ERRORS):  # no second one to be had: our transactions are limited
                        await self._limit_sessions(connection, found.pid)
        except asyncpg.ProtocolViolationError as error:
            if self.pooler != "none" or "startup parameter" not in str(error):
                raise
        else:
            return
        raise ConfigurationError(A_POOLER)

    async def _limit_sessions(self, connection: Connection, pid: int) -> None:
        """Look with a second connection whether sessions are kept apart; if so, each gets its limits from now on."""
        async with self.connection(LOOK_LIMIT) as other:
            await self.asked.tell(connection, pid, other)
            self._pins_isolation &= not self.asked.holds
            await other.close(timeout=LOOK_LIMIT)  # kept, it would take a second place at the pooler

    @property
    def begin_for_handler(self) -> str:
        """SQL for the start of a handler's transaction, where its session cannot be told; none elsewhere."""
        return self.asked.begin_for_handler(self._for_handlers)

    @contextlib.asynccontextmanager
    async def connection(self, limit: float | None = None) -> AsyncIterator[Connection]:
        """A pooled connection, within `limit` seconds (default: CONNECT_LIMIT).

        One that was cut off in mid-statement is thrown away, not reused.
        """
        connection = await self.acquire(CONNECT_LIMIT if limit is None else limit)
        try:
            yield connection
        except BaseException as error:
            if not isinstance(error, asyncpg.PostgresError):
                await stop_and_cut(connection)  # not reused: the request may yet reach whatever runs there next
            raise
        finally:
            with anyio.move_on_after(CLOSE_LIMIT, shield=True):
                await self.release(connection)

    async def acquire(self, limit: float = CONNECT_LIMIT, *, first: bool = False) -> Any:
        """A pooled connection, to be given back by `release`. Others make room for one that comes `first`."""
        return await self._room.take(self.pool, limit, first)

    async def release(self, connection: Any) -> None:
        """Give it back, within CLOSE_LIMIT."""
        await self._room.give(self.pool, connection, CLOSE_LIMIT)

    def session(self, *, first: bool = False) -> Session:
        """A connection of it for one loop of work. Others make room for one that comes `first`."""
        return Session(self, first=first)

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
        for database in self._further:
            database.cut_off()
        if self.owned:
            with contextlib.suppress(asyncpg.InterfaceError):  # not one was opened
                self.pool.terminate()

    async def abandon(self) -> None:
        """End the connections of an event loop that was closed, if they are ours, from another loop."""
        for holder in getattr(self.pool, "_holders", ()) if self.owned else ():  # private in asyncpg: as below
            unplug(getattr(holder, "_con", None))
        if self._leave is not None:
            await self._leave()

    async def close(self, limit: float | None = None) -> None:
        """Close the pool, if it is ours, within `limit` seconds (default: CLOSE_LIMIT); what still lives is cut off."""
        for database in self._further:
            await database.close(limit)
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
            except DATABASE_ERRORS:
                pass  # the server has ended one in this moment: that is no fault of whoever closes
        self.pool.terminate()


async def _nothing_to_reset(connection: Connection) -> None:
    pass
