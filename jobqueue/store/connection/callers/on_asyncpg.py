"""Statements on an asyncpg connection of the caller's."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from jobqueue.base.errors import InvalidOption
from jobqueue.store.connection.callers.savepoint import savepoint
from jobqueue.store.schema.statements import statement


class OnAsyncpg:
    """An `Executor`."""

    def __init__(self, connection: Any, schema: str) -> None:
        """Raises InvalidOption for one that is closed, or that somebody else may have by now."""
        if getattr(connection, "_con", connection) is None:
            raise InvalidOption("connection", "was given back to its pool; pass one that is still acquired")
        if connection.is_closed():
            raise InvalidOption("connection", "is closed; pass one that is open")
        self.connection = connection
        self._schema = schema

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement inside the caller's transaction, or as one of its own if there is none."""
        rows: Sequence[Any] = await self.connection.fetch(statement(name, self._schema, late=True), *values)
        return rows

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """The caller's transaction, or a new one if there is none. No savepoint: the caller's rollback is enough."""
        if self.connection.is_in_transaction():
            yield
            return
        async with self.connection.transaction():
            yield

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What is done inside can be undone."""
        return savepoint(self.connection.execute)
