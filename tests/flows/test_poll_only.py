"""Behind a transaction pooler nobody can LISTEN: workers poll, and nothing else changes."""

import asyncio

from jobqueue.base.job import JobState
from jobqueue.base.retry import steps
from jobqueue.tasks.context import JobContext
from tests.support.jobs.working import asked, end_of, new_app
from tests.support.patience import PATIENCE, scaled
from tests.support.postgres.backends import LISTENS, backends
from tests.support.waiting import wait_until

INTERVAL = 0.3
LATEST = scaled(5.0)
"""Seconds beyond the interval (and its jitter) that a busy machine may cost."""


async def test_jobs_start_within_a_poll_interval(database: str) -> None:
    """S1-08, S4-34: without LISTEN a ready job starts within one poll interval; nobody claims to listen or sleep."""
    app = new_app(database, pooler="transaction", poll=INTERVAL)
    clock = asyncio.get_running_loop().time
    waits: list[float] = []
    deferred = 0.0

    @app.task
    async def work() -> None:
        waits.append(clock() - deferred)

    async with app, app.worker() as worker:
        for number in range(5):
            deferred = clock()
            await work.defer()
            await wait_until(lambda: len(waits) > number, "it has run")  # noqa: B023 - used at once
        assert not worker.snapshot().listening
        assert [] == await backends(database, LISTENS)
        assert 0 == await asked(database, "select count(*) from jobqueue.sleeper")

    assert max(waits) < INTERVAL * 1.2 + LATEST
    assert min(waits) < scaled(INTERVAL * 1.2)


async def test_delays_retries_and_results_work_by_polling(database: str) -> None:
    """Delayed jobs are not early, retries come back, and results are found, all without a notification."""
    app = new_app(database, pooler="transaction", poll=INTERVAL)
    clock = asyncio.get_running_loop().time
    started: list[float] = []

    @app.task(retry=steps(0.1))
    async def work(ctx: JobContext) -> int:
        started.append(clock())
        if ctx.attempt == 1:
            raise OSError
        return ctx.attempt

    async with app, app.worker():
        deferred = clock()
        handle = await work.options(delay=0.4).defer()
        assert 2 == await handle.result(timeout=PATIENCE)
        job = await end_of(app, handle)

    assert 0.4 <= started[0] - deferred < 0.4 + INTERVAL * 1.2 + LATEST
    assert (JobState.COMPLETED, 2) == (job.state, job.attempt)


async def test_a_known_due_time_needs_no_poll(database: str) -> None:
    """S2-07: a delayed job that was there when the worker started runs when it is due, at a poll of a minute."""
    app = new_app(database, pooler="transaction")

    @app.task
    async def work() -> str:
        return "ran"

    async with app:
        handle = await work.options(delay=0.3).defer()
        async with app.worker():
            assert "ran" == await handle.result(timeout=PATIENCE)


async def test_a_slow_listener_is_made_up_for_by_the_poll(database: str) -> None:
    """S4-34: polling is always on: a job whose notification was swallowed starts at the next poll."""
    app = new_app(database, poll=INTERVAL)

    @app.task
    async def work() -> str:
        return "ran"

    async with app, app.worker():
        silent = (
            "insert into jobqueue.job (task, via) values ('work', 'py') returning id"  # ours, but without its wake-up
        )
        for _ in range(3):
            handle = work.handle(await asked(database, silent))
            assert "ran" == await handle.result(timeout=INTERVAL * 1.2 + LATEST)
