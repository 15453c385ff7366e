"""Whom a call waits for that cannot get a lock."""

import contextlib
from collections.abc import Sequence
from typing import Any

from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.schema.lockers import in_words


async def who_locks(executor: Executor, *tables: str) -> str:
    """Those who write there and have kept their transactions open for longest, in words."""
    rows: Sequence[Any] = []
    with contextlib.suppress(*DATABASE_ERRORS):  # it is only for the text of an error
        rows = await executor.fetch("who_locks", list(tables))
    return in_words(rows)
