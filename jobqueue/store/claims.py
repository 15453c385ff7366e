"""Jobs go out: claimed by workers, promoted when due; and who sleeps meanwhile."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import NamedTuple, TypeAlias

import asyncpg

from jobqueue.base.job import Job, JobState, WorkerId
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.looking.lookup import as_uuid, attempt_errors

_EVER = datetime.min.replace(tzinfo=UTC)
_ZERO = datetime(2000, 1, 1, tzinfo=UTC)
_RECALLED = 500

Claim: TypeAlias = asyncpg.Record
"""One claimed row, columns as in `claims.sql`. Kept raw: at thousands a second a dataclass each would be felt."""


Arm: TypeAlias = tuple[int, int, int, int]
"""A part of a queue: priorities from, to; seqs above, up to."""
EVERYTHING: Arm = (-(2**15), 2**15 - 1, -(2**63), 2**63 - 1)


class Ready(NamedTuple):
    """The first ready job of a queue and priority; of suspects only the queue is known."""

    queue: str
    priority: int | None
    seq: int


def whole(queue: str) -> Sequence[Arm]:
    """All of a queue."""
    return (EVERYTHING,)


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
    arms: Callable[[str], Sequence[Arm]] = whole,
    unknown: Sequence[str] = (),
    aside_age: float = 0.0,
) -> list[Claim]:
    """Claim up to `room` ready jobs, at most `rooms[queue]` of each queue, best first.

    The first `idle` (default: all) start at once. At most `suspects` of them have seen their worker die. `arms` says
    which parts of a queue to look at, best first. Jobs of `unknown` tasks are left to others, unless they were first
    put aside `aside_age` seconds ago.
    """
    parts: list[Arm] = []
    firsts, lasts = [], []
    for queue in rooms:
        firsts.append(len(parts) + 1)
        parts += arms(queue)
        lasts.append(len(parts))
    columns = [list(column) for column in zip(*parts, strict=True)] or [[], [], [], []]
    rows = await session.fetch(
        "claim_jobs", worker, number, lease, list(rooms), list(rooms.values()), room,
        room if idle is None else idle, suspects, firsts, lasts, *columns, unknown, aside_age,
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


class Piece(NamedTuple):
    """What a look at a piece of all seqs has found."""

    ready: list[Ready]
    newest: int
    """The last seq given out."""
    spent: float
    """For how many seconds the server looked."""


async def ready_between(
    session: Session, after: int, upto: int, unknown: Sequence[str] = (), aside_age: float = 0.0
) -> Piece:
    """What is ready among the seqs above `after` up to `upto`, the first of each kind."""
    rows = await session.fetch("ready_between", after, upto, unknown, aside_age)
    ready = [Ready(row["queue"], row["priority"], row["seq"] or 0) for row in rows if row["queue"] is not None]
    last = next(row for row in rows if row["queue"] is None)
    return Piece(ready, last["seq"], max(0.0, last["spent"]))


class Promoted(NamedTuple):
    """What one promotion has done."""

    jobs: int
    next_in: float | None
    """Seconds until the next job comes due."""
    seen: datetime
    """Whoever promotes on from this due time misses only what has committed late."""


async def next_due(session: Session, after: datetime | None = None) -> Promoted | None:
    """What `promote_due` would say if nothing is due; None if something is, a job or the end of a pause."""
    row = (await session.fetch("next_due", after or _EVER))[0]
    return None if row["due"] else Promoted(0, row["next_in"], row["seen"])


async def promote_due(session: Session, room: int, after: datetime | None = None) -> Promoted:
    """Make up to `room` jobs ready that came due, after that moment if one is given, the longest due first."""
    row = (await session.fetch("promote_due", room, after or _EVER))[0]
    return Promoted(row["promoted"], row["next_in"], row["seen"])


async def promote_each(session: Session, room: int, after: datetime) -> int:
    """The same for each queue that has such jobs, with an even share of the room; how many."""
    promoted: int = (await session.fetch("promote_each", room, after))[0]["promoted"]
    return promoted


async def recall_aside(session: Session, tasks: Collection[str]) -> None:
    """Make due what was put aside of these tasks."""
    while (await session.fetch("recall_aside", list(tasks), _RECALLED))[0]["recalled"] == _RECALLED:
        pass


async def publish_sleep(session: Session, worker: WorkerId, queues: Sequence[str], seconds: float) -> None:
    """Tell producers that this worker sleeps; the caller must look once more before it does."""
    await session.fetch("publish_sleep", worker, list(queues), seconds)


async def end_sleep(session: Session, worker: WorkerId, queues: Sequence[str]) -> None:
    """Take the sleep flags back."""
    await session.fetch("end_sleep", worker, list(queues))


def moment_of(sent: bytes) -> datetime:
    """A time as PostgreSQL sends it: to make datetimes of four that hardly anybody reads took half of a claim's time.

    One for which Python has no word is its first or last.
    """
    try:
        return _ZERO + timedelta(microseconds=int.from_bytes(sent, "big", signed=True))
    except OverflowError:  # infinity
        return datetime.max.replace(tzinfo=UTC) if sent[0] < 0x80 else _EVER


def waited(claim: Claim) -> float:
    """For how many seconds a job had been due when it was claimed; 0 if it was not due, as with a broken clock."""
    due = int.from_bytes(claim["due_at"], "big", signed=True)
    return max(0.0, (int.from_bytes(claim["claimed_at"], "big", signed=True) - due) * 1e-6)


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
        due_at=moment_of(claim["due_at"]),
        created_at=moment_of(claim["created_at"]),
        claimed_at=moment_of(claim["claimed_at"]),
        timeout=claim["timeout"],
        deadline=claim["deadline"] and moment_of(claim["deadline"]),
        expires_at=claim["expires_at"] and moment_of(claim["expires_at"]),
        origin=claim["origin"],
        lease_until=moment_of(claim["lease_until"]),
        key=claim["key"],
        bundle_id=claim["bundle_id"] and as_uuid(claim["bundle_id"]),
        gates=tuple(claim["gates"] or ()),
        errors=attempt_errors(claim["errors"]),
        args_json=claim["args"],
        meta_json=claim["meta"],
        progress_json=claim["progress"],
        read_at=moment_of(claim["claimed_at"]),
    )
