"""Statements that write to a day of the archive or of the log, which a worker makes ahead of time."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import asyncpg

from jobqueue.store.connection.executor import Reader
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify

T = TypeVar("T")
DAYS_AHEAD = 2
"""Workers look hourly, so one is there for the night. Each more costs whoever looks for a job: it is planned for."""


async def fetch_dated(executor: Reader, name: str, *values: object) -> Sequence[Any]:
    """Run such a statement; if its day was never made, since no worker has run for days, make it and run it again."""
    return await in_a_day(executor, partial(executor.fetch, name, *values))


async def in_a_day(executor: Reader, write: Callable[[], Awaitable[T]]) -> T:
    """The same for what is more than a statement, and undone if it fails."""
    try:
        return await write()
    except DATABASE_ERRORS as error:
        if classify(error) is not Fault.NO_PARTITION:
            raise
        try:
            await executor.fetch("extend_archive", DAYS_AHEAD)
        except asyncpg.InFailedSQLTransactionError:
            raise error from None  # within a transaction: whoever began it does this
    return await write()
