"""A caller's connection as a database of its own: for tests that roll back whatever they do.

It is never closed, given back or set up here, and whatever runs on it is part of the caller's transaction.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, NoReturn, TypeVar

import asyncpg

from jobqueue.base.errors import ConfigurationError, InvalidOption
from jobqueue.store.connection.callers.choosing import executor_on, is_synchronous
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.schema.statements import statements

T = TypeVar("T")
_NO_OTHER = "app.testing(connection=...) has that one connection, and this needs one of its own; take jobqueue_app"
_TAKEN = "one of asyncpg, or of SQLAlchemy on asyncpg"
_IS_SYNC = (
    f"is synchronous, and app.testing(connection=...) takes {_TAKEN}; with none, `with app.testing() as t:` keeps what "
    "defer_sync sends"
)


class LentDatabase(Database):
    """Runs statements on what was lent; what needs a connection to itself cannot be had of it."""

    is_lent = True

    def __init__(self, connection: object, schema: str) -> None:
        """Raises InvalidOption for what is no connection whose transaction can be joined, or is in none."""
        super().__init__(_no_pool(), schema, owned=False, pooler="none")
        if is_synchronous(connection):
            raise InvalidOption("connection", _IS_SYNC)
        self.executor = executor_on(connection, schema)
        if not isinstance(self.executor, OnAsyncpg) and getattr(self.executor, "driver", "psycopg") != "asyncpg":
            raise InvalidOption("connection", f"must be {_TAKEN}, to lend it to a test")
        self._connection: Any = connection
        self._turn = asyncio.Lock()
        if isinstance(self.executor, OnAsyncpg) and not self.executor.connection.is_in_transaction():
            raise InvalidOption("connection", "must be in a transaction, which the test rolls back: begin one first")

    def connection(self, limit: float | None = None) -> NoReturn:
        """There is only the one. Raises ConfigurationError."""
        raise ConfigurationError(_NO_OTHER)

    def session(self, *, first: bool = False) -> Session:
        """A session on what was lent."""
        return LentSession(self)

    async def fetch(self, name: str, *values: object) -> list[Any]:
        """Run one named statement."""
        gives = [column for column, _ in statements()[name].gives]
        async with self._turn:
            return [Row(gives, row) for row in await self.executor.fetch(name, *values)]

    async def driver(self) -> Any:
        """The asyncpg connection beneath it."""
        given = self._connection
        if isinstance(self.executor, OnAsyncpg):
            return self.executor.connection
        if not hasattr(given, "get_raw_connection"):  # SQLAlchemy's session
            given = await given.connection()
        return (await given.get_raw_connection()).driver_connection

    async def survive(self, run: Awaitable[T]) -> tuple[T, bool]:
        """What it gives; and whether all that it did is undone, since a statement in it had failed.

        Else PostgreSQL would refuse whatever comes behind it in the transaction.
        """
        driver = await self.driver()
        await driver.execute("savepoint jobqueue_run")
        given = await run
        try:
            await driver.execute("release savepoint jobqueue_run")
        except asyncpg.InFailedSQLTransactionError:
            await driver.execute("rollback to savepoint jobqueue_run")
            return given, True
        return given, False


class LentSession(Session):
    """Statements of one loop of work, as part of the caller's transaction."""

    def __init__(self, database: LentDatabase) -> None:
        super().__init__(database)
        self._lent = database

    async def fetch(self, name: str, *values: object) -> list[Any]:
        """Run one named statement."""
        return await self._lent.fetch(name, *values)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Part of the caller's."""
        async with self._lent.executor.transaction():
            yield

    async def ready(self) -> None:
        """It is."""

    async def close(self) -> None:
        """It stays with the caller."""


class Row(tuple[Any, ...]):
    """A row with its columns in order, and by name, whatever the caller's library makes of rows."""

    _places: dict[str, int]

    def __new__(cls, names: Sequence[str], values: Sequence[Any]) -> "Row":
        row = super().__new__(cls, values)
        row._places = {name: place for place, name in enumerate(names)}
        return row

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._places[key] if isinstance(key, str) else key)


def _no_pool() -> Any:
    """In its place: whoever wants a connection of one fails."""
    return None
