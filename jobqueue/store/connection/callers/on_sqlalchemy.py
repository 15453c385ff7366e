"""Statements on a connection or session of SQLAlchemy's, asynchronous or not.

They go through SQLAlchemy, not around it: it begins its transaction lazily, at the first statement that it sees.
"""

import contextlib
import inspect
import re
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any

from jobqueue.base.errors import InvalidOption
from jobqueue.store.connection.callers.savepoint import savepoint
from jobqueue.store.connection.callers.telling import is_in_transaction, is_of, refusal
from jobqueue.store.schema.statements import statement

_NUMBERED = re.compile(r"\$(\d+)")


class OnSqlalchemy:
    """An `Executor`. On what is synchronous its coroutines never suspend."""

    def __init__(self, connection: Any, schema: str) -> None:
        """Raises InvalidOption for one on another driver, for a connection that is closed, or is not open yet."""
        self._given = connection
        self._schema = schema
        self._is_async = is_of("sqlalchemy.ext.asyncio", connection)
        self._is_session = not hasattr(connection, "exec_driver_sql")  # which opens connections by itself
        if not self._is_session:
            self._refuse_unless_open()
        self.driver = (connection.get_bind() if self._is_session else connection).dialect.driver
        fits = ("asyncpg", "psycopg") if self._is_async else ("psycopg",)
        if self.driver not in fits:
            ways = " or ".join(f"postgresql+{fit}://" for fit in fits)
            rule = f"is SQLAlchemy's on {self.driver}; make its engine with {ways}, or call jobqueue.defer in SQL"
            raise InvalidOption("connection", rule)

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement in the session's or connection's transaction."""
        connection = await self._connection()
        sql: str = statement(name, self._schema, late=True)
        given: Any = values
        if self.driver == "psycopg":
            sql, given = _named(sql), {f"p{place}": value for place, value in enumerate(values, 1)}
        try:
            result = await _settled(connection.exec_driver_sql(sql, given))
        except Exception as error:
            vars(error)["params"] = None  # SQLAlchemy's errors show the parameters, which are the payload
            refused = refusal(error)
            if refused is None:
                raise
        else:
            rows: Sequence[Any] = result.all() if result.returns_rows else []
            return rows
        raise refused

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """SQLAlchemy's, begun if need be; a new one if its engine is in AUTOCOMMIT."""
        connection = await self._connection()
        driver = (await self._raw(connection)).driver_connection
        if not is_in_transaction(driver):
            await _settled(connection.exec_driver_sql("select 1"))
        if is_in_transaction(driver):
            yield
        elif self._is_async:
            async with driver.transaction():
                yield
        else:
            with driver.transaction():
                yield

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What is done inside can be undone."""

        async def execute(sql: str) -> None:
            await _settled((await self._connection()).exec_driver_sql(sql))

        return savepoint(execute, can_be_cancelled=self._is_async)

    async def _connection(self) -> Any:
        return await _settled(self._given.connection()) if self._is_session else self._given

    def _refuse_unless_open(self) -> None:
        if self._is_async and self._given.sync_connection is None:
            rule = "is not open; pass what `async with engine.connect() as connection:` gives"
            raise InvalidOption("connection", rule)
        if self._given.closed:
            raise InvalidOption("connection", "is closed; pass one that is open")

    async def _raw(self, connection: Any) -> Any:
        return await connection.get_raw_connection() if self._is_async else connection.connection


async def _settled(given: Any) -> Any:
    """What SQLAlchemy gives, or what it gives once it is awaited."""
    return await given if inspect.iscoroutine(given) else given


@cache
def _named(sql: str) -> str:
    """As psycopg names parameters to SQLAlchemy."""
    return _NUMBERED.sub(r"%(p\1)s", sql)
