"""Which job comes first: priority, then age."""

import random

import anyio

from jobqueue.base.job import JobState
from tests.support.jobs.store import connect
from tests.support.jobs.working import new_app, reached


async def test_priorities_run_in_exact_order(database: str) -> None:
    """S4-07: 100 jobs of mixed priorities run in one slot strictly by priority, and in order of deferring on ties."""
    app = new_app(database)
    order: list[tuple[int, int]] = []
    chosen = random.Random(7)  # noqa: S311 - a seed to repeat it by

    @app.task
    async def work(priority: int, number: int) -> None:
        order.append((priority, number))

    jobs = [(chosen.choice([-32768, -5, 0, 0, 7, 32767]), number) for number in range(100)]
    async with app:
        for priority, number in jobs:
            await work.options(priority=priority).defer(priority, number)
        await app.run_worker(concurrency=1, burst=True)

    assert sorted(jobs, key=lambda job: (-job[0], job[1])) == order


async def test_order_does_not_depend_on_where_rows_lie(database: str) -> None:
    """S4-07: jobs run in order of becoming ready, however they lie in the table and whatever plan is chosen."""
    app = new_app(database)
    order: list[int] = []

    @app.task
    async def work(number: int) -> None:
        order.append(number)

    async with app, connect(database) as connection:
        await app.defer_many([work.options(priority=-(number // 50)).job(number) for number in range(500)])
        await connection.execute("update jobqueue.job set seq = -seq")
        await connection.execute("analyze jobqueue.job")
        await app.run_worker(concurrency=1, burst=True)

    assert [number for tens in range(10) for number in reversed(range(tens * 50, tens * 50 + 50))] == order


async def test_a_delayed_job_does_not_overtake_the_backlog(database: str) -> None:
    """A job that comes due queues up behind those that were ready before, and before those that come later."""
    app = new_app(database)
    order: list[str] = []

    @app.task
    async def note(name: str) -> None:
        order.append(name)

    async with app:
        delayed = await note.options(delay=0.2).defer("delayed")
        for name in ("first", "second"):
            await note.defer(name)
        async with app.worker(queues=["nothing-here"]):  # its stager promotes
            await reached(app, delayed, JobState.READY)
        await note.defer("last")
        await app.run_worker(concurrency=1, burst=True)

    assert ["first", "second", "delayed", "last"] == order


async def test_a_released_job_keeps_its_place(database: str) -> None:
    """A job that is given back unharmed comes before those that became ready after it."""
    app = new_app(database, prefetch=0)
    order: list[str] = []
    stopped = False

    @app.task
    async def note(name: str) -> None:
        nonlocal stopped
        if name == "first" and not stopped:
            stopped = True
            worker.stop(0)
            await anyio.sleep_forever()
        order.append(name)

    async with app:
        handle = await note.defer("first")
        await note.defer("second")
        async with app.worker(concurrency=1) as worker:
            await worker.ended()
        assert JobState.READY is await handle.status()
        await app.run_worker(concurrency=1, burst=True)

    assert ["first", "second"] == order
