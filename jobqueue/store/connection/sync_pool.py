"""A few psycopg connections for callers without an event loop: opened when first needed, by whatever thread.

They belong to the process that opened them: a child after a fork opens its own, and leaves the parent's alone. They are
closed with the app, or when the process ends.
"""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import asyncpg

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.settings import Pooler
from jobqueue.store.connection.callers.on_psycopg import OnPsycopg
from jobqueue.store.connection.callers.telling import as_asyncpg
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, NotConnected, classify
from jobqueue.store.dialing.dial import CONNECT_LIMIT
from jobqueue.store.dialing.libpq import libpq_of
from jobqueue.store.dialing.silence import A_POOLER, BRIEF, PLAIN, SILENCE, begin
from jobqueue.store.schema.migrate import applied_migrations, check_encoding, check_whole

SIZE = 4
_IDLE = 0


class SyncPool:
    """At most SIZE connections in this process; whoever finds none waits for one."""

    def __init__(self, find: Callable[[], str], schema: str, name: str, pooler: Pooler) -> None:
        """`find` gives the connection string; it is asked once a process."""
        self.schema = schema
        self._find = find
        self._name = name
        self._direct = pooler == "none"
        self._prepares = pooler != "transaction"
        self._of_process: dict[int, _Here] = {}  # also of the parent's: one that is dropped would be ended
        weakref.finalize(self, _end_of_process, self._of_process)

    @property
    def begin(self) -> str:
        """SQL that begins a transaction, with the limits that its session could not be given."""
        return begin(limited=self._direct)

    def prepare(self) -> None:
        """Find out where the database is, in a thread without an event loop. Raises ConfigurationError."""
        self._here().known(self._address)

    def take(self) -> OnPsycopg:
        """Statements on a connection. Raises OSError, TimeoutError, ConfigurationError, NotMigrated, SchemaTooNew."""
        here = self._here()
        on = here.take()
        if on is not None:
            return on
        try:
            return self._open(here)
        except BaseException:
            here.give_back(None)
            raise

    def give_back(self, on: OnPsycopg) -> None:
        """Keep it for the next one, unless it broke or was left in mid-statement."""
        connection = on.connection
        good = connection.pgconn.transaction_status == _IDLE  # not of one that is closed
        if not good:
            connection.close()
        self._here().give_back(on if good else None)

    def expire(self) -> None:
        """Close those that nobody uses: they lead to a server that does not accept writes any more."""
        self._here().close()

    def close(self) -> None:
        """Close those that nobody uses, and the others as they come back; the next call opens new ones."""
        self._here().end()

    def _here(self) -> "_Here":
        process = os.getpid()
        here = self._of_process.get(process)
        if here is None:
            here = self._of_process.setdefault(process, _Here())  # atomic: threads that come together share one
        return here

    def _address(self) -> dict[str, Any]:
        if find_spec("psycopg") is None:
            raise ConfigurationError("defer_sync: needs psycopg; pip install 'jobqueue[psycopg]'")
        return libpq_of(self._find(), self._name, {**PLAIN, **SILENCE, **BRIEF} if self._direct else {})

    def _open(self, here: "_Here") -> OnPsycopg:
        import psycopg

        try:
            connection = psycopg.connect(
                **here.known(self._address), autocommit=True, prepare_threshold=5 if self._prepares else None
            )
        except psycopg.Error as error:
            reason = str(error)
        else:
            return self._checked(here, connection)
        if self._direct and "startup parameter" in reason:
            raise ConfigurationError(A_POOLER)
        raise NotConnected(reason.removeprefix("connection failed: "))

    def _checked(self, here: "_Here", connection: Any) -> OnPsycopg:
        if not here.checked:
            try:
                at_once(_check(connection, self.schema, direct=self._direct))
            except BaseException:
                connection.close()
                raise
            here.checked = True
        return OnPsycopg(connection, self.schema, late=False)


class _Here:
    """What one process has of a pool."""

    def __init__(self) -> None:
        self.checked = False
        self._ended = False
        self._address: dict[str, Any] | None = None
        self._finding = threading.Lock()
        self._changed = threading.Condition()
        self._idle: list[OnPsycopg] = []
        self._room = SIZE

    def known(self, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Where to connect to: the first one finds out for all."""
        with self._finding:
            if self._address is None:
                self._address = find()
            return self._address

    def take(self) -> OnPsycopg | None:
        """One that is idle, the one used last; None if there is room for another. Waits for either."""
        give_up = time.monotonic() + CONNECT_LIMIT
        with self._changed:
            while not self._room:
                if not self._changed.wait(give_up - time.monotonic()):
                    raise TimeoutError
            self._room -= 1
            self._ended = False
            while self._idle:
                on = self._idle.pop()
                if not on.connection.closed:
                    return on
        return None

    def give_back(self, on: OnPsycopg | None) -> None:
        if self._ended and on is not None:
            on.connection.close()
        with self._changed:
            self._room += 1
            if on is not None:
                self._idle.append(on)
            self._changed.notify()

    def end(self) -> None:
        self._ended, self.checked, self._address = True, False, None
        self.close()

    def close(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
        for on in idle:
            on.connection.close()


class SyncSession:
    """A connection of a pool for one call, replaced once it breaks: an `Executor` whose coroutines never suspend."""

    def __init__(self, pool: SyncPool) -> None:
        self._pool = pool
        self._on: OnPsycopg | None = None
        self._inside = False

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one named statement. Raises what `faults.DATABASE_ERRORS` lists."""
        on = self._ready()
        try:
            return await on.fetch(name, *values)
        except Exception as error:
            same = self._as_told(on, error)
        raise same

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Statements inside commit together or not at all. Inside a transaction of this session it is a part of it."""
        if self._inside:
            yield
            return
        await self._say(self._pool.begin)
        self._inside = True
        try:
            yield
        except BaseException:
            if self._on is not None and not self._on.connection.closed:
                with contextlib.suppress(*DATABASE_ERRORS):
                    await self._say("rollback")
            raise
        finally:
            self._inside = False
        await self._say("commit")

    def ready(self) -> None:
        """Wait for a connection, so that the next statement is sent at once."""
        self._ready()

    def close(self) -> None:
        """Give the connection back."""
        on, self._on = self._on, None
        if on is not None:
            self._pool.give_back(on)

    async def _say(self, sql: str) -> None:
        on = self._ready()
        try:
            await on.run(sql)
        except Exception as error:
            same = self._as_told(on, error)
        else:
            return
        raise same

    def _ready(self) -> OnPsycopg:
        if self._on is not None and self._on.connection.closed and not self._inside:
            self.close()
        if self._on is None:
            self._on = self._pool.take()
        return self._on

    def _as_told(self, on: OnPsycopg, error: BaseException) -> BaseException:
        """psycopg's error as one of asyncpg's, for `faults`; the connection is no longer used if it is good no more."""
        same = as_asyncpg(error)
        if same is None:
            on.connection.close()
            return asyncpg.ConnectionDoesNotExistError("the connection was lost")
        if classify(same) is Fault.READ_ONLY:  # a standby, or a primary no more: so is every other connection
            on.connection.close()
            self._pool.expire()
        return same


def at_once(coroutine: Any) -> Any:
    """What a coroutine gives that never has anything to await."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise AssertionError("a synchronous call had to wait")


async def _check(connection: Any, schema: str, *, direct: bool) -> None:
    asked: Any = _Asked(connection)
    if direct and connection.info.backend_pid != await asked.fetchval("select pg_backend_pid()"):
        raise ConfigurationError(A_POOLER)
    check_encoding(asked)
    check_whole(await applied_migrations(asked, schema), schema)


class _Asked:
    """Of asyncpg's ways to ask what the check of a schema needs, on a psycopg connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def get_settings(self) -> Any:
        return SimpleNamespace(server_encoding=self._connection.info.parameter_status("server_encoding"))

    async def fetchval(self, sql: str, *values: object) -> Any:
        return (await self.fetch(sql, *values))[0].popitem()[1]

    async def fetch(self, sql: str, *values: object) -> list[dict[str, Any]]:
        from psycopg import RawCursor
        from psycopg.rows import dict_row

        return RawCursor(self._connection, row_factory=dict_row).execute(sql.encode(), values).fetchall()


def _end_of_process(of_process: dict[int, _Here]) -> None:
    here = of_process.pop(os.getpid(), None)
    if here is not None:
        here.close()
