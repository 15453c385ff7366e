"""Jobs go out: claimed by workers, promoted when due; and who sleeps meanwhile."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import TypeAlias

import asyncpg

from jobqueue.base.job import Job, JobState, WorkerId
from jobqueue.store.connection.pool import Database, Session
from jobqueue.store.lookup import as_uuid, attempt_errors

Claim: TypeAlias = asyncpg.Record
"""One claimed row, columns as in `claims.sql`. Kept raw: at thousands a second a dataclass each would be felt."""


async def claim(
    session: Session,
    worker: WorkerId,
    number: int,
    lease: float,
    rooms: Mapping[str, int],
    room: int,
    *,
    idle: int | None = None,
    suspects: int = 0,
) -> list[Claim]:
    """Claim up to `room` ready jobs, at most `rooms[queue]` of each queue, best first.

    The first `idle` (default: all) start at once. At most `suspects` of them have seen their worker die.
    """
    rows = await session.fetch(
        "claim_jobs", worker, number, lease, list(rooms), list(rooms.values()), room,
        room if idle is None else idle, suspects,
    )  # fmt: skip
    rows.sort(key=itemgetter("seq"))
    rows.sort(key=itemgetter("priority"), reverse=True)  # stable: age decides inside a priority
    return rows


async def claim_alone(
    session: Session, worker: WorkerId, number: int, lease: float, queues: Sequence[str]
) -> list[Claim]:
    """Claim one job that must have its worker for itself; none if there is none."""
    return await session.fetch("claim_alone", worker, number, lease, list(queues))


async def waiting_alone(database: Database, queues: Sequence[str]) -> tuple[int, int]:
    """How many jobs of these queues wait to run alone, and how many workers live."""
    row = (await database.fetch("waiting_alone", list(queues)))[0]
    return row["jobs"], row["workers"]


async def ready_queues(session: Session) -> list[str]:
    """The queues that have ready jobs."""
    return [row["queue"] for row in await session.fetch("ready_queues")]


async def promote_due(session: Session, room: int) -> tuple[int, float | None]:
    """Make up to `room` due jobs ready; how many, and in how many seconds the next comes due."""
    row = (await session.fetch("promote_due", room))[0]
    return row["promoted"], row["next_in"]


async def is_due(session: Session) -> bool:
    """Whether there is a job that has come due and is not ready yet."""
    return bool((await session.fetch("is_due"))[0]["due"])


async def publish_sleep(session: Session, worker: WorkerId, queues: Sequence[str], seconds: float) -> None:
    """Tell producers that this worker sleeps; the caller must look once more before it does."""
    await session.fetch("publish_sleep", worker, list(queues), seconds)


async def end_sleep(session: Session, worker: WorkerId, queues: Sequence[str]) -> None:
    """Take the sleep flags back."""
    await session.fetch("end_sleep", worker, list(queues))


def job_of(claim: Claim) -> Job:
    """The claimed row as the job that handlers see."""
    return Job(
        id=as_uuid(claim["id"]),
        task=claim["task"],
        queue=claim["queue"],
        state=JobState.RUNNING,
        priority=claim["priority"],
        attempt=claim["attempt"],
        max_attempts=claim["max_attempts"],
        crashes=claim["crashes"],
        lost=claim["lost"],
        due_at=claim["due_at"],
        created_at=claim["created_at"],
        claimed_at=claim["claimed_at"],
        timeout=claim["timeout"],
        deadline=claim["deadline"],
        expires_at=claim["expires_at"],
        origin=claim["origin"],
        lease_until=claim["lease_until"],
        key=claim["key"],
        bundle_id=claim["bundle_id"] and as_uuid(claim["bundle_id"]),
        errors=attempt_errors(claim["errors"]),
        args_json=claim["args"],
        meta_json=claim["meta"],
        progress_json=claim["progress"],
        read_at=claim["claimed_at"],
    )
