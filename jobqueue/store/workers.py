"""Worker rows: who runs where, and until when its last beat vouches for it. Evidence, never the base of correctness."""

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from jobqueue.base.job import WorkerId
from jobqueue.store.connection.executor import Reader
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session

_KEPT = 86_400.0
"""Seconds for which the row of a dead worker stays."""


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
    alive: bool
    """False once its beats have stopped for a lease, or its process is known to be gone."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a worker says of itself."""

    app: str
    version: str
    queues: Sequence[str]
    concurrency: int
    alive: float
    """Seconds for which this vouches for the worker."""
    machine: str | None
    born: str | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A worker of the same machine, to be looked for by its pid."""

    id: UUID
    pid: int
    born: str | None


async def register(session: Session, id: WorkerId, told: Registration) -> None:
    """Note that a worker has started; its id is new at every start. Again: it lives after all."""
    await session.fetch(
        "register_worker", id, told.app, socket.gethostname(), os.getpid(), told.version, list(told.queues),
        told.concurrency, told.alive, told.machine, told.born,
    )  # fmt: skip


async def unregister(database: Database, id: WorkerId) -> None:
    """Remove the rows of a worker that ends in good order."""
    await database.fetch("stop_worker", id)


async def leave(database: Database, id: WorkerId) -> None:
    """Note that a worker ends while some of its jobs still run; their claims run out."""
    await database.fetch("leave_worker", id)


async def show_stuck(session: Session, id: WorkerId, stuck: Sequence[Mapping[str, object]]) -> bool:
    """Put into a worker's row which of its handlers are stuck, as JSON, or that none is; False if there is no row."""
    told = orjson.dumps(stuck).decode() if stuck else None
    return bool(await session.fetch("show_stuck", id, told))


async def on_machine(session: Session, machine: str) -> list[Neighbour]:
    """The workers that have registered from this machine."""
    return [Neighbour(**row) for row in await session.fetch("workers_of_machine", machine)]


async def silent(session: Session, seconds: float) -> list[UUID]:
    """The workers that nothing has vouched for since so many seconds, as long as their rows stay."""
    return [row["id"] for row in await session.fetch("silent_workers", seconds)]


async def forget_dead(session: Session, dead: Collection[UUID]) -> None:
    """Remove the sleep flags of workers that beat no more or are known to be dead; much later their rows, too."""
    await session.fetch("forget_dead_workers", list(dead), _KEPT)


async def list_workers(database: Reader) -> list[WorkerRow]:
    """The workers that have not ended in good order, oldest first."""
    rows = await database.fetch("list_workers")
    return [WorkerRow(**{**dict(row), "queues": tuple(row["queues"])}) for row in rows]


async def unserved_queues(database: Database, seconds: float) -> dict[str, float]:
    """Queues that no living worker serves, and for how long their best job waits, if that is more than `seconds`."""
    return {row["queue"]: row["waits"] for row in await database.fetch("unserved_queues", seconds)}
