"""Statements on a psycopg connection of the caller's, of either kind."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Sequence
from functools import cache
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
        self.connection = connection
        self._schema = schema
        self._late = late
        self._is_async = _is_async(connection.__class__)
        self._cursor: Any = None

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement, with its parameters named as PostgreSQL does."""
        try:
            return await self._run(_bytes_of(name, self._schema, self._late), values)
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
        if not self.connection.autocommit:
            yield
        elif self._is_async:
            async with self.connection.transaction():
                yield
        else:
            with self.connection.transaction():
                yield

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What is done inside can be undone."""
        return savepoint(self.run, can_be_cancelled=self._is_async)

    async def run(self, sql: str) -> Sequence[Any]:
        """Run SQL."""
        return await self._run(sql.encode(), ())

    async def _run(self, sql: bytes, values: Sequence[object]) -> Sequence[Any]:
        """Not by the connection's own kinds of cursor and row: they may take or give something else."""
        if self._is_async:
            cursor = _cursor_of(self.connection, is_async=True)  # a new one each time: the last may have been cut off
            await cursor.execute(sql, values)
            return await cursor.fetchall() if cursor.rownumber is not None else []
        plain = self._cursor
        if plain is None:
            plain = self._cursor = _cursor_of(self.connection, is_async=False)
        plain.execute(sql, values)
        return plain.fetchall() if plain.rownumber is not None else []  # None: it was no query


def _cursor_of(connection: Any, *, is_async: bool) -> Any:
    from psycopg import AsyncRawCursor, RawCursor  # an extra; where its connections come from, it is installed
    from psycopg.rows import tuple_row

    return (AsyncRawCursor if is_async else RawCursor)(connection, row_factory=tuple_row)


@cache
def _is_async(kind: type) -> bool:
    return inspect.iscoroutinefunction(getattr(kind, "execute", None))


@cache
def _bytes_of(name: str, schema: str, late: bool) -> bytes:
    """The same bytes each time: psycopg looks up by them whether it has prepared them."""
    return statement(name, schema, late=late).encode()
