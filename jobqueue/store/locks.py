"""How long to wait for a lock, and whom a call waits for that cannot get one."""

import contextlib
from collections.abc import Sequence
from typing import Any

from jobqueue.store.connection.executor import Executor, Reader
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.schema.lockers import in_words


async def wait_briefly(reader: Reader) -> None:
    """For what others have locked a tenth of a second at most, for the rest of this transaction."""
    await reader.fetch("wait_briefly")


async def who_locks(executor: Executor, *tables: str) -> str:
    """Those who write there and have kept their transactions open for longest, in words."""
    rows: Sequence[Any] = []
    with contextlib.suppress(*DATABASE_ERRORS):  # it is only for the text of an error
        rows = await executor.fetch("who_locks", list(tables))
    return in_words(rows)
