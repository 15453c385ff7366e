"""How many jobs a worker claims and runs at once."""

import asyncio

import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.settings import Settings
from tests.support.jobs.store import connect
from tests.support.jobs.working import archived, counted, end_of, new_app
from tests.support.waiting import wait_until


class Gauge:
    """Counts how many handlers are inside at once; they stay until `opened` lets them go."""

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0
        self.opened = asyncio.Event()

    async def stay(self) -> None:
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await self.opened.wait()
            await asyncio.sleep(0)
        finally:
            self.now -= 1


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_concurrency_is_reached_and_never_exceeded(database: str, concurrency: int) -> None:
    """S0-04, S1-12: as many jobs run at once as the worker was given slots, counted by the handlers."""
    app = new_app(database)
    gauge = Gauge()

    @app.task
    async def work() -> None:
        await gauge.stay()

    async with app, app.worker(concurrency=concurrency) as worker:
        handles = [await work.defer() for _ in range(20)]
        await wait_until(lambda: gauge.now == concurrency, "all slots are in use")
        assert (concurrency, 0) == (worker.snapshot().running, worker.snapshot().free)
        gauge.opened.set()
        for handle in handles:
            await end_of(app, handle)

    assert concurrency == gauge.peak


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_a_worker_without_slots_is_refused(database: str, concurrency: int) -> None:
    """S0-05, S1-13: a concurrency below 1 is refused at once, wherever it is given."""
    app = new_app(database)
    async with app:
        with pytest.raises(ConfigurationError, match="concurrency: must be a whole number from 1 to"):
            async with app.worker(concurrency=concurrency):
                pytest.fail("a worker without slots has started")
        with pytest.raises(ConfigurationError, match="concurrency"):
            await app.run_worker(concurrency=concurrency)
    with pytest.raises(ConfigurationError, match="concurrency"):
        Settings(concurrency=concurrency)
    with pytest.raises(ConfigurationError, match="concurrency"):
        Settings.from_environment({"JOBQUEUE_CONCURRENCY": str(concurrency)})


@pytest.mark.parametrize("poll", [0, -1])
def test_a_poll_without_interval_is_refused(poll: float) -> None:
    """S4-34: a poll interval of zero or less is refused by name."""
    with pytest.raises(ConfigurationError, match="poll: must be above 0 seconds"):
        Settings(poll=poll)


async def test_prefetch_is_bounded(database: str) -> None:
    """S0-06: with prefetch 2 and concurrency 1, never more than three unfinished jobs are claimed."""
    app = new_app(database, prefetch=2)
    steps = asyncio.Semaphore(0)
    most: list[int] = []

    async with app, connect(database) as connection:

        @app.task
        async def work(number: int) -> None:
            await steps.acquire()
            # What is still written as running but has ended is not counted: the numbers of those are below ours.
            claimed = await connection.fetchval(
                "select count(*) from jobqueue.job where state = 'running' and (args->>'number')::int >= $1", number
            )
            most.append(claimed)

        await app.defer_many([work.job(number) for number in range(100)])
        async with app.worker(concurrency=1):

            async def three_are_claimed() -> bool:
                return await counted(database, "state = 'running'") == 3

            await wait_until(three_are_claimed, "one job runs and two wait beside it")
            for _ in range(100):
                steps.release()
            await wait_until(lambda: len(most) == 100, "all jobs have run")

    assert 3 == max(most)


async def test_no_prefetch_claims_no_more_than_runs(database: str) -> None:
    """S0-06: with prefetch 0 a claimed job is a running one."""
    app = new_app(database, prefetch=0)
    gauge = Gauge()

    @app.task
    async def work() -> None:
        await gauge.stay()

    async with app:
        await app.defer_many([work.job() for _ in range(20)])
        async with app.worker(concurrency=3):
            await wait_until(lambda: gauge.now == 3, "three jobs run")
            assert 3 == await counted(database, "state = 'running'")
            gauge.opened.set()
            await wait_until(lambda: gauge.now == 0, "none runs")


async def test_jobs_claimed_ahead_do_not_wait_behind_a_slow_one(database: str) -> None:
    """Jobs that a worker has claimed ahead of its free slots are given back when a slow one holds them up."""
    app, other = new_app(database), new_app(database, name="other")
    release = asyncio.Event()
    ran: list[int] = []

    async def work(number: int) -> None:
        if number == 600:
            await release.wait()
        ran.append(number)

    task = app.task(work)
    other.task(work)
    async with app, other:
        await app.defer_many([task.job(number) for number in range(1200)])
        async with app.worker(concurrency=1):
            await wait_until(lambda: len(ran) == 600, "the slow job holds the only slot")
            async with other.worker(concurrency=1):
                await wait_until(lambda: len(ran) == 1199, "the other worker has run all others")
                release.set()

    assert 1200 == await archived(database)
