"""Statements on a psycopg connection of the caller's, of either kind."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any

from jobqueue.base.errors import InvalidOption
from jobqueue.store.connection.callers.savepoint import savepoint
from jobqueue.store.connection.callers.telling import refusal
from jobqueue.store.schema.statements import statement


class OnPsycopg:
    """An `Executor`. On a synchronous connection its coroutines never suspend."""

    def __init__(self, connection: Any, schema: str, *, late: bool = True) -> None:
        """`late`: see `statement`. Raises InvalidOption for one that is closed."""
        if connection.closed:
            raise InvalidOption("connection", "is closed; pass one that is open")
        self._connection = connection
        self._schema = schema
        self._late = late
        self._is_async = inspect.iscoroutinefunction(connection.execute)

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement, with its parameters named as PostgreSQL does."""
        try:
            return await self.run(statement(name, self._schema, late=self._late), values)
        except Exception as error:
            same = refusal(error)
            if same is None:
                raise
        raise same

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """The one that is open or that psycopg opens with the first statement; a new one on an autocommit connection.

        Not always psycopg's own block: outside a transaction that would commit at its end, whatever the caller wants.
        """
        if not self._connection.autocommit:
            yield
        elif self._is_async:
            async with self._connection.transaction():
                yield
        else:
            with self._connection.transaction():
                yield

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What is done inside can be undone."""
        return savepoint(self.run, can_be_cancelled=self._is_async)

    async def run(self, sql: str, values: Sequence[object] = ()) -> Sequence[Any]:
        """Run SQL. Not by the connection's own kinds of cursor and row: they may take or give something else."""
        from psycopg import AsyncRawCursor, RawCursor  # an extra; where its connections come from, it is installed
        from psycopg.rows import tuple_row

        if self._is_async:
            cursor = AsyncRawCursor(self._connection, row_factory=tuple_row)
            await cursor.execute(sql.encode(), values)
            return await cursor.fetchall() if cursor.description else []
        plain = RawCursor(self._connection, row_factory=tuple_row)
        plain.execute(sql.encode(), values)
        return plain.fetchall() if plain.description else []
