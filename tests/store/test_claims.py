"""Jobs go out: each to one worker, best first, with a fence of its own."""

import asyncio
from datetime import UTC, datetime
from itertools import cycle
from uuid import UUID

import pytest

from jobqueue.base.job import Job, JobState
from jobqueue.base.outcome import Released, Retried
from jobqueue.store import claims
from jobqueue.store.claims import EVERYTHING, Claim, moment_of
from jobqueue.store.connection.session import Session
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
    ready_queues,
)
from tests.support.patience import PATIENCE, scaled
from tests.support.rounds import rounds


async def test_each_of_many_jobs_is_claimed_once(database: str) -> None:
    """S1-11, S3-05, S4-28: eight sessions claim 10 000 jobs at once, and every job goes to exactly one of them."""

    async def take_all(session: Session) -> list[UUID]:
        mine: list[UUID] = []
        for size in cycle([300, 1, 17, 150, 4]):
            rows = await claims.claim(session, WORKER, 1, LEASE, {"default": size}, 500)
            if not rows:
                break
            mine += [row["id"] for row in rows]
        return mine

    jobs = new_jobs(rounds(10_000))
    async with open_sessions(database, 8) as sessions:
        await insert(sessions[0], *jobs)
        shares = await asyncio.gather(*map(take_all, sessions))

    everything = [id for share in shares for id in share]
    assert len(jobs) == len(everything)
    assert {job.id for job in jobs} == set(everything)
    assert all(shares), "somebody got nothing: they did not work at once"


@pytest.mark.parametrize("analysed", [False, True])
async def test_claims_come_by_priority_then_by_age(database: str, analysed: bool) -> None:
    """S4-07: whatever the planner knows of the table, jobs come in the exact order: priority, then age."""
    jobs = [new_job(priority=number * 5 % 7 - 3) for number in range(2_000)]
    expected = [job.id for job in sorted(jobs, key=lambda job: -job.priority)]
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *jobs)
        if analysed:
            await connection.execute("vacuum analyze jobqueue.job")
        taken = [row["id"] for size in (1, 7, 200, 500, 3, 2_000) for row in await claim(session, size)]

    assert expected == taken


async def test_jobs_that_another_claims_are_passed_over(database: str) -> None:
    """S3-05: a lost race is silent: who comes second gets the next jobs and does not wait."""
    async with open_sessions(database, 2) as (one, two):
        ids = await insert(one, *new_jobs(10))
        async with one.transaction():
            assert ids[:4] == [row["id"] for row in await claim(one, 4)]
            async with asyncio.timeout(PATIENCE):
                assert ids[4:] == [row["id"] for row in await claim(two)]


async def test_each_queue_has_its_own_room(database: str) -> None:
    """A claim takes at most so many of each queue, at most so many in all, and nothing of other queues."""
    queues = {"a": 2, "b": 5, "c": 3, "empty": 4}
    async with open_session(database) as session:
        for queue in ("a", "b", "c", "other"):
            await insert(session, *new_jobs(4, queue=queue))

        rows = await claims.claim(session, WORKER, 1, LEASE, queues, 100)
        assert {"a": 2, "b": 4, "c": 3} == count(rows)
        rows = await claims.claim(session, WORKER, 1, LEASE, queues, 2)
        assert 2 == len(rows)
        assert [] == await claims.claim(session, WORKER, 1, LEASE, {}, 10)


def count(rows: list[Claim]) -> dict[str, int]:
    queues = [row["queue"] for row in rows]
    return {queue: queues.count(queue) for queue in sorted(set(queues))}


@pytest.mark.parametrize("change", ["state = 'scheduled'", "state = 'blocked'"])
async def test_only_ready_jobs_are_claimed(database: str, change: str) -> None:
    """Scheduled and blocked jobs are not taken by a claim, and their queue is not a ready one."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, new_job())
        await connection.execute(f"update jobqueue.job set {change}")

        assert [] == await claim(session)
        assert [] == await ready_queues(session)


async def test_a_claim_is_written_on_the_row(database: str) -> None:
    """S4-12: worker, claim number, fence, attempt and lease stand on the row, by the server's clock."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *new_jobs(3))
        rows = await claim(session, 2, number=7, lease=30.0)
        stored = await connection.fetch(
            "select *, extract(epoch from lease_until - claimed_at) as lease, now() - claimed_at < '10 s' as just_now"
            " from jobqueue.job order by seq"
        )

    for row, claimed in zip(stored, rows, strict=False):
        assert ("running", WORKER, 7, 1, 30, True) == (
            row["state"], row["worker_id"], row["claim_no"], row["attempt"], row["lease"], row["started"]
        )  # fmt: skip
        assert row["just_now"]
        assert (row["fence"], row["lease_until"]) == (claimed["fence"], moment_of(claimed["lease_until"]))
        assert 0 < row["fence"]
    assert ("ready", 0, 0) == (stored[2]["state"], stored[2]["fence"], stored[2]["attempt"])


async def test_a_fence_is_never_used_again(database: str) -> None:
    """Every claim draws a higher fence, also of a job that was released, and whose attempt number comes again."""
    fences: list[int] = []
    attempts: list[int] = []
    async with open_session(database) as session:
        await insert(session, new_job(), new_job())
        for outcome in (Released(), Retried(failure(), delay=0.0), Released(), Released()):
            rows = await claim(session)
            fences.append(max(row["fence"] for row in rows))
            attempts.append(rows[0]["attempt"])
            await finish(session, *rows, outcome=outcome)

    assert sorted(set(fences)) == fences
    assert [1, 1, 2, 2] == attempts


async def test_a_lost_claim_is_found_again(database: str) -> None:
    """What a claim took whose answer was lost is known by worker and claim number, while it is still running."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(5))
        first = await claim(session, 2, number=1)
        second = await claim(session, 2, number=2)
        await finish(session, second[0])

        async def strays(last_claim: int, *held: int, worker: UUID = WORKER) -> set[int]:
            return {row["fence"] for row in await session.fetch("strays", worker, last_claim, held, *EVERYTHING[2:])}

        assert set() == await strays(0)
        assert {row["fence"] for row in first} == await strays(1) == await strays(2, second[1]["fence"])
        assert {row["fence"] for row in first} | {second[1]["fence"]} == await strays(2)
        assert set() == await strays(2, worker=UUID(int=5))


async def test_ready_queues_are_found_without_knowing_them(database: str) -> None:
    """Every queue with a ready job is named once, in order, and no other."""
    async with open_session(database) as session:
        for queue in ("b", "a", "ä", "a", "B"):
            await insert(session, new_job(queue=queue))
        await insert(session, new_job(queue="later", delay=100.0))
        assert ["B", "a", "b", "ä"] == await ready_queues(session)

        await claim(session, queues=["a", "B"])
        assert ["b", "ä"] == await ready_queues(session)


async def test_a_claimed_row_is_the_job_that_handlers_see(database: str) -> None:
    """The claim carries all that a handler may want to know, with what is left of its times."""
    job = new_job(
        "mail", '{"to": [1]}', queue="post", priority=3, max_attempts=4, timeout=2.0, budget=50.0, expires=40.0,
        origin="shop", meta='{"m": null}', key="k",
    )  # fmt: skip
    async with open_session(database) as session:
        await insert(session, job)
        row = await claim_one(session, queues=["post"])
        await finish(session, row, outcome=Retried(failure("first"), delay=0.0))
        row = await claim_one(session, queues=["post"])
        seen = claims.job_of(row)

    assert isinstance(seen, Job)
    assert (job.id, "mail", "post", JobState.RUNNING, 3, 2, 4) == (
        seen.id, seen.task, seen.queue, seen.state, seen.priority, seen.attempt, seen.max_attempts
    )  # fmt: skip
    assert ({"to": [1]}, {"m": None}, "shop", "k", 2.0) == (seen.args, seen.meta, seen.origin, seen.key, seen.timeout)
    assert ["first"] == [error.message for error in seen.errors]
    assert 50 - scaled(5) < row["budget_left"] < 50
    assert 40 - scaled(5) < row["start_left"] < 40


FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-11-28 12:34:56.789123+00", datetime(2026, 11, 28, 12, 34, 56, 789123, UTC)),
        ("1970-01-01 00:00:00+00", datetime(1970, 1, 1, tzinfo=UTC)),
        ("1999-12-31 23:59:59.999999+00", datetime(1999, 12, 31, 23, 59, 59, 999999, UTC)),
        ("infinity", LAST),
        ("99999-01-01 00:00:00+00", LAST),
        ("-infinity", FIRST),
        ("4000-01-01 00:00:00+00 BC", FIRST),
    ],
)
async def test_a_time_is_read_as_it_was_written(database: str, written: str, read: datetime) -> None:
    """What a claim brings as bytes is the time that PostgreSQL has; one that Python has no word for breaks nothing."""
    async with connect(database) as connection:
        sent = await connection.fetchval("select timestamptz_send($1::text::timestamptz)", written)

    assert read == moment_of(sent)
