"""Single defers that wait at the same moment share a statement, and nothing else: not a context, not a fate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from jobqueue.app import App
from jobqueue.base.errors import DeferUnknown, InvalidPayload
from jobqueue.base.job import NewJob
from jobqueue.store import pool
from jobqueue.store.pool import Database
from jobqueue.tasks import sending
from jobqueue.tasks.coalescer import Coalescer
from tests.support.backends import becomes, change, stored, terminate
from tests.support.locks import jobs_held
from tests.support.proxy import Proxy, proxied
from tests.support.store import connect, new_job, new_jobs, open_database
from tests.support.stories import overheard, whole_story
from tests.support.working import archived, asked, counted

SECRET = "marker-7f3a"
REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"
WARM = 1
"""Jobs that `sender` has stored already."""


@asynccontextmanager
async def sender(dsn: str) -> AsyncIterator[Coalescer]:
    """A coalescer whose connection is open and knows the statement."""
    async with open_database(dsn, max_size=4) as database:
        coalescer = Coalescer(database)
        await coalescer.send(new_job())
        try:
            yield coalescer
        finally:
            await coalescer.close()


@asynccontextmanager
async def watched(dsn: str) -> AsyncIterator[tuple[Coalescer, list[asyncpg.connection.LoggedQuery]]]:
    """A coalescer, and each statement that it sends."""
    issued: list[Any] = []

    def log(statement: Any) -> None:
        if "jobqueue" in statement.query:  # the driver asks for things of its own
            issued.append(statement)

    async def listen(connection: Any) -> None:
        connection.add_query_logger(log)

    async with asyncpg.create_pool(dsn, min_size=0, max_size=2, init=listen, reset=nothing) as own:
        coalescer = Coalescer(Database.around(own, "jobqueue"))
        yield coalescer, issued
        await coalescer.close()


async def nothing(connection: object) -> None: ...


async def send_all(coalescer: Coalescer, jobs: list[NewJob[None]]) -> list[asyncio.Task[Any]]:
    """Start a call for each job; all of them queue when this returns."""
    calls = [asyncio.create_task(coalescer.send(job)) for job in jobs]
    await asyncio.sleep(0)
    return calls


async def end_of(call: "asyncio.Task[Any]") -> object:
    """What a call gives or raises."""
    await asyncio.wait({call})
    return asyncio.CancelledError() if call.cancelled() else call.exception() or call.result()


def kinds(answers: list[Any]) -> list[type]:
    return [type(answer) for answer in answers]


async def test_who_waits_together_is_sent_together(database: str) -> None:
    """200 concurrent defers make at most two statements, one after the other."""
    async with watched(database) as (coalescer, issued):
        jobs = new_jobs(200)
        answers = await asyncio.gather(*(coalescer.send(job) for job in jobs))

    assert len(issued) <= 2
    assert [job.id for job in jobs] == [answer.id for answer in answers]
    assert 200 == await counted(database)


async def test_a_call_alone_does_not_wait_for_others(database: str) -> None:
    """Defers one after the other have a statement each: nothing is held back to fill a batch."""
    async with watched(database) as (coalescer, issued):
        for job in new_jobs(5):
            await coalescer.send(job)

    assert 5 == len(issued)


async def test_jobs_are_stored_in_the_order_of_their_calls(database: str) -> None:
    """What was deferred first becomes ready first, across batches."""
    jobs = new_jobs(1_200)
    async with sender(database) as coalescer:
        await asyncio.gather(*(coalescer.send(job) for job in jobs))

    stored_ids = await asked(database, "select array_agg(id order by seq) from jobqueue.job")
    assert [job.id for job in jobs] == stored_ids[WARM:]


async def test_a_batch_is_bounded_in_rows(database: str) -> None:
    """No statement has more than 500 rows."""
    async with watched(database) as (coalescer, issued):
        await asyncio.gather(*(coalescer.send(job) for job in new_jobs(1_200)))

    assert [500, 500, 200] == [len(statement.args[0]) for statement in issued]


async def test_a_batch_is_bounded_in_bytes(database: str) -> None:
    """No statement has more than 1 MiB of payload, unless one row alone has."""
    sizes = [400_000, 400_000, 400_000, 1_000_000, 1_100_000, 10, 10]
    async with watched(database) as (coalescer, issued):
        jobs = [new_job(args=f'{{"text": "{"x" * size}"}}') for size in sizes]
        await asyncio.gather(*(coalescer.send(job) for job in jobs))

    assert [2, 1, 1, 1, 2] == [len(statement.args[0]) for statement in issued]


async def test_the_writer_inherits_nobodys_context(database: str) -> None:
    """The statement runs in an empty context: no trace or log id of the caller who came first is on it."""
    trace: ContextVar[str] = ContextVar("trace", default="nobody's")
    seen: list[str] = []

    async def listen(connection: Any) -> None:
        connection.add_query_logger(lambda statement: seen.append(trace.get()))

    async def call(coalescer: Coalescer, number: int) -> None:
        trace.set(f"caller {number}")
        await coalescer.send(new_job())

    async with asyncpg.create_pool(database, min_size=0, max_size=1, init=listen, reset=nothing) as own:
        coalescer = Coalescer(Database.around(own, "jobqueue"))
        await asyncio.gather(*(call(coalescer, number) for number in range(10)))
        await coalescer.close()

    assert {"nobody's"} == set(seen)


async def test_all_cancelled_while_they_queue_send_nothing(database: str) -> None:
    """S0-11: when every caller was cancelled before a connection came free, no statement is sent for them."""
    async with watched(database) as (coalescer, issued):
        own = coalescer._session.database.pool
        taken = [await own.acquire(), await own.acquire()]
        calls = await send_all(coalescer, new_jobs(20))
        for call in calls:
            call.cancel()
        assert [asyncio.CancelledError] * 20 == kinds(await asyncio.gather(*calls, return_exceptions=True))
        for connection in taken:
            await own.release(connection)
        await coalescer.send(new_job())

    assert 1 == len(issued)
    assert 1 == await counted(database)


async def test_cancelled_behind_a_batch_that_is_under_way(database: str) -> None:
    """S0-11: a caller who queues behind a batch and is cancelled is not in; the others of the queue are."""
    async with sender(database) as coalescer, jobs_held(database) as hold:
        first = await send_all(coalescer, new_jobs(1))
        await hold.waited_for_by(1)
        queued = await send_all(coalescer, jobs := new_jobs(6))
        for call in queued[::2]:
            call.cancel()
        await hold.release()
        answers = await asyncio.gather(*first, *queued, return_exceptions=True)

    assert 3 == kinds(answers).count(asyncio.CancelledError)
    stored_ids = set(await asked(database, "select array_agg(id) from jobqueue.job"))
    assert {job.id for job in jobs[1::2]} == stored_ids & {job.id for job in jobs}


async def test_cancelled_just_when_no_connection_could_be_had(database: str) -> None:
    """A caller who is refused and cancelled in the same moment gets one of the two, and nothing else."""
    async with open_database(database) as opened:
        coalescer = Coalescer(opened)
        (call,) = await send_all(coalescer, new_jobs(1))
        coalescer._refuse_queue(OSError("no connection"))
        call.cancel()
        answer = await end_of(call)
        await coalescer.close()

    assert isinstance(answer, OSError | asyncio.CancelledError)


# One bad row.


async def test_a_refused_row_fails_alone(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of 100 callers of one batch the one with a bad row gets InvalidPayload, without its text; the others are in."""
    await change(database, REFUSE_BAD)
    jobs = [new_job(args=f'{{"text": "{"bad" if number == 56 else "good"} {SECRET}"}}') for number in range(100)]
    async with sender(database) as coalescer:
        with overheard(caplog) as heard:
            answers: list[Any] = await asyncio.gather(*(coalescer.send(job) for job in jobs), return_exceptions=True)

    refused = answers.pop(56)
    assert (InvalidPayload, "task job: the database refused it (no_bad_jobs)") == (type(refused), str(refused))
    assert SECRET not in whole_story(refused)
    assert 99 == len({answer.id for answer in answers})
    assert 99 + WARM == await counted(database)
    assert [] == [text for text in heard if SECRET in text]


async def test_many_refused_rows_fail_each_alone(database: str) -> None:
    """Every caller with a row that driver or server refuse is told so; each other one of the batch is served."""
    hopeless = [
        new_job(args='{"text"'),
        new_job(args="[1]"),
        new_job(args='{"text": "\x00"}'),
        new_job(args='{"text": "\ud800"}'),
        new_job(task="t" * 101),
        new_job(priority=2**15),
        new_job(priority=2**31),
        new_job(timeout=-1.0),
    ]
    good = new_jobs(len(hopeless))
    async with sender(database) as coalescer:
        mixed = [job for pair in zip(hopeless, good, strict=True) for job in pair]
        answers = await asyncio.gather(*(coalescer.send(job) for job in mixed), return_exceptions=True)

    assert {InvalidPayload} == set(kinds(answers[::2]))
    assert [job.id for job in good] == [answer.id for answer in answers[1::2] if not isinstance(answer, BaseException)]
    assert len(good) + WARM == await counted(database)


# The network breaks.


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
        await app.send(new_job(id=unknown.id, resent=True), None)
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


@pytest.mark.usefixtures("short_limits")
async def test_a_lost_answer_and_then_no_server(database: str) -> None:
    """The answer is lost and the second try is refused: the job may be in, so it is unknown, not failed."""
    async with proxied(database) as proxy, sender(proxy.dsn) as coalescer:
        proxy.lose_answers()
        job = new_job()
        (call,) = await send_all(coalescer, [job])
        await stored(database, 1 + WARM)
        proxy.refuse()
        answer = await end_of(call)
        proxy.let_pass()

        await is_safe_to_send_again(database, answer, job)


async def test_no_server_at_all_is_no_mystery(database: str) -> None:
    """If no connection could be had nothing was sent: the error of the connection, and no DeferUnknown."""
    async with proxied(database) as proxy, sender(proxy.dsn) as coalescer:
        proxy.refuse()
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
            coalescer._writer = None
        for connection in taken:
            await own.release(connection)
        await coalescer.send(new_job())

    assert {TimeoutError} == set(kinds(answers))
    assert [] == heard


# Who is not coalesced.


async def test_a_key_that_waits_holds_nobody_up(database: str) -> None:
    """Jobs with a key or an id go their own way: one that waits for an open transaction does not stop the others."""
    async with App(database) as app:

        @app.task
        async def note(text: str) -> None: ...

        await note.defer("before")
        async with connect(database) as connection, connection.transaction():
            await note.options(connection=connection, unique="k").defer("holds the key")
            waiting = asyncio.create_task(note.options(unique="k").defer("waits"))
            await becomes(database, 1, "wait_event_type = 'Lock'")
            await asyncio.gather(*(note.defer(str(number)) for number in range(20)))
            await note.options(id=new_job().id).defer("own id")
            assert not waiting.done()

        assert (await waiting).duplicate
    assert 23 == await counted(database)
