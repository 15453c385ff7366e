"""Who holds what, for pages: the jobs of a worker, of a queue, of a limit; and who is next in a line."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from jobqueue.store.connection.executor import Reader, named
from jobqueue.store.looking.lookup import as_uuid
from jobqueue.store.looking.overview import RunningJob


@dataclass(frozen=True, slots=True)
class Held:
    """How many jobs a worker has."""

    running: int = 0
    ahead: int = 0
    """Claimed ahead of a free slot."""


@dataclass(frozen=True, slots=True)
class NextInLine:
    """A job that waits at a limit."""

    id: UUID
    task: str
    queue: str
    waits: float
    """Seconds since it was due."""


async def running_jobs(
    reader: Reader,
    room: int,
    *,
    queues: Collection[str] | None = None,
    worker: UUID | None = None,
    limit: str | None = None,
) -> list[RunningJob]:
    """At most so many of the jobs that run now, the longest first: of these queues, this worker, this limit."""
    rows = await reader.fetch("running_jobs", None if queues is None else sorted(queues), worker, limit, room)
    return [RunningJob(**named("running_jobs", row)) for row in rows]


async def held_by_workers(reader: Reader, queues: Collection[str]) -> dict[UUID, Held]:
    """How many jobs of these queues each worker has; of a worker without any nothing."""
    rows = await reader.fetch("held_by_workers", sorted(queues))
    return {as_uuid(row[0]): Held(row[1], row[2]) for row in rows}


async def first_in_line(reader: Reader, limit: str, key: str | None, room: int) -> list[NextInLine]:
    """Who is next at a limit, for one key or without, at most so many."""
    gate = limit if key is None else f"{limit}\n{key}"
    return [NextInLine(**named("first_in_line", row)) for row in await reader.fetch("first_in_line", gate, room)]
