"""Statements that write to a day of the archive or of the log, which a worker makes ahead of time."""

from collections.abc import Sequence
from typing import Any

from jobqueue.store.connection.executor import Reader
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify

_DAYS = 7


async def fetch_dated(executor: Reader, name: str, *values: object) -> Sequence[Any]:
    """Run such a statement; if its day was never made, since no worker has run for a week, make it and run it again."""
    try:
        return await executor.fetch(name, *values)
    except DATABASE_ERRORS as error:
        if classify(error) is not Fault.NO_PARTITION:
            raise
    await executor.fetch("extend_archive", _DAYS)
    return await executor.fetch(name, *values)
