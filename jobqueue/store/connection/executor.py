"""What statements run on: a session of ours, or whatever connection a caller has."""

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jobqueue.store.schema.statements import statements


class Reader(Protocol):
    """Whatever runs one named statement at a time."""

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement and return its rows, each with its columns in order."""
        ...


class Executor(Reader, Protocol):
    """Whatever runs named statements: a session of ours, a caller's asyncpg connection, or one of SQLAlchemy."""

    def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Make the statements inside one transaction, or part of the one that is open."""
        ...


@runtime_checkable
class Undoing(Protocol):
    """An executor whose transaction may be a caller's, which must not end because of us."""

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Undo what is done inside, its locks too, if it ends by DuplicateJob, KeyChangedHands or a cancellation."""
        ...


def named(name: str, row: Sequence[Any]) -> dict[str, Any]:
    """A row of this statement by the names of its columns: SQLAlchemy gives plain tuples."""
    return dict(zip((column for column, _ in statements()[name].gives), row, strict=True))


class KeyChangedHands(Exception):
    """Raised when a key was neither free, nor held when we looked first, nor held any more: a whole job in between.

    Or its holder came late and is locked. All is undone and begun anew: to wait, holding keys, could end in a deadlock.
    """
