"""A caller's own connection as an executor: jobs join the transaction it is in, wake-up included.

Takes asyncpg connections (also pooled ones), SQLAlchemy's AsyncConnection and AsyncSession on asyncpg, and, for
`defer_sync`, psycopg connections. Nothing of
the connection is changed: not its codecs, its search_path or its isolation.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg

from jobqueue.base.errors import InvalidOption
from jobqueue.store.intake import Executor
from jobqueue.store.statements import statement

_NUMBERED = re.compile(r"\$(\d+)")
_RULE = "must be an asyncpg connection, or SQLAlchemy's AsyncConnection or AsyncSession on asyncpg"


def executor_on(connection: object, schema: str) -> Executor:
    """The executor for a caller's connection. Raises InvalidOption for anything else."""
    if isinstance(connection, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
        return OnAsyncpg(connection, schema)
    if isinstance(connection, asyncpg.Pool):
        raise InvalidOption("connection", f"{_RULE}, not a pool: a pool has no transaction to join")
    if hasattr(connection, "exec_driver_sql") or hasattr(connection, "connection"):
        return OnSqlalchemy(connection, schema)
    raise InvalidOption("connection", f"{_RULE}, not {type(connection).__name__}")


class OnAsyncpg:
    """Statements on an asyncpg connection."""

    def __init__(self, connection: Any, schema: str) -> None:
        self._connection = connection
        self._schema = schema

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement inside the caller's transaction, or as one of its own if there is none."""
        rows: Sequence[Any] = await self._connection.fetch(statement(name, self._schema), *values)
        return rows

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """The caller's transaction, or a new one if there is none. No savepoint: the caller's rollback is enough."""
        if self._connection.is_in_transaction():
            yield
            return
        async with self._connection.transaction():
            yield


class OnPsycopg:
    """Statements on a synchronous psycopg connection, in its transaction. Its coroutines never suspend."""

    def __init__(self, connection: Any, schema: str) -> None:
        """Raises InvalidOption unless `connection` is one of psycopg's."""
        if type(connection).__module__.partition(".")[0] != "psycopg" or not hasattr(connection, "cursor"):
            raise InvalidOption("connection", f"must be a psycopg connection, not {type(connection).__name__}")
        self._connection = connection
        self._schema = schema

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement; psycopg names parameters in another way than PostgreSQL."""
        sql = _NUMBERED.sub(r"%(p\1)s", statement(name, self._schema))
        cursor = self._connection.execute(sql, {f"p{place}": value for place, value in enumerate(values, 1)})
        rows: Sequence[Any] = cursor.fetchall() if cursor.description else []
        return rows

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """psycopg's own: the open one, or a new one on an autocommit connection."""
        with self._connection.transaction():
            yield


class OnSqlalchemy:
    """Statements on SQLAlchemy's connection or session.

    They go through SQLAlchemy, not around it: it begins its transaction lazily, at the first statement that it sees.
    """

    def __init__(self, connection: Any, schema: str) -> None:
        self._given = connection
        self._schema = schema

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement in the session's or connection's transaction."""
        given = self._given
        connection = given if hasattr(given, "exec_driver_sql") else await given.connection()
        if connection.dialect.driver != "asyncpg":
            raise InvalidOption(
                "connection", f"{_RULE}, not on {connection.dialect.driver}; call jobqueue.defer in SQL"
            )
        result = await connection.exec_driver_sql(statement(name, self._schema), values)
        return result.all() if result.returns_rows else []

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """SQLAlchemy is always in a transaction once a statement ran."""
        yield
