"""`ctx.progress`: what running jobs say of themselves, read by others."""

import asyncio
from typing import Any

import anyio
import pytest

from jobqueue import App, JobContext, steps
from jobqueue.base.errors import JobFailed
from jobqueue.store.progress import write_progress
from jobqueue.worker.ending.progress import Reporter
from jobqueue.worker.keeping.holds import Held, Hold
from jobqueue.worker.keeping.tally import Tally
from tests.support.jobs.counting import counted_pool
from tests.support.jobs.gate import Gate
from tests.support.jobs.store import WORKER, claim, claim_one, insert, new_job, new_jobs, open_session
from tests.support.jobs.working import end_of, new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import WAITS_FOR_LOCK, becomes, terminate
from tests.support.postgres.locks import jobs_held, row_held
from tests.support.waiting import wait_until

REPORTS = f"{WAITS_FOR_LOCK} and query like '%set progress%'"


async def test_others_read_it_while_the_job_runs(database: str) -> None:
    """S3-17: reports of 10, 50 and 90 % are each read by another app, in order; the last word stands at the end."""
    app, other = new_app(database), new_app(database)
    go_on: asyncio.Queue[None] = asyncio.Queue()

    @app.task
    async def work(ctx: JobContext) -> None:
        for percent in (10, 50, 90):
            ctx.progress(percent / 100, f"{percent} of 100", {"rows": percent})
            await go_on.get()
        ctx.progress(1.0, "done")

    async with app, other, app.worker():
        handle = await work.defer()
        for percent in (10, 50, 90):
            expected = {"fraction": percent / 100, "message": f"{percent} of 100", "data": {"rows": percent}}

            async def says(expected: dict[str, Any] = expected) -> bool:
                return bool((await other.jobs.get(handle.id)).progress == expected)

            await wait_until(says, f"{percent} % is read")
            go_on.put_nowait(None)
        job = await end_of(app, handle)
    assert {"fraction": 1.0, "message": "done", "data": None} == job.progress


async def test_the_last_word_of_every_job_is_kept(database: str) -> None:
    """100 jobs that report just before they end, from tasks and threads, are each archived with that report."""
    app = new_app(database)

    @app.task
    async def quick(ctx: JobContext, number: int) -> None:
        ctx.progress(0.5)
        ctx.progress(1, data=number)

    @app.task
    def threaded(ctx: JobContext, number: int) -> None:
        ctx.progress(0.5)
        ctx.progress(1, data=number)

    async with app, app.worker():
        handles = [await (quick, threaded)[number % 2].defer(number) for number in range(100)]
        jobs = [await end_of(app, handle) for handle in handles]
    assert list(range(100)) == [job.progress["data"] for job in jobs]


async def test_it_outlives_a_retry(database: str) -> None:
    """What an attempt has reported before it failed is there for the next one."""
    app = new_app(database)
    seen: list[Any] = []

    @app.task(retry=steps(0), max_attempts=2)
    async def work(ctx: JobContext) -> None:
        seen.append(ctx.job.progress)
        if ctx.attempt == 1:
            ctx.progress(0.4, "so far")
            raise OSError

    async with app, app.worker():
        await end_of(app, await work.defer())
    assert [None, {"fraction": 0.4, "message": "so far", "data": None}] == seen


async def test_a_flood_of_reports_is_a_few_statements(database: str) -> None:
    """A handler that reports 20 000 times costs a handful of writes, and its last report stands."""
    async with counted_pool(database) as (pool, sent):
        app = App(pool=pool)

        @app.task
        def flood(ctx: JobContext) -> None:
            for number in range(20_000):
                ctx.progress(number / 20_000)
            ctx.progress(1)

        async with app, app.worker():
            job = await end_of(app, await flood.defer())
    assert 1 == job.progress["fraction"]
    assert 1 <= sent.calls["write_progress"] <= 10


async def test_a_last_report_waits_for_whoever_has_the_row(database: str) -> None:
    """S3-17: somebody, such as a beat, has the job's row locked when the handler ends: its last report stands."""
    app, gate = new_app(database), Gate()

    @app.task
    async def work(ctx: JobContext) -> None:
        ctx.progress(0.5)
        await gate.step()
        ctx.progress(1.0)

    async with app:
        handle = await work.defer()
        async with app.worker() as worker:
            await gate.begun.wait()
            async with row_held(database, handle.id):
                gate.open.set()
                await wait_until(lambda: not worker.supervisor.parts.slots.running, "its handler has ended")
                await wait_until(lambda: worker.supervisor.parts.finisher.waiting == 1, "it is waited for")
            job = await end_of(app, handle)

    assert 1.0 == job.progress["fraction"]


async def test_a_late_report_changes_nothing(database: str) -> None:
    """S3-18: a report that comes after the claim was lost is refused by its fence."""
    async with open_session(database) as session:
        await insert(session, new_job())
        row = await claim_one(session)
        await write_progress(session, WORKER, [(row["id"], row["fence"], '{"fraction": 0.5}')])
        await write_progress(session, WORKER, [(row["id"], row["fence"] + 1, '{"fraction": 0.9}')])
        stored = await session.database.pool.fetchval("select progress::text from jobqueue.job")
    assert '{"fraction": 0.5}' == stored


async def test_a_report_outlives_a_broken_connection(database: str) -> None:
    """S3-17, C13: a report whose write fails is written by the next one, though the handler says nothing more."""
    app = new_app(database)
    begin, end = asyncio.Event(), asyncio.Event()

    @app.task
    async def work(ctx: JobContext) -> None:
        await begin.wait()
        ctx.progress(0.5)
        await end.wait()

    async with app, app.worker() as worker:
        handle = await work.defer()
        await wait_until(lambda: worker.snapshot().running == 1, "it runs")
        async with jobs_held(database):
            begin.set()
            await becomes(database, 1, REPORTS)
            assert 1 == await terminate(database, REPORTS)

        async def reported() -> bool:
            return (await app.jobs.get(handle.id)).progress is not None

        await wait_until(reported, "the report is read")
        end.set()
        await handle.result(timeout=PATIENCE)


async def test_reports_of_jobs_that_have_ended_are_dropped(database: str) -> None:
    """A thread that reports on after its job's time limit leaves nothing behind in the worker's memory."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(2))
        held, ended = (Hold(row, 0.0) for row in await claim(session))
        holds = Held(Tally(lambda name: None))
        holds.add(held)
        reporter = Reporter(session.database, WORKER, holds)
        reporter.say(held, '{"fraction": 0.5}')
        reporter.say(ended, '{"fraction": 0.9}')
        async with anyio.create_task_group() as group:
            group.start_soon(reporter.run)
            await wait_until(lambda: reporter.unwritten == 1, "what is of no use is forgotten")
            group.cancel_scope.cancel()
        await reporter.write_last_words(session, [held, ended])
        stored = await session.database.pool.fetch("select progress::text from jobqueue.job where progress is not null")
    assert [('{"fraction": 0.5}',)] == [tuple(row) for row in stored]


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"fraction": 1.5}, "fraction: must be a number from 0 to 1"),
        ({"fraction": float("nan")}, "fraction: must be a number from 0 to 1"),
        ({"fraction": 0.5, "data": object()}, "progress"),
        ({"fraction": 0.5, "data": float("inf")}, "progress"),
        ({"fraction": 0.5, "message": "x" * 20_000}, "progress"),
    ],
)
async def test_what_cannot_be_stored_is_refused_in_the_handler(database: str, said: dict[str, Any], named: str) -> None:
    """A report outside its limits raises where it is made, and names itself."""
    app = new_app(database)

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        ctx.progress(**said)

    async with app, app.worker():
        handle = await work.defer()
        with pytest.raises(JobFailed, match=named):
            await handle.result(timeout=PATIENCE)
