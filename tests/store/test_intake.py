"""Jobs come in: all or none, in order, once each, whatever is sent again."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobqueue.base.job import NewJob, Sent
from jobqueue.store import intake
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.intake import insert_all
from tests.support.jobs.store import (
    advisory_locks,
    claim,
    claim_one,
    connect,
    finish,
    insert,
    new_job,
    new_jobs,
    open_session,
    open_sessions,
    somebody_waits,
)
from tests.support.rounds import rounds
from tests.support.waiting import wait_until


@pytest.mark.parametrize("key", ["k", None], ids=["unique", "plain"])
async def test_a_job_is_stored_as_it_was_given(key: str | None, database: str) -> None:
    """S4-12: every option reaches its column, and all times are counted from the server's clock."""
    job = new_job(
        "mail", '{"to": "a"}', queue="post", priority=-7, delay=100.0, max_attempts=3, timeout=1.5, budget=50.0,
        expires=60.0, origin="shop", meta='{"m": 1}', follow=True, key=key,
    )  # fmt: skip
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, job)
        row = await connection.fetchrow(
            "select *, extract(epoch from due_at - created_at) as delay, now() - created_at as age,"
            " extract(epoch from deadline - due_at) as budget, extract(epoch from expires_at - due_at) as expires"
            " from jobqueue.job"
        )

    assert row is not None
    expected = {
        "id": job.id, "task": "mail", "args": '{"to": "a"}', "queue": "post", "priority": -7, "max_attempts": 3,
        "timeout": 1.5, "origin": "shop", "meta": '{"m": 1}', "key": key, "state": "scheduled", "attempt": 0,
        "follow": 1, "fence": 0, "via": "py", "crashes": 0, "lost": 0, "delay": 100, "budget": 50, "expires": 60,
        "claimed_at": None,
    }  # fmt: skip
    assert expected == {name: row[name] for name in expected}
    assert timedelta() <= row["age"] < timedelta(seconds=10)


async def test_a_given_time_is_kept_and_decides_the_state(database: str) -> None:
    """A job due in the future is scheduled, one due now or before is ready."""
    now = datetime.now(UTC)
    past, future = now - timedelta(hours=1), now + timedelta(hours=1)
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, new_job("a", at=past), new_job("b", at=future), new_job("c"), new_job("d", delay=0.0))
        rows = await connection.fetch("select task, state, due_at from jobqueue.job order by task")

    assert ["ready", "scheduled", "ready", "ready"] == [row["state"] for row in rows]
    assert [past, future] == [row["due_at"] for row in rows[:2]]


async def test_a_batch_keeps_its_order(database: str) -> None:
    """The jobs of one batch become ready in the order in which they were given."""
    jobs = new_jobs(3_000)
    jobs.reverse()  # so that it is not the order of the ids
    async with open_session(database) as session:
        assert [Sent(job.id) for job in jobs] == await insert_all(session, jobs, always=False)

        assert [job.id for job in jobs] == [row["id"] for row in await claim(session, 5_000)]


async def test_chunks_are_one_transaction(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S0-24: a batch beyond any chunk is stored whole, in order; one bad job in its last chunk leaves nothing."""
    monkeypatch.setattr(intake, "CHUNK_ROWS", 100)
    jobs = new_jobs(950)
    async with open_session(database) as session, connect(database) as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await insert_all(session, [*jobs, new_job("x" * 101)], always=False)
        assert 0 == await connection.fetchval("select count(*) from jobqueue.job")

        await insert_all(session, jobs, always=False)
        assert [job.id for job in jobs] == [row["id"] for row in await claim(session, 5_000)]


async def test_a_chunk_is_bounded_in_bytes(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S0-24: large payloads make smaller chunks, each a statement of its own; a larger one still goes alone."""
    monkeypatch.setattr(intake, "CHUNK_BYTES", 1_000)
    sizes = [400, 400, 400, 5_000, 10]
    jobs = [new_job(args='{"x": "' + "x" * size + '"}') for size in sizes]
    async with open_session(database) as session, connect(database) as connection:
        await insert_all(session, jobs, always=False)

        statements = await connection.fetch(
            "select count(*) as jobs from jobqueue.job group by created_at order by min(seq)"
        )
        assert [2, 1, 1, 1] == [row["jobs"] for row in statements]


async def test_a_cut_connection_stores_all_or_none(database: str) -> None:
    """S0-21: the backend ended in mid-batch, wherever that hits, leaves the whole batch or nothing."""
    seen: set[int] = set()
    async with open_session(database) as session, connect(database) as killer:
        for _ in range(rounds(6)):
            jobs = new_jobs(8_000)
            storing = asyncio.create_task(insert_all(session, jobs, always=False))
            await wait_until(lambda: missed_or_inserting(storing, killer), "the batch is on its way")  # noqa: B023 - used at once
            await killer.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'tests'"
            )
            with contextlib.suppress(*DATABASE_ERRORS):
                await storing
            stored = await killer.fetchval("select count(*) from jobqueue.job")
            await killer.execute("truncate jobqueue.job")
            seen.add(stored)

    assert seen <= {0, 8_000}
    assert 0 in seen


async def missed_or_inserting(storing: "asyncio.Task[Any]", connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    """Whether it is under way, or was quicker than this look."""
    return storing.done() or await inserting(connection)


async def inserting(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    return bool(
        await connection.fetchval(
            "select exists (select from pg_stat_activity where datname = current_database()"
            " and application_name = 'tests' and state = 'active')"
        )
    )


# The same job again.


async def test_an_id_that_waits_is_a_duplicate(database: str) -> None:
    """S4-02: the same id a second time reports the job that is there, and changes nothing of it."""
    job = new_job(resent=True)
    async with open_session(database) as session:
        assert [Sent(job.id)] == await insert_all(session, [job], always=False)
        assert [Sent(job.id, duplicate=True)] == await insert_all(session, [replace(job, task="other")], always=False)

        assert "task" == (await claim_one(session))["task"]


async def test_an_id_twice_in_one_batch_is_one_job(database: str) -> None:
    """S4-02: of several new jobs with one id the first is stored, the others are duplicates of it."""
    job = new_job(resent=True)
    async with open_session(database) as session:
        sent = await insert_all(session, [job, new_job(), job], always=False)

        assert [False, False, True] == [answer.duplicate for answer in sent]
        assert 2 == len(await claim(session))


async def test_a_job_that_has_run_is_not_stored_again(database: str) -> None:
    """A resend whose first try was committed, ran and finished is a duplicate, and does not run a second time."""
    job, fresh = new_job(), new_job()
    async with open_session(database) as session:
        await insert(session, job)
        await finish(session, await claim_one(session))

        sent = await insert_all(session, [replace(job, resent=True), replace(fresh, resent=True)], always=False)

        assert [Sent(job.id, duplicate=True), Sent(fresh.id)] == sent
        assert [fresh.id] == [row["id"] for row in await claim(session)]


async def test_a_resend_that_races_with_the_finish_never_runs_twice(database: str) -> None:
    """However a resend and the finish of the same job interleave, the job ends once and stays ended."""
    turns = rounds(75)
    async with open_sessions(database, 2) as (worker, producer), connect(database) as connection:
        for _ in range(turns):
            job = new_job()
            await insert(worker, job)
            row = await claim_one(worker)
            again = replace(job, resent=True)
            _, sent = await asyncio.gather(finish(worker, row), insert_all(producer, [again], always=False))
            assert [Sent(job.id, duplicate=True)] == sent
            assert [] == await claim(worker)
        assert turns == await connection.fetchval("select count(*) from jobqueue.job_archive")


async def test_a_resend_waits_for_a_finish_that_has_not_committed(database: str) -> None:
    """A resend that meets a finish in mid-flight waits for it, sees what it wrote, and takes its own insert back."""
    job = new_job()
    async with open_sessions(database, 2) as (worker, producer), connect(database) as observer:
        await insert(worker, job)
        row = await claim_one(worker)
        async with worker.transaction():
            await finish(worker, row)
            resend = asyncio.create_task(insert_all(producer, [replace(job, resent=True)], always=False))
            await wait_until(lambda: somebody_waits(observer), "the resend waits for the finish")
        assert [Sent(job.id, duplicate=True)] == await resend
        assert 0 == await observer.fetchval("select count(*) from jobqueue.job")


async def test_a_large_batch_wakes_without_holding_a_lock(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the chunks of a batch nobody who goes to sleep has to wait for its end."""
    monkeypatch.setattr(intake, "CHUNK_ROWS", 10)

    class Watching:
        """Looks at the locks that its transaction holds after each statement."""

        def __init__(self) -> None:
            self.held: list[int] = []

        async def fetch(self, name: str, *values: object) -> list[asyncpg.Record]:
            rows = await session.fetch(name, *values)
            self.held.append(await advisory_locks(observer))
            return rows

        def transaction(self) -> contextlib.AbstractAsyncContextManager[None]:
            return session.transaction()

    jobs: list[NewJob[None]] = new_jobs(30)
    async with open_session(database) as session, connect(database) as observer:
        watching = Watching()
        await insert_all(watching, jobs, always=False)

    assert [0, 0, 0] == watching.held
