"""Claims are kept: renewed while their worker lives, taken back when it does not."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias
from uuid import UUID

import asyncpg

from jobqueue.base.job import WorkerId
from jobqueue.base.outcome import Outcome, Released
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.outcomes import Ended, write

EVERYWHERE = (-(2**63), 2**63 - 1)
"""All seqs."""

Expired: TypeAlias = asyncpg.Record
"""A claim that nobody holds any more, columns as in `leases.sql`."""


class Renewal(Enum):
    """What became of a claim that was to be renewed."""

    RENEWED = auto()
    BUSY = auto()
    """Somebody has the row locked, our own finish perhaps: nothing is known, ask again."""
    GONE = auto()


@dataclass(frozen=True, slots=True)
class Kept:
    """A claim to renew."""

    id: UUID
    fence: int
    started: bool
    """True once its handler runs: only then can the job have killed its worker."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the database says to a beat."""

    known: bool
    """False: the worker's own row is not there."""
    renewals: dict[int, Renewal]
    """What became of each claim, by its fence."""
    cancelled: set[int]
    """The claims on jobs that were asked to end."""


async def renew(session: Session, worker: WorkerId, lease: float, alive: float, claims: Sequence[Kept]) -> Answer:
    """Renew these claims for `lease` seconds.

    The worker counts as alive for `alive` seconds: no longer than any claim of its that was left out this time.
    """
    if not claims:
        return Answer(bool(await session.fetch("stay_alive", worker, alive)), {}, set())
    ordered = sorted(claims, key=lambda kept: kept.id)  # every writer locks in id order
    rows = await session.fetch(
        "renew_claims", worker, lease, alive,
        [kept.id for kept in ordered], [kept.fence for kept in ordered], [kept.started for kept in ordered],
    )  # fmt: skip
    seen: dict[str, set[int]] = {"renewed": set(), "present": set(), "cancel": set()}
    for row in rows[1:]:
        seen[row["state"]].add(row["fence"])

    def fate(fence: int) -> Renewal:
        if fence in seen["renewed"]:
            return Renewal.RENEWED
        return Renewal.BUSY if fence in seen["present"] else Renewal.GONE

    return Answer(rows[0]["known"], {kept.fence: fate(kept.fence) for kept in ordered}, seen["cancel"])


async def mark_started(database: Database, worker: WorkerId, id: UUID, fence: int) -> bool:
    """Note that a claimed job begins now; False if the claim is lost."""
    return bool(await database.fetch("mark_started", id, fence, worker))


async def any_expired(
    session: Session, dead: Collection[UUID], settle: float, piece: tuple[int, int] = EVERYWHERE
) -> bool:
    """Whether `take_expired` would find a claim, which costs more to ask."""
    return bool((await session.fetch("any_expired", list(dead), settle, *piece))[0]["expired"])


async def take_expired(
    session: Session,
    worker: WorkerId,
    page: int,
    dead: Collection[UUID],
    settle: float,
    skip: Collection[UUID] = (),
    max_crashes: int = 3,
    piece: tuple[int, int] = EVERYWHERE,
    unheard: Collection[int] = (),
) -> list[Expired]:
    """Count and lock up to `page` claims that nobody holds any more, in the session's transaction.

    `worker` asks, so it lives. `dead` are workers whose process is known to be gone. `settle`: seconds after the
    server's start in which no lease counts as over. `skip` are jobs to leave alone. After `max_crashes` a job is dead.
    `piece`: only seqs above the first and up to the second. `unheard`: fences of its own claims that it gave up since
    the database did not answer.
    """
    return await session.fetch(
        "take_expired", worker, page, list(dead), settle, list(skip), max_crashes, *piece, list(unheard)
    )


async def newest_seq(session: Session) -> int:
    """The last place in the order of becoming ready that was given out."""
    seq: int = (await session.fetch("newest_seq"))[0]["seq"]
    return seq


async def write_expired(session: Session, ends: Mapping[UUID, tuple[Expired, Outcome]]) -> dict[UUID, Outcome]:
    """Write what is to become of claims that were taken, in the same transaction; the outcome that each job got.

    The rows say still whose claims they were.
    """
    outcomes = dict[UUID, Outcome]()
    for worker in {row["worker_id"] for row, _ in ends.values()}:
        theirs = [Ended(id, row["fence"], end) for id, (row, end) in ends.items() if row["worker_id"] == worker]
        outcomes |= (await write(session, worker, theirs)).outcomes
    return outcomes


async def pardon(session: Session, worker: WorkerId, ids: Iterable[UUID], *, counts: bool) -> None:
    """Take back the crash that was counted against these jobs when this worker was believed dead.

    `counts`: their claims were lost all the same, and not for want of an answer of the database.
    """
    await session.fetch("pardon_jobs", worker, sorted(ids), counts)


async def give_back_strays(
    session: Session,
    worker: WorkerId,
    last_claim: int,
    held: Collection[int],
    piece: tuple[int, int] = EVERYWHERE,
) -> int:
    """Give back what this worker's claims took without its knowledge, up to that claim; how many.

    `held` are the fences that it knows of. `piece` as for `take_expired`.
    """
    rows = await session.fetch("strays", worker, last_claim, list(held), *piece)
    written = await write(session, worker, [Ended(row["id"], row["fence"], Released()) for row in rows])
    return len(written.outcomes)
