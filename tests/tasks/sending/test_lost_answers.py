"""The network breaks while single defers are under way: each caller is told what is known, and no job is doubled."""

import asyncio
from uuid import UUID

import asyncpg
import pytest

from jobqueue.app import App
from jobqueue.base.errors import DeferUnknown
from jobqueue.base.job import NewJob
from jobqueue.store.connection import pool
from jobqueue.tasks.sending import surely as sending
from jobqueue.tasks.sending.coalescer import Coalescer
from tests.support.jobs.coalescing import WARM, end_of, kinds, send_all, sender, watched
from tests.support.jobs.store import connect, new_job, new_jobs, open_database
from tests.support.jobs.stories import overheard
from tests.support.jobs.working import archived, asked, counted
from tests.support.postgres.backends import becomes, change, stored, terminate
from tests.support.postgres.locks import jobs_held
from tests.support.postgres.proxy import Proxy, proxied

SECRET = "marker-7f3a"
REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement and a connection may take a third of a second."""
    for limit in ("STATEMENT_LIMIT", "CONNECT_LIMIT", "CLOSE_LIMIT"):
        monkeypatch.setattr(pool, limit, 0.35)
    monkeypatch.setattr(sending, "CANCEL_LIMIT", 0.35)


async def is_safe_to_send_again(dsn: str, unknown: object, job: NewJob[None]) -> None:
    """The promise of DeferUnknown: its id, sent again with that id, is there once."""
    assert isinstance(unknown, DeferUnknown)
    assert job.id == unknown.id
    async with App(dsn) as app:
        await app.sender.send(new_job(id=unknown.id, resent=True), None)
    assert 1 == await asked(dsn, "select count(*) from jobqueue.job where id = $1", job.id)


@pytest.mark.parametrize("arrived", [True, False], ids=["stored", "not stored"])
@pytest.mark.usefixtures("short_limits")
async def test_a_silent_network_leaves_it_unknown(arrived: bool, database: str) -> None:
    """The network falls silent in mid-insert: after the limit DeferUnknown with the id; sending that again is safe."""
    async with proxied(database) as proxy, sender(proxy.dsn) as coalescer:
        fall_silent(proxy, arrived)
        job = new_job()
        answer = await end_of(asyncio.create_task(coalescer.send(job)))
        assert int(arrived) + WARM == await counted(database)
        proxy.cut()
        proxy.let_pass()

        await is_safe_to_send_again(database, answer, job)


@pytest.mark.parametrize("arrived", [True, False], ids=["stored", "not stored"])
@pytest.mark.usefixtures("short_limits")
async def test_cancelled_in_a_silent_network(arrived: bool, database: str) -> None:
    """Cancelled while the network is silent, a caller waits no longer than the limit and gets DeferUnknown."""
    async with proxied(database) as proxy, sender(proxy.dsn) as coalescer:
        fall_silent(proxy, arrived)
        job = new_job()
        (call,) = await send_all(coalescer, [job])
        call.cancel()
        answer = await end_of(call)
        proxy.cut()
        proxy.let_pass()

        await is_safe_to_send_again(database, answer, job)


def fall_silent(proxy: Proxy, arrived: bool) -> None:
    """From now on no answer comes back; whether questions reach the server is another matter."""
    if arrived:
        proxy.lose_answers()
    else:
        proxy.stall()


async def test_a_lost_answer_is_asked_for_once_more(database: str) -> None:
    """The connection breaks after the commit and before the answer: sent again by itself, stored once, no duplicate."""
    async with proxied(database) as proxy, sender(proxy.dsn) as coalescer:
        proxy.lose_answers()
        jobs = new_jobs(30)
        calls = await send_all(coalescer, jobs)
        await stored(database, 30 + WARM)
        proxy.cut()
        proxy.let_pass()
        answers = await asyncio.gather(*calls)

    assert [(job.id, False) for job in jobs] == [(answer.id, answer.duplicate) for answer in answers]
    assert 30 + WARM == await counted(database)


async def test_a_lost_answer_about_a_job_that_has_run(database: str) -> None:
    """The job ran and ended between the lost answer and the second try: it does not run again."""
    runs: list[UUID] = []
    worker = App(database)

    @worker.task(name="task")
    async def run() -> None:
        runs.append(UUID(int=0))

    async with proxied(database) as proxy, sender(proxy.dsn) as coalescer:
        await worker.run_until_idle()
        runs.clear()
        proxy.lose_answers()
        (call,) = await send_all(coalescer, new_jobs(1))
        await stored(database, 1)
        await worker.run_until_idle()
        proxy.cut()
        proxy.let_pass()
        assert not (await call).duplicate
    await worker.run_until_idle()

    assert 1 == len(runs)
    assert (0, 1 + WARM) == (await counted(database), await archived(database))
    await worker.close()


@pytest.mark.parametrize("then", ["breaks", "is refused"])
@pytest.mark.usefixtures("short_limits")
async def test_a_lost_answer_and_then_no_server(then: str, database: str) -> None:
    """The answer is lost and the second try fails: the job may be in, so it is unknown, not failed."""
    async with proxied(database) as proxy, sender(proxy.dsn) as coalescer:
        proxy.lose_answers()
        job = new_job()
        (call,) = await send_all(coalescer, [job])
        await stored(database, 1 + WARM)
        if then == "breaks":
            proxy.break_all()
        else:
            proxy.go_away()
        answer = await end_of(call)

        await is_safe_to_send_again(database, answer, job)


async def test_no_server_at_all_is_no_mystery(database: str) -> None:
    """If no connection could be had nothing was sent: the error of the connection, and no DeferUnknown."""
    async with proxied(database) as proxy, sender(proxy.dsn) as coalescer:
        proxy.break_all()
        await becomes(database, 0)
        answers = await asyncio.gather(*(coalescer.send(job) for job in new_jobs(3)), return_exceptions=True)
        proxy.let_pass()
        await coalescer.send(new_job())

    assert all(isinstance(answer, OSError | asyncpg.PostgresError) for answer in answers), answers
    assert 1 + WARM == await counted(database)


async def test_a_killed_backend_costs_nobody_their_job(database: str) -> None:
    """The backend is terminated while the batch waits for a lock: the batch is sent again on another one."""
    async with sender(database) as coalescer, jobs_held(database) as hold:
        calls = await send_all(coalescer, new_jobs(10))
        await hold.waited_for_by(1)
        await terminate(database, "wait_event_type = 'Lock'")
        await hold.waited_for_by(1)
        await hold.release()
        answers = await asyncio.gather(*calls)

    assert not any(answer.duplicate for answer in answers)
    assert 10 + WARM == await counted(database)


async def test_a_server_that_shuts_down_in_between_is_asked_again(database: str) -> None:
    """A statement that the server ended because it shuts down or is full is sent once more before anybody is told."""
    await change(database, FAILS_ONCE)
    async with open_database(database) as opened:
        coalescer = Coalescer(opened)
        await asyncio.gather(*(coalescer.send(job) for job in new_jobs(3)))
        await coalescer.close()

    assert 3 == await counted(database)


FAILS_ONCE = """
create sequence tries;
create function fail_once() returns trigger language plpgsql as $$ begin
  if nextval('tries') = 1 then raise exception 'no' using errcode = '57P02'; end if;
  return null;
end $$;
create trigger fail_once before insert on jobqueue.job for each statement execute function fail_once();
"""


@pytest.mark.usefixtures("short_limits")
async def test_abandoned_answers_are_not_logged(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S3-20: whatever becomes of rows whose callers have gone, nothing of them is logged."""
    await change(database, REFUSE_BAD)
    async with sender(database) as coalescer:
        with overheard(caplog) as heard:
            async with jobs_held(database) as hold:
                jobs = [new_job(args=f'{{"text": "bad {SECRET} {number}"}}') for number in range(5)]
                calls = await send_all(coalescer, jobs)
                await hold.waited_for_by(1)
                for call in calls:
                    call.cancel()
                answers = await asyncio.gather(*calls, return_exceptions=True)
            await coalescer.send(new_job())
            del calls, answers

    assert [] == heard


@pytest.mark.usefixtures("short_limits")
async def test_a_writer_without_a_connection_ends_quietly(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """No connection comes free in time: each caller is told, nothing is logged, and the next call works."""
    async with watched(database) as (coalescer, _), connect(database):
        own = coalescer._session.database.pool
        taken = [await own.acquire(), await own.acquire()]
        with overheard(caplog) as heard:
            answers = await asyncio.gather(*(coalescer.send(job) for job in new_jobs(5)), return_exceptions=True)
        assert coalescer._writer is not None
        assert coalescer._writer.exception() is None, "asyncio would log it, for nobody asks"
        for connection in taken:
            await own.release(connection)
        await coalescer.send(new_job())

    assert {TimeoutError} == set(kinds(answers))
    assert [] == heard
