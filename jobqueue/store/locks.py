"""Whom a call waits for that cannot get a lock."""

from collections.abc import Sequence
from typing import Any

from jobqueue.store.connection.executor import Executor
from jobqueue.store.schema.lockers import in_words


async def who_locks(executor: Executor, relation: str) -> str:
    """Those who write there and have kept their transactions open for longest, in words."""
    rows: Sequence[Any] = await executor.fetch("who_locks", relation, "RowExclusiveLock")
    return in_words(rows)
