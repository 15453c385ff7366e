"""Worker rows: who runs where. Information and evidence, never the base of correctness."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from jobqueue.base.job import WorkerId
from jobqueue.store.pool import Database


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker process as it registered itself."""

    id: UUID
    app: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    concurrency: int
    started_at: datetime
    seen_at: datetime


async def register(
    database: Database, id: WorkerId, *, app: str, version: str, queues: Sequence[str], concurrency: int
) -> None:
    """Note that a worker has started; its id is new at every start."""
    await database.fetch(
        "register_worker", id, app, socket.gethostname(), os.getpid(), version, list(queues), concurrency
    )


async def unregister(database: Database, id: WorkerId) -> None:
    """Remove the rows of a worker that ends in good order."""
    await database.fetch("stop_worker", id)


async def list_workers(database: Database) -> list[WorkerRow]:
    """The workers that have not ended in good order, oldest first."""
    rows = await database.fetch("list_workers")
    return [WorkerRow(**{**dict(row), "queues": tuple(row["queues"])}) for row in rows]
