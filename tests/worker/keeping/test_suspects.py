"""Jobs whose worker died: they run again together at once; one that is a crash from its end runs quite alone."""

import asyncio
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.tasks.context import JobContext
from tests.support.jobs.beating import QUICK
from tests.support.jobs.deaths import left_running
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended, asked, asleep, counted, end_of, new_app, seen
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until
from tests.worker.claiming.test_lost_claims import beats


async def blame(dsn: str, condition: str = "true", *, alone: bool = False) -> None:
    """Make suspects of these jobs; `alone`: one crash from their end."""
    async with connect(dsn) as connection:
        await connection.execute(
            f"update jobqueue.job set crashes = $1, alone = $2 where {condition}", 1 + alone, alone
        )


async def one_runs(dsn: str) -> bool:
    return 1 == await counted(dsn, "state = 'running'")


async def one_by_one(app: App, dsn: str, queue: str, blamed: str, *, alone: bool = False, **served: Any) -> None:
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
        await blame(dsn, blamed, alone=alone)
        async with app.worker(concurrency=10, **served):
            for ended in range(6):
                await wait_until(lambda: running and len(done) == ended, "the next one runs")  # noqa: B023 - used at once
                # A worker that sees jobs which must run alone makes way for them, and does not sleep meanwhile.
                await (beats(dsn, 2) if alone else asleep(dsn))
                await wait_until(lambda: one_runs(dsn), "the outcome of the one before is written, and one is claimed")
                assert 1 == len(running)
                release.set()
            await wait_until(lambda: len(done) == 6, "all have run")
    assert list(range(6)) == sorted(done)


async def test_who_must_run_alone_runs_one_after_the_other(database: str) -> None:
    """S4-68, protocols A4: one crash from their end no two jobs run at once; the next starts when one ends."""
    await one_by_one(new_app(database, prefetch=10, **QUICK), database, "default", "true", alone=True)


async def test_a_suspect_keeps_to_the_limit_of_its_queue(database: str) -> None:
    """A queue with one slot runs one job at a time, suspect or not, and goes on after each without a poll."""
    await one_by_one(new_app(database, **QUICK), database, "mail", "seq % 2 = 0", queues=["mail:1"])


async def test_suspects_run_together_at_once(database: str) -> None:
    """What one dead worker had runs again in all free slots, beside ordinary jobs, none of them waiting for another."""
    app = new_app(database, **QUICK)
    release = asyncio.Event()
    running: list[int] = []

    @app.task
    async def work(number: int) -> None:
        running.append(number)
        await release.wait()

    async with app:
        handles = await work.defer_many(range(9))
        await blame(database, "seq % 3 > 0")
        async with app.worker(concurrency=9):
            await wait_until(lambda: len(running) == 9, "all run at once")
            release.set()
            for handle in handles:
                await end_of(app, handle)


@pytest.mark.parametrize("busy", [False, True])
async def test_nothing_runs_beside_one_that_must_run_alone(database: str, busy: bool) -> None:
    """Its worker lets end what runs, starts nothing until it has ended, then goes on; also one that is never idle."""
    app = new_app(database, **QUICK)
    release = asyncio.Event()
    order: list[str] = []
    running: set[int] = set()

    @app.task
    async def work(ctx: JobContext, number: int) -> None:
        running.add(number)
        order.append(f"{number} beside {len(running) - 1}" if ctx.job.crashes else "other")
        if ctx.job.crashes:
            await work.defer(100)
            await release.wait()
        elif busy and order[-1:] == ["other"] and not release.is_set():
            await work.defer(100)  # there is always another
        running.discard(number)

    async with app:
        suspect = await work.defer(1)
        await work.defer_many(range(2, 20))
        await blame(database, "args ->> 'number' = '1'", alone=True)
        async with app.worker(concurrency=5):
            await wait_until(lambda: "1 beside 0" in order, "it runs, alone")
            begun = len(order)
            await wait_until(lambda: counted(database, "state = 'ready'"), "others wait")
            await asleep_or_waiting(database)
            assert begun == len(order), "something began beside it"
            release.set()
            await end_of(app, suspect)
            await all_ended(database)
    assert 1 == len([entry for entry in order if entry != "other"])


async def asleep_or_waiting(dsn: str) -> None:
    """Give the worker the time of some looks at the queue, by the database's own clock."""
    began = await asked(dsn, "select clock_timestamp()")

    async def passed() -> bool:
        return bool(await asked(dsn, "select clock_timestamp() - $1 > interval '0.3 s'", began))

    await wait_until(passed, "some looks have passed")


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
