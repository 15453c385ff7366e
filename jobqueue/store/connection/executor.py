"""What statements run on: a session of ours, or whatever connection a caller has."""

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable


class Executor(Protocol):
    """Whatever runs named statements: a session of ours, a caller's asyncpg connection, or one of SQLAlchemy."""

    async def fetch(self, name: str, *values: object) -> Sequence[Any]:
        """Run one statement and return its rows, with columns by name."""
        ...

    def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Make the statements inside one transaction, or part of the one that is open."""
        ...


@runtime_checkable
class Undoing(Protocol):
    """An executor whose transaction may be a caller's, which must not end because of us."""

    def savepoint(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Undo what is done inside, its locks too, if it ends by DuplicateJob, KeyChangedHands or a cancellation."""
        ...


class KeyChangedHands(Exception):
    """Raised when a key was neither free, nor held when we looked first, nor held any more: a whole job in between.

    Or its holder came late and is locked. All is undone and begun anew: to wait, holding keys, could end in a deadlock.
    """
