"""Claims are renewed in one statement, which waits for nobody and tells what has become of each."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from jobqueue.base.job import WorkerId
from jobqueue.base.outcome import Released, Retried
from jobqueue.store import workers
from jobqueue.store.claims import Claim
from jobqueue.store.claims import claim as claim_jobs
from jobqueue.store.connection.session import Session
from jobqueue.store.leases import Answer, Kept, Renewal, pardon, renew, take_expired
from jobqueue.store.workers import Registration
from tests.support.jobs.store import (
    LEASE,
    WORKER,
    claim,
    claim_one,
    connect,
    failure,
    finish,
    insert,
    new_job,
    new_jobs,
    open_session,
    open_sessions,
)
from tests.support.patience import PATIENCE, scaled
from tests.support.rounds import rounds

OTHER = WorkerId(UUID(int=7))
ALIVE = 15.0
TOLD = Registration("tests", "0", ["*"], 1, ALIVE, None, None)


def kept(*rows: Claim, started: bool = True) -> list[Kept]:
    return [Kept(row["id"], row["fence"], started) for row in rows]


async def fates(session: Session, claims: Sequence[Kept], lease: float = LEASE) -> list[Renewal]:
    """What became of each claim, in their order."""
    answer = await renew(session, WORKER, lease, ALIVE, claims)
    return [answer.renewals[each.fence] for each in claims]


async def test_a_renewal_gives_a_claim_a_new_lease(database: str) -> None:
    """S4-60: the lease counts from the renewal, on the server's clock; other claims keep theirs."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *new_jobs(3))
        rows = await claim(session)
        assert [Renewal.RENEWED] * 2 == await fates(session, kept(*rows[:2]), lease=500.0)

        left = "select extract(epoch from lease_until - now())::float from jobqueue.job order by seq"
        seconds = [row[0] for row in await connection.fetch(left)]
    assert all(490 < each <= 500 for each in seconds[:2])
    assert seconds[2] <= LEASE


async def test_a_locked_claim_is_busy_and_nobody_waits(database: str) -> None:
    """S4-61: whoever has a row locked, our own finish perhaps, is not waited for; the other claims are renewed."""
    async with open_sessions(database, 2) as (session, other):
        ids = await insert(session, *new_jobs(3))
        rows = await claim(session)
        async with other.transaction():
            await finish(other, rows[1])
            async with asyncio.timeout(PATIENCE):
                found = await fates(session, kept(*rows))
        assert [Renewal.RENEWED, Renewal.BUSY, Renewal.RENEWED] == found
        assert [Renewal.RENEWED, Renewal.GONE, Renewal.RENEWED] == await fates(session, kept(*rows))
    assert ids[1] == rows[1]["id"]


async def given_back(session: Session, row: Claim) -> None:
    await finish(session, row, outcome=Released())


async def failed(session: Session, row: Claim) -> None:
    await finish(session, row, outcome=Retried(failure(), delay=60.0))


async def finished(session: Session, row: Claim) -> None:
    await finish(session, row)


async def claimed_anew(session: Session, row: Claim) -> None:
    await finish(session, row, outcome=Released())
    await claim_one(session)


async def deleted(session: Session, row: Claim) -> None:
    async with connect_of(session) as connection:
        await connection.execute("delete from jobqueue.job where id = $1", row["id"])


def connect_of(session: Session) -> Any:
    return session.database.connection()


@pytest.mark.parametrize("end", [given_back, failed, finished, claimed_anew, deleted])
async def test_a_claim_that_ended_is_gone(database: str, end: Callable[[Session, Claim], Awaitable[None]]) -> None:
    """S1-26: whatever ended a claim, its renewal changes nothing, and says that it is gone."""
    async with open_session(database) as session:
        await insert(session, new_job())
        row = await claim_one(session)
        await end(session, row)
        before = await leases(session)
        assert [Renewal.GONE] == await fates(session, kept(row), lease=500.0)
        assert before == await leases(session)


async def leases(session: Session) -> list[datetime | None]:
    async with connect_of(session) as connection:
        return [row[0] for row in await connection.fetch("select lease_until from jobqueue.job")]


async def test_what_was_started_stays_so(database: str) -> None:
    """A beat may tell that a handler has started, never that it has not."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *new_jobs(2))
        rows = await claim_jobs(session, WORKER, 1, LEASE, {"default": 2}, 2, idle=1)

        async def started() -> list[bool]:
            return [row[0] for row in await connection.fetch("select started from jobqueue.job order by seq")]

        assert [True, False] == await started()
        await fates(session, kept(*rows, started=False))
        assert [True, False] == await started()
        await fates(session, kept(rows[1]))
        await fates(session, kept(*rows, started=False))
        assert [True, True] == await started()


@pytest.mark.parametrize("jobs", [0, 1])
async def test_a_beat_vouches_for_its_worker(database: str, jobs: int) -> None:
    """A beat moves its worker's row, also without a claim, and no other; it says whether the row is there at all."""
    async with open_session(database) as session, connect(database) as connection:
        if jobs:
            await insert(session, *new_jobs(jobs))
        claims = kept(*await claim(session))
        renewals = {each.fence: Renewal.RENEWED for each in claims}
        assert Answer(known=False, renewals=renewals, cancelled=set()) == await renew(
            session, WORKER, LEASE, ALIVE, claims
        )
        await workers.register(session, WORKER, TOLD)
        await workers.register(session, OTHER, TOLD)
        await connection.execute(
            "update jobqueue.worker set alive_until = now() - interval '1 h', seen_at = '2000-01-01'"
        )
        answer = await renew(session, WORKER, LEASE, ALIVE, claims)
        assert Answer(known=True, renewals=renewals, cancelled=set()) == answer

        alive = await connection.fetch(
            "select id, extract(epoch from alive_until - now())::float as left, seen_at > '2000-01-01' as seen"
            " from jobqueue.worker"
        )
    (ours, theirs) = sorted(alive, key=lambda row: row["id"] == OTHER)
    assert (jobs, True, False) == (len(claims), ours["seen"], theirs["seen"])
    assert theirs["left"] < 0 < ALIVE - 5 < ours["left"] <= ALIVE


async def test_a_claim_given_up_for_want_of_an_answer_is_not_lost(database: str) -> None:
    """S4-66: whoever takes back claims of its own says which it gave up unheard; the others count as lost."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(2))
        unheard, silent = await claim(session, lease=-1.0)
        async with session.transaction():
            rows = await take_expired(session, WORKER, 10, (), 0.0, unheard=[unheard["fence"]])
    assert {unheard["id"]: (0, 0), silent["id"]: (1, 0)} == {row["id"]: (row["lost"], row["crashes"]) for row in rows}


async def test_claims_are_told_apart_without_a_row(database: str) -> None:
    """A worker whose row somebody deleted still renews its claims: the row is evidence only (A8)."""
    async with open_session(database) as session:
        await insert(session, new_job())
        row = await claim_one(session)
        answer = await renew(session, WORKER, LEASE, ALIVE, kept(row))
    assert Answer(known=False, renewals={row["fence"]: Renewal.RENEWED}, cancelled=set()) == answer


async def test_two_hundred_claims_are_one_statement(database: str) -> None:
    """S4-60: a beat is one statement, however many jobs run, also if they are in no order."""
    statements: list[str] = []
    async with open_session(database) as session:
        await insert(session, *new_jobs(200))
        rows = await claim(session, 200)
        random.Random(1).shuffle(rows)  # noqa: S311 - a seed to repeat it by
        await fates(session, kept(*rows))  # prepares it
        with session._connection.query_logger(lambda record: statements.append(record.query)):
            assert [Renewal.RENEWED] * 200 == await fates(session, kept(*rows))
    assert 1 == len(statements)


async def test_a_large_beat_stays_quick(database: str) -> None:
    """E3: 2 000 claims are renewed in well under a second, whatever the planner knows of the table."""
    loop = asyncio.get_running_loop()
    async with open_session(database) as session:
        await insert(session, *new_jobs(2_000))
        rows = await claim(session, 2_000)
        began = loop.time()
        assert [Renewal.RENEWED] * 2_000 == await fates(session, kept(*rows))
    assert loop.time() - began < scaled(1.0)


async def test_only_ones_own_crash_is_taken_back(database: str) -> None:
    """Protocols A4: a worker that lives takes back the last crash if it was blamed for it: a lost claim."""
    async with open_session(database) as session, connect(database) as connection:
        jobs = await insert(session, *new_jobs(4))
        stories = ([WORKER], [OTHER], [WORKER, OTHER], [OTHER, WORKER])
        for id, story in zip(jobs, stories, strict=True):
            errors = [{"class": "WorkerCrashed", "worker": str(worker)} for worker in story]
            blame = "update jobqueue.job set crashes = $2, errors = $3::jsonb where id = $1"
            await connection.execute(blame, id, len(story), json.dumps(errors))
        await pardon(session, WORKER, jobs, counts=True)
        await pardon(session, WORKER, jobs, counts=True)
        counted = "select crashes, lost, jsonb_array_length(errors) from jobqueue.job order by seq"
        told = [tuple(row) for row in await connection.fetch(counted)]
    assert [(0, 1, 0), (1, 0, 1), (2, 0, 2), (1, 1, 1)] == told


async def test_a_finishing_worker_is_not_held_up_by_a_pardon(database: str) -> None:
    """A pardon waits for nobody: a job that another has locked keeps its story."""
    async with open_sessions(database, 2) as (session, other), asyncio.timeout(PATIENCE):
        await insert(session, new_job())
        row = await claim_one(session)
        async with other.transaction():
            await finish(other, row)
            await pardon(session, WORKER, [row["id"]], counts=True)
        assert [] == await leases(session)


async def test_beats_and_finishes_never_lock_each_other_out(database: str) -> None:
    """Protocols A9: beats of the same claims in any order beside their finish: no deadlock, no false answer."""
    chosen = random.Random(4)  # noqa: S311 - a seed to repeat it by
    async with open_sessions(database, 4) as (session, *others):
        for _ in range(rounds(12)):
            await insert(session, *new_jobs(300))
            rows = await claim(session, 300)
            ends, stays = rows[::2], rows[1::2]
            ended, _, one, two = await asyncio.gather(
                finish(session, *chosen.sample(ends, len(ends))),
                finish(others[0], *chosen.sample(ends, len(ends)), outcome=Released()),
                renew(others[1], WORKER, LEASE, ALIVE, kept(*chosen.sample(rows, len(rows)))),
                renew(others[2], WORKER, LEASE, ALIVE, kept(*chosen.sample(rows, len(rows)))),
            )
            for answer in (one, two):
                assert Renewal.GONE not in {answer.renewals[row["fence"]] for row in stays}
            assert ended <= {row["id"] for row in ends}
            await finish(session, *rows)
            await empty(session)


async def empty(session: Session) -> None:
    async with connect_of(session) as connection:
        await connection.execute("delete from jobqueue.job")
