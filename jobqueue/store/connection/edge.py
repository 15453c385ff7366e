"""Where calls of this package end in the user's code: one documented error instead of the driver's many."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType

from jobqueue.base.errors import DatabaseError, JobQueueError
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, brief, classify
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session

_LOST_STATEMENTS = {"26000", "42P05"}
_BY_TRANSACTION = (
    'a pooler by transaction stands before it; say so by Settings(pooler="transaction") or JOBQUEUE_POOLER, and make a '
    "pool= of yours with statement_cache_size=0"
)


class Edge:
    """Turns what `DATABASE_ERRORS` lists into a DatabaseError, inside `with EDGE:`. Not for code of the user's."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, DATABASE_ERRORS) and not isinstance(error, JobQueueError):
            told = classify(error) is not Fault.BAD_DATA  # that would quote a row
            raise DatabaseError(_reason(error, told), getattr(error, "sqlstate", None)) from (error if told else None)


EDGE = Edge()


@contextlib.asynccontextmanager
async def own_session(database: Callable[[], Awaitable[Database]]) -> AsyncIterator[Session]:
    """A connection of ours. What the database does to it inside the block is a DatabaseError."""
    with EDGE:
        session = (await database()).session()
        try:
            yield session
        finally:
            await session.close()


@contextlib.asynccontextmanager
async def executor_for(
    connection: object | None, on: Callable[[object], Executor] | None, database: Callable[[], Awaitable[Database]]
) -> AsyncIterator[Executor]:
    """The caller's connection if one was given, by `on`, where the driver's errors stay; else one of ours."""
    if connection is not None:
        assert on is not None  # noqa: S101 - the command line has no connections
        yield on(connection)
        return
    async with own_session(database) as session:
        yield session


def _reason(error: BaseException, told: bool) -> str:
    """Class and message, without the lines that PostgreSQL adds: they may quote rows."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if getattr(error, "sqlstate", None) in _LOST_STATEMENTS:
        return f"{brief(error)}: {_BY_TRANSACTION}"
    message = str(error).partition("\n")[0] if told else ""
    return f"{brief(error)}: {message}" if message else brief(error)
