"""Jobs are read: one, many, counted, unfinished and finished alike."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobqueue.base.job import Job, JobState, Sent
from jobqueue.base.outcome import Cancelled, Dead, Outcome, Retried
from jobqueue.base.steering import Action, Change
from jobqueue.store import steering
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.intake import insert_all
from jobqueue.store.looking import lookup, overview
from jobqueue.store.looking.listing import Wanted, list_jobs
from jobqueue.store.schema.statements import channel
from jobqueue.store.workers import Registration, list_workers, register, unregister
from tests.support.jobs.store import (
    WORKER,
    Connection,
    claim,
    claim_one,
    connect,
    failure,
    finish,
    insert,
    new_job,
    new_jobs,
    open_session,
)
from tests.support.patience import scaled


async def page(database: Database, *, after: UUID | None = None, limit: int = 100, **said: Any) -> list[Job]:
    session = Session(database)
    try:
        return await list_jobs(session, Wanted(**said), after=after, limit=limit)
    finally:
        await session.close()


async def one_of_each(session: Session) -> dict[JobState, UUID]:
    """A job in each state that a job can have today."""
    outcomes: dict[JobState, Outcome | None] = {
        JobState.COMPLETED: None, JobState.CANCELLED: Cancelled(), JobState.DEAD: Dead("fatal", failure()),
    }  # fmt: skip
    ids: dict[JobState, UUID] = {}
    for state, outcome in outcomes.items():
        (ids[state],) = await insert(session, new_job())
        await finish(session, await claim_one(session), outcome=outcome)
    (ids[JobState.RUNNING],) = await insert(session, new_job())
    await claim_one(session)
    ids[JobState.SCHEDULED], ids[JobState.READY] = await insert(session, new_job(delay=60.0), new_job())
    return ids


async def test_a_job_is_found_in_every_state(database: str) -> None:
    """S4-01: unfinished or finished, a job is found by its id, with state, times and error; an unknown id is not."""
    async with open_session(database) as session:
        ids = await one_of_each(session)
        found = {state: await lookup.find_job(session.database, id) for state, id in ids.items()}
        assert await lookup.find_job(session.database, new_job().id) is None

    assert set(JobState) - {JobState.BLOCKED} == set(found)
    for state, job in found.items():
        assert job is not None
        assert (ids[state], state) == (job.id, job.state)
        assert state.final == (job.finished_at is not None)
        assert (state == JobState.DEAD) == (job.error is not None)
        assert (state == JobState.RUNNING) == (job.lease_until is not None)


async def test_a_finishing_job_is_seen_exactly_once(database: str) -> None:
    """A finish in flight is seen before or after, never twice and never in between."""
    async with open_session(database) as session, connect(database) as other:
        (id,) = await insert(session, new_job())
        row = await claim_one(session)
        looking = Database.around(session.database.pool, "jobqueue")
        async with session.transaction():
            await finish(session, row)
            assert [(id, "running")] == [(job.id, job.state) for job in await page(looking)]
        assert [(id, "completed")] == [(job.id, job.state) for job in await page(looking)]
        assert 1 == await other.fetchval("select count(*) from jobqueue.job_archive")


@pytest.mark.parametrize("hours", [-400, -20, 20])
async def test_a_wrong_clock_of_the_producer_does_not_hide_a_job(database: str, hours: int) -> None:
    """A finished job is found although its producer's clock, which is in the id, was wrong by most of a day."""
    milliseconds = int((datetime.now(UTC) + timedelta(hours=hours)).timestamp() * 1000)
    id = UUID(int=milliseconds << 80 | new_job().id.int & (1 << 80) - 1)
    assert 7 == id.version
    async with open_session(database) as session:
        await insert(session, new_job(id=id))
        await finish(session, await claim_one(session))
        job = await lookup.find_job(session.database, id)
        assert {id} == await lookup.gone_jobs(session.database, [id])

    assert job is not None
    assert job.state.final


async def test_an_id_without_a_time_is_looked_for_everywhere(database: str) -> None:
    """A job whose caller chose an id of another kind is found as well, in all of the archive."""
    id = uuid4()
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, new_job(id=id))
        await finish(session, await claim_one(session))
        await move_to_yesterday(connection)
        job = await lookup.find_job(session.database, id)
        assert {id} == await lookup.gone_jobs(session.database, [id])

    assert job is not None
    assert "completed" == job.state


@pytest.mark.parametrize("days", [3, 400_000, 2**48 // 86_400_000])
async def test_the_time_in_an_id_is_never_the_answer(database: str, days: int) -> None:
    """A job whose producer's clock was days or ages ahead is found, steered and kept apart like any other."""
    id = UUID(int=min(2**48 - 1, days * 86_400_000 + time.time_ns() // 10**6) << 80 | new_job().id.int & (1 << 80) - 1)
    async with open_session(database) as session:
        await insert(session, new_job(id=id, resent=True))
        await finish(session, await claim_one(session))
        found = await lookup.find_job(session.database, id)
        assert {id} == await lookup.gone_jobs(session.database, [id])
        (again,) = await insert_all(session, [new_job(id=id, resent=True)], always=True)
        looked = await steering.look(session, Action.RETRY, [id])
        retried = await steering.retry(session, [id])
        await finish(session, await claim_one(session))
        deleted = await steering.delete(session, [id])
        gone = await lookup.find_job(session.database, id)

    assert found is not None
    assert (JobState.COMPLETED, Sent(id, duplicate=True)) == (found.state, again)
    assert [{id: Change.DONE}] * 3 == [looked, retried, deleted]
    assert gone is None


async def move_to_yesterday(connection: Connection) -> None:
    await connection.execute("update jobqueue.job_archive set finished_at = finished_at - interval '1 day'")


async def test_filters_and_pages(database: str) -> None:
    """S4-98: each filter gives exactly its jobs, newest first, over both tables, page by page without a gap."""
    async with open_session(database) as session:
        ids = await one_of_each(session)
        mail = await insert(session, *new_jobs(3, task="mail", queue="post", origin="shop"))
        rows = await claim(session, 1, queues=["post"])
        await finish(session, *rows)
        look = session.database

        assert sorted([*ids.values(), *mail], reverse=True) == [job.id for job in await page(look)]
        for state, id in ids.items():
            found = [job.id for job in await page(look, states=frozenset({state}), task="task")]
            assert [id] == found, state
        post, mails, shop = {"queue": "post"}, {"task": "mail"}, {"origin": "shop"}
        alike: list[dict[str, Any]] = [post, mails, shop, {**mails, **shop}]
        for filters in alike:
            assert sorted(mail, reverse=True) == [job.id for job in await page(look, **filters)]
        completed = frozenset({JobState.COMPLETED})
        assert [rows[0]["id"]] == [job.id for job in await page(look, task="mail", states=completed)]
        assert [] == await page(look, task="mail", queue="default")

        paged: list[UUID] = []
        while jobs := await page(look, limit=2, after=paged[-1] if paged else None):
            assert len(jobs) <= 2
            paged += [job.id for job in jobs]
        assert sorted([*ids.values(), *mail], reverse=True) == paged


async def test_counts_are_by_queue_and_state(database: str) -> None:
    """S4-97: how many jobs of each state each queue has, and how long its oldest ready job has waited."""
    async with open_session(database) as session, connect(database) as connection:
        await one_of_each(session)
        await insert(session, *new_jobs(3, queue="post"))
        await connection.execute("update jobqueue.job set due_at = now() - interval '90 s' where queue = 'post'")
        counts = await overview.count_jobs(session.database)

    assert {
        "default": dict.fromkeys(set(JobState) - {JobState.BLOCKED}, 1),
        "post": {JobState.READY: 3},
    } == counts.by_queue
    assert (4, 1, 0) == tuple(counts.by_state[state] for state in (JobState.READY, JobState.DEAD, JobState.BLOCKED))
    assert {"default", "post"} == set(counts.oldest_ready)
    assert 90 <= counts.oldest_ready["post"] < 90 + scaled(10)
    assert 0 <= counts.oldest_ready["default"] < scaled(10)


async def test_whoever_awaits_a_job_is_told_or_finds_it_ended(database: str) -> None:
    """Awaiting marks the unfinished ones, which notify when they end, and only then; the others have ended already."""
    told: list[str] = []
    async with open_session(database) as session, connect(database) as listener:
        done_channel = channel("jobqueue", "done")
        await listener.add_listener(done_channel, lambda *said: told.append(str(said[-1])))
        first, second, third = await insert(session, *new_jobs(3))
        rows = await claim(session)
        await finish(session, rows[0])
        assert {second: True} == await lookup.await_jobs(session.database, [first, second])
        assert {first} == await lookup.gone_jobs(session.database, [first, second, third])

        await finish(session, rows[1], outcome=Retried(failure(), delay=0.0))
        await finish(session, await claim_one(session), rows[2])
        await listener.execute("select pg_notify($1, 'mark')", done_channel)

        assert [str(second), "mark"] == told
        assert {} == await lookup.await_jobs(session.database, [first, second, third])
        assert set() == await lookup.gone_jobs(session.database, [])


async def test_workers_are_listed_while_they_live(database: str) -> None:
    """A worker's row says who runs where since when, by the server's clock, and goes with an orderly end."""
    async with open_session(database) as session, connect(database) as connection:
        await register(session, WORKER, Registration("shop", "1.0", ["a", "b"], 5, 20.0, "here", "4711"))
        (worker,) = await list_workers(session.database)
        now = await connection.fetchval("select now()")
        assert (WORKER, "shop", "1.0", ("a", "b"), 5) == (
            worker.id, worker.app, worker.version, worker.queues, worker.concurrency
        )  # fmt: skip
        assert timedelta() <= now - worker.started_at < timedelta(seconds=10)
        assert worker.alive

        await unregister(session.database, WORKER)
        assert [] == await list_workers(session.database)
