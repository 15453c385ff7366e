"""A caller's own connection as an executor: jobs join the transaction it is in, wake-up included.

Takes asyncpg connections (also pooled ones), SQLAlchemy's AsyncConnection and AsyncSession on asyncpg, and, for
`defer_sync`, psycopg connections. Nothing of the connection is changed: not its codecs, its search_path or its
isolation. Where the other library's error would quote the row, asyncpg's is raised in its place, for `faults`.
"""

import asyncio
import contextlib
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from jobqueue.base.errors import DuplicateJob, InvalidOption
from jobqueue.base.service import outlast
from jobqueue.store.connection.executor import Executor, KeyChangedHands
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.schema.statements import statement

_UNDO_LIMIT = 5.0
_NUMBERED = re.compile(r"\$(\d+)")
_RULE = "must be an asyncpg connection, or SQLAlchemy's AsyncConnection or AsyncSession on asyncpg"


def executor_on(connection: object, schema: str) -> Executor:
    """The executor for a caller's connection. Raises InvalidOption for anything else."""
    if isinstance(connection, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        return OnAsyncpg(connection, schema)
    if isinstance(connection, asyncpg.Pool):
        raise InvalidOption("connection", f"{_RULE}, not a pool: a pool has no transaction to join")
    if _is_of("sqlalchemy.ext.asyncio", connection) and hasattr(connection, "scalar"):
        return OnSqlalchemy(connection, schema)
    raise InvalidOption("connection", f"{_RULE}, not {type(connection).__module__}.{type(connection).__qualname__}")


def _is_of(package: str, given: object) -> bool:
    """Whether its class, or one that it inherits from, is defined in this package, which may not be installed."""
    return any(f"{kind.__module__}.".startswith(f"{package}.") for kind in type(given).__mro__)


@contextlib.asynccontextmanager
async def _savepoint(
    execute: Callable[[str], Awaitable[object]], *, can_be_cancelled: bool = True
) -> AsyncIterator[None]:
    """In SQL, not by the libraries' own means: those know nothing of a transaction that was begun by SQL.

    What is inside is undone if it is cancelled at any time before the release is sent. One that is cut off while the
    server does it may have been done: then what is inside stays, as with a commit that was cut off.
    """
    await execute("savepoint jobqueue_defer")
    try:
        yield
        if can_be_cancelled:
            await asyncio.sleep(0)  # a cancellation that has come with the last answer takes effect here
    except (DuplicateJob, KeyChangedHands):
        await _undo(execute)
        raise
    except asyncio.CancelledError:  # between two statements it would leave half of them in the caller's transaction
        with contextlib.suppress(*DATABASE_ERRORS):
            undoing = asyncio.ensure_future(_undo(execute))
            if await outlast(undoing, _UNDO_LIMIT):
                undoing.result()
        raise
    await execute("release savepoint jobqueue_defer")


async def _undo(execute: Callable[[str], Awaitable[object]]) -> None:
    await execute("rollback to savepoint jobqueue_defer")
    await execute("release savepoint jobqueue_defer")


class OnAsyncpg:
    """Statements on an asyncpg connection."""

    def __init__(self, connection: Any, schema: str) -> None:
        self._connection = connection
        self._schema = schema

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement inside the caller's transaction, or as one of its own if there is none."""
        rows: Sequence[Any] = await self._connection.fetch(statement(name, self._schema, late=True), *values)
        return rows

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """The caller's transaction, or a new one if there is none. No savepoint: the caller's rollback is enough."""
        if self._connection.is_in_transaction():
            yield
            return
        async with self._connection.transaction():
            yield

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What is done inside can be undone."""
        return _savepoint(self._connection.execute)


class OnPsycopg:
    """Statements on a synchronous psycopg connection, in its transaction. Its coroutines never suspend."""

    def __init__(self, connection: Any, schema: str) -> None:
        """Raises InvalidOption unless `connection` is one of psycopg's, and synchronous."""
        if not _is_of("psycopg", connection) or not hasattr(connection, "autocommit"):
            raise InvalidOption("connection", f"must be a psycopg connection, not {type(connection).__name__}")
        if inspect.iscoroutinefunction(connection.execute):
            raise InvalidOption("connection", "must be a synchronous psycopg connection for defer_sync")
        self._connection = connection
        self._schema = schema

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement; psycopg names parameters in another way than PostgreSQL."""
        from psycopg import Cursor, Error  # an extra; where its connections come from, it is installed
        from psycopg.rows import tuple_row

        sql = _NUMBERED.sub(r"%(p\1)s", statement(name, self._schema, late=True))
        # Not the connection's own kinds of cursor and row: they may take or give something else.
        cursor = Cursor(self._connection, row_factory=tuple_row)
        try:
            cursor.execute(sql.encode(), {f"p{place}": value for place, value in enumerate(values, 1)})
            return cursor.fetchall() if cursor.description else []
        except Error as error:
            fields = {"C": error.sqlstate or "", "M": "refused", "n": error.diag.constraint_name or ""}
            same = asyncpg.PostgresError.new(fields)
            if classify(same) is not Fault.BAD_DATA:
                raise
        raise same

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """The one that is open or that psycopg opens with the first statement; a new one on an autocommit connection.

        Not always psycopg's own block: outside a transaction that would commit at its end, whatever the caller wants.
        """
        if self._connection.autocommit:
            with self._connection.transaction():
                yield
        else:
            yield

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What is done inside can be undone."""

        from psycopg import Cursor

        async def execute(sql: str) -> None:
            Cursor(self._connection).execute(sql.encode())

        return _savepoint(execute, can_be_cancelled=False)


class OnSqlalchemy:
    """Statements on SQLAlchemy's connection or session.

    They go through SQLAlchemy, not around it: it begins its transaction lazily, at the first statement that it sees.
    """

    def __init__(self, connection: Any, schema: str) -> None:
        self._given = connection
        self._schema = schema

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement in the session's or connection's transaction."""
        connection = await self._connection()
        try:
            result = await connection.exec_driver_sql(statement(name, self._schema, late=True), values)
        except Exception as error:
            vars(error)["params"] = None  # SQLAlchemy's errors show the parameters, which are the payload
            refused = getattr(getattr(error, "orig", None), "__cause__", None)
            if refused is None or classify(refused) is not Fault.BAD_DATA:
                raise
        else:
            rows: Sequence[Any] = result.all() if result.returns_rows else []
            return rows
        raise refused

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """SQLAlchemy's, begun if need be; a new one if its engine is in AUTOCOMMIT."""
        connection = await self._connection()
        driver = (await connection.get_raw_connection()).driver_connection
        if not driver.is_in_transaction():
            await connection.exec_driver_sql("select 1")
        if driver.is_in_transaction():
            yield
            return
        async with driver.transaction():
            yield

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What is done inside can be undone."""

        async def execute(sql: str) -> None:
            await (await self._connection()).exec_driver_sql(sql)

        return _savepoint(execute)

    async def _connection(self) -> Any:
        given = self._given
        connection = given if hasattr(given, "exec_driver_sql") else await given.connection()
        if connection.dialect.driver != "asyncpg":
            raise InvalidOption(
                "connection", f"{_RULE}, not on {connection.dialect.driver}; call jobqueue.defer in SQL"
            )
        return connection
