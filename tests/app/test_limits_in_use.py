"""Limits as users write them, with workers: at once, in a time, in order, in turns, of queues, on a backlog."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import pytest_asyncio
import structlog

from jobqueue import App, JobState, Limit, Rate, Retry, Router
from tests.support.jobs.working import all_ended, archived, asked, end_of, new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until


class Seen:
    """How many of a kind run at once, what has begun, and when."""

    def __init__(self) -> None:
        self.now, self.most = Counter[str](), Counter[str]()
        self.begun: list[str] = []
        self.times: list[float] = []

    async def run(self, *kinds: str) -> None:
        self.begun.append(kinds[0])
        self.times.append(time.monotonic())
        self.now.update(kinds)
        for kind in kinds:
            self.most[kind] = max(self.most[kind], self.now[kind])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.now.subtract(kinds)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    async with new_app(database) as app:
        yield app


async def test_a_tenant_and_an_api_are_limited_together(app: App, database: str, seen: Seen) -> None:
    """Two tasks share a limit by its name, each tenant has its own beside; two workers never run more at once."""
    api = Limit(4, name="api")
    router = Router("mail.", limit=[Limit(2, key="tenant", name="tenant"), api])

    @router.task
    async def send(tenant: str) -> None:
        await seen.run(f"tenant {tenant}", "api")

    @app.task(limit=api)
    async def report() -> None:
        await seen.run("report", "api")

    app.include(router)
    jobs = [send.job(tenant) for tenant in "aaaaaaabbbc" * 3] + [report.job() for _ in range(10)]
    async with app.worker(concurrency=10), app.worker(concurrency=10):
        await app.defer_many(jobs)
        await all_ended(database)
    assert 43 == await archived(database)
    assert 4 >= seen.most["api"]
    assert 2 >= max(seen.most[f"tenant {tenant}"] for tenant in "abc")
    assert [0, 0] == [limit.held for limit in await app.limits.list()]


async def test_items_of_a_batch_are_limited_one_by_one(app: App, database: str) -> None:
    """A batch has no more items of a key than its limit lets through, and all are done in the end."""
    batches: list[Counter[str]] = []

    @app.batch_task(size=100, wait=0, limit=Limit(2, key="tenants"))
    async def index(tenants: list[str]) -> None:
        batches.append(Counter(tenants))

    async with app.worker():
        await index.defer_many("aaaaaab")
        await all_ended(database)
    assert Counter("aaaaaab") == sum(batches, Counter())
    assert 2 >= max(max(batch.values()) for batch in batches)


async def test_no_more_start_in_a_time_than_the_rate_says(app: App, database: str, seen: Seen) -> None:
    """Of two tasks that share a rate no span has more starts than it allows, whoever defers them."""
    rate = Limit(rate=Rate(5, per=1.0, burst=2), name="api")

    @app.task(limit=rate)
    async def one() -> None:
        await seen.run("one")

    @app.task(limit=rate)
    async def two() -> None:
        await seen.run("two")

    async with app.worker(), app.worker():
        await app.defer_many([task.job() for task in (one, two) for _ in range(6)])
        await all_ended(database)
    starts = sorted(seen.times)
    assert 12 == len(starts)
    assert [] == [first for first, sixth in zip(starts, starts[5:], strict=False) if sixth - first < 1.0 - 0.02]


async def test_what_is_ordered_stays_so_over_retries(app: App, database: str, seen: Seen) -> None:
    """A job that fails holds up those behind it in its line until its retry is over; other lines go on."""
    failed: list[str] = []

    @app.task(limit=Limit(1, key="account", ordered=True))
    async def book(account: str, number: int) -> None:
        await seen.run(f"{account}{number}")
        if number == 1 and account not in failed:
            failed.append(account)
            raise Retry(delay=0.05)

    async with app.worker(), app.worker():
        await app.defer_many([book.job(account, number) for number in range(4) for account in "ab"])
        await all_ended(database)
    for account in "ab":
        of_account = [int(each[1]) for each in seen.begun if each.startswith(account)]
        assert [0, 1, 1, 2, 3] == of_account
        assert all(before <= after for before, after in pairwise(of_account))


async def test_newcomers_do_not_wait_for_the_backlog_of_another(app: App, database: str, seen: Seen) -> None:
    """In a fair order a tenant with many jobs and one with few take turns."""

    @app.task(fair="tenant")
    async def work(tenant: str) -> None:
        await seen.run(tenant)

    await app.defer_many([work.job("many") for _ in range(200)])
    await app.defer_many([work.job("few") for _ in range(5)])
    async with app.worker(concurrency=1):
        await all_ended(database)
    assert max(place for place, tenant in enumerate(seen.begun) if tenant == "few") < 50


async def test_a_queue_is_limited_whoever_sends_to_it(app: App, database: str, seen: Seen) -> None:
    """Jobs of code without the limit, of plain SQL, and moved there by hand count as well."""

    @app.task
    async def work(n: int) -> None:
        await seen.run("work")

    handles = await work.options(queue="reports").defer_many(range(5))
    await asked(database, "select count(jobqueue.defer('work', '{\"n\": 1}', 'reports')) from generate_series(1, 5)")
    moved = await work.options(delay=3600).defer(1)
    await app.jobs.move(moved.id, to="reports")
    await app.jobs.reschedule(moved.id, delay=0)
    app.limit_queue("reports", Limit(2))
    async with app.worker():
        await all_ended(database)
    assert (11, True) == (await archived(database), seen.most["work"] <= 2)
    assert ("queue/reports",) == (await app.jobs.get(handles[0].id)).gates


async def test_a_backlog_is_limited_as_soon_as_its_task_is(app: App, database: str, seen: Seen) -> None:
    """Jobs stored before there was a limit line up for it, in their order, and spend no attempt."""

    async def work(n: int) -> None:
        await seen.run("work")

    handles = await app.task(work).defer_many(range(40))
    app.task(limit=Limit(3))(work)
    async with app.worker(), app.worker():
        await all_ended(database)
    assert 3 >= seen.most["work"]
    assert {(JobState.COMPLETED, 1)} == {
        (job.state, job.attempt) for job in [await end_of(app, each) for each in handles]
    }


async def test_limits_wait_for_whoever_declares_them(database: str, seen: Seen) -> None:
    """A producer may be ahead of the workers: its jobs wait, and begin once a worker has declared their limit."""

    async def work() -> None:
        await seen.run("work")

    async with new_app(database) as producer, new_app(database) as old, new_app(database) as new:
        handle = await producer.task(limit=Limit(1))(work).defer()
        old.task(work)
        async with old.worker():

            async def is_blocked() -> bool:
                return (await old.jobs.get(handle.id)).waits_for == "work"

            await wait_until(is_blocked, "the job stands in line", PATIENCE)
            new.task(limit=Limit(1))(work)
            async with new.worker():
                await handle.result(timeout=PATIENCE)


async def test_a_burst_looks_beside_the_part_that_always_does(app: App, database: str, seen: Seen) -> None:
    """`run_until_idle` lets jobs in line go as fast as a worker does: nothing of it fails, and waits to try again."""

    @app.task(limit=[Limit(3, key="tenant"), Limit(5, name="smtp")])
    async def work(tenant: str) -> None:
        await seen.run(tenant)

    await work.defer_many("a" * 30)
    with structlog.testing.capture_logs() as lines:
        await app.run_until_idle()
    assert 30 == await archived(database)
    assert [] == [line for line in lines if line["event"] in ("loop.failed", "database.unreachable")]
