"""A job whose worker died while it ran is tried alone: one at a time in each worker, with ordinary jobs beside it."""

import asyncio
from typing import Any

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.tasks.context import JobContext
from tests.support.beating import QUICK
from tests.support.deaths import left_running
from tests.support.patience import PATIENCE
from tests.support.store import connect
from tests.support.waiting import wait_until
from tests.support.working import asleep, counted, end_of, new_app, seen


async def blame(dsn: str, condition: str = "true") -> None:
    """Make suspects of these jobs."""
    async with connect(dsn) as connection:
        await connection.execute(f"update jobqueue.job set crashes = 1 where {condition}")


async def one_by_one(app: App, dsn: str, queue: str, blamed: str, **served: Any) -> None:
    """Run six jobs in ten slots; each must start when the one before ends, by no poll."""
    running: list[int] = []
    done: list[int] = []
    release = asyncio.Event()

    @app.task(queue=queue)
    async def work(number: int) -> None:
        running.append(number)
        await release.wait()
        release.clear()
        running.remove(number)
        done.append(number)

    async with app:
        await app.defer_many([work.job(number) for number in range(6)])
        await blame(dsn, blamed)
        async with app.worker(concurrency=10, **served), asyncio.timeout(PATIENCE):
            for ended in range(6):
                await wait_until(lambda: running and len(done) == ended, "the next one runs")  # noqa: B023 - used at once
                await asleep(dsn)
                assert (1, 1) == (len(running), await counted(dsn, "state = 'running'"))
                release.set()
            await wait_until(lambda: len(done) == 6, "all have run")
    assert list(range(6)) == sorted(done)


async def test_suspects_run_one_after_the_other(database: str) -> None:
    """S4-68, protocols A4: never two suspects at once in a worker; the next starts when one ends, without a poll."""
    await one_by_one(new_app(database, prefetch=10, **QUICK), database, "default", "true")


async def test_a_suspect_keeps_to_the_limit_of_its_queue(database: str) -> None:
    """A queue with one slot runs one job at a time, suspect or not, and goes on after each without a poll."""
    await one_by_one(new_app(database, **QUICK), database, "mail", "seq % 2 = 0", queues=["mail:1"])


async def test_ordinary_jobs_run_beside_a_suspect(database: str) -> None:
    """One suspect holds one slot, of two workers one each; the other slots are for the rest."""
    app = new_app(database, **QUICK)
    release = asyncio.Event()
    suspects: list[int] = []
    others: list[int] = []

    @app.task
    async def work(ctx: JobContext, number: int) -> None:
        if ctx.job.crashes == 0:
            others.append(number)
            return
        suspects.append(number)
        await release.wait()

    async with app:
        handles = await app.defer_many([work.job(number) for number in range(6)])
        await blame(database)
        async with app.worker(concurrency=3), app.worker(concurrency=3):
            await wait_until(lambda: len(suspects) == 2, "each worker has one")
            for number in range(20):
                await end_of(app, await work.defer(number))
            assert (2, 4) == (len(suspects), await counted(database, "state = 'ready' and crashes = 1"))
            release.set()
            for handle in handles:
                await end_of(app, handle)
    assert list(range(20)) == others
    assert list(range(6)) == sorted(suspects)


async def test_a_suspect_that_cannot_run_makes_way(database: str) -> None:
    """A suspect that is put aside or has expired never holds up the next one until the poll."""
    ours, theirs = new_app(database, **QUICK), new_app(database, **QUICK)

    @ours.task
    async def common() -> str:
        return "ran"

    @theirs.task
    async def special() -> None: ...

    async with ours, theirs:
        unknown = await special.defer()
        late = await common.options(expires=0.001).defer()
        fine = await common.defer()
        await blame(database)
        async with ours.worker(), asyncio.timeout(PATIENCE):
            assert "ran" == await fine.result(timeout=PATIENCE)
            assert JobState.SCHEDULED is await unknown.status()
            assert (JobState.DEAD, "expired") == ((job := await end_of(ours, late)).state, job.reason)


async def test_a_sleeping_worker_is_woken_for_a_suspect(database: str) -> None:
    """What was rescued with a delay is started when that is over by a worker that sleeps, long before its poll."""
    app = new_app(database, **QUICK)

    @app.task
    async def work() -> str:
        return "ran"

    async with app, app.worker():
        await end_of(app, await work.defer())
        await asleep(database)
        handle = await work.options(delay=0.2).defer()
        await blame(database)
        assert "ran" == await seen(handle)


async def test_a_completed_suspect_tells_its_crashes(database: str) -> None:
    """The record of a job that was a suspect and completed says what it went through."""
    app = new_app(database, **QUICK)

    @app.task
    async def work() -> str:
        return "ran"

    async with app:
        handle = await work.defer()
        await left_running(database, [handle.id])
        async with app.worker():
            job = await end_of(app, handle)
    assert (JobState.COMPLETED, 1, 1) == (job.state, job.crashes, len(job.errors))
