"""Single defers that wait at the same moment share a statement, and nothing else: not a context, not a fate."""

import asyncio
from contextvars import ContextVar
from typing import Any

import asyncpg
import pytest

from jobqueue.app import App
from jobqueue.base.errors import InvalidPayload
from jobqueue.store.connection.pool import Database
from jobqueue.tasks.sending.coalescer import Coalescer
from tests.support.jobs.coalescing import WARM, end_of, kinds, nothing, send_all, sender, watched
from tests.support.jobs.store import connect, new_job, new_jobs, open_database
from tests.support.jobs.stories import overheard, whole_story
from tests.support.jobs.working import asked, counted
from tests.support.postgres.backends import becomes, change
from tests.support.postgres.locks import jobs_held

SECRET = "marker-7f3a"
REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"


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

    assert [500, 500, 200] == [len(statement.args[0].split("\x1f")) for statement in issued]


async def test_a_batch_is_bounded_in_bytes(database: str) -> None:
    """No statement has more than 1 MiB of payload, unless one row alone has."""
    sizes = [400_000, 400_000, 400_000, 1_000_000, 1_100_000, 10, 10]
    async with watched(database) as (coalescer, issued):
        jobs = [new_job(args=f'{{"text": "{"x" * size}"}}') for size in sizes]
        await asyncio.gather(*(coalescer.send(job) for job in jobs))

    assert [2, 1, 1, 1, 2] == [len(statement.args[0].split("\x1f")) for statement in issued]


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


# Who is not coalesced.


@pytest.mark.parametrize("own", ["key", "id"])
async def test_a_job_of_its_own_kind_holds_nobody_up(own: str, database: str) -> None:
    """Jobs with a key or an id go their own way: one that waits for an open transaction does not stop the others."""
    options: dict[str, Any] = {"unique": "k"} if own == "key" else {"id": new_job().id}
    async with App(database) as app:

        @app.task
        async def note(text: str) -> None: ...

        await note.defer("before")
        async with connect(database) as connection, connection.transaction():
            await note.options(connection=connection, **options).defer("holds the place")
            waiting = asyncio.create_task(note.options(**options).defer("waits"))
            await becomes(database, 1, "wait_event_type = 'Lock'")
            await asyncio.gather(*(note.defer(str(number)) for number in range(20)))
            assert not waiting.done()

        assert (await waiting).duplicate
    assert 22 == await counted(database)
