"""Batches beside other jobs: what is claimed for their seats, and what becomes of it."""

import logging
import threading

import pytest

from jobqueue.app import App
from tests.support.jobs.batches import LONG
from tests.support.jobs.counting import counted_pool
from tests.support.jobs.working import all_ended, archived, counted, new_app
from tests.support.waiting import wait_until

"""Seconds that no test waits: a batch with this wait begins for another reason."""


async def test_batches_and_jobs_share_a_queue(database: str) -> None:
    """S0-03: jobs of other tasks that come by a batch's seats are given back once, not claimed again and again.

    One slot, which a batch holds while it gathers for half a second; ordinary jobs lie between its items.
    """
    calls: list[list[int]] = []
    claims: list[int] = []
    async with counted_pool(database) as (pool, sent):
        app = App(pool=pool)

        @app.batch_task(size=20, wait=0.5)
        async def work(numbers: list[int]) -> None:
            calls.append(numbers)
            claims.append(sent.calls["claim_jobs"])

        @app.task
        async def other(number: int) -> None: ...

        async with app:
            await app.defer_many([work.job(n) if n % 20 == 0 else other.job(n) for n in range(100)])
            async with app.worker(concurrency=1):
                await all_ended(database)

    assert [0, 20, 40, 60, 80] == sorted(number for numbers in calls for number in numbers)
    assert 100 == await archived(database)
    assert 2 == claims[0], "one for the first item, one for the seats"


async def test_seats_that_bring_others_are_offered_no_more(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S0-03: while a batch gathers beside a busy slot, jobs of other tasks are not claimed for its seats and given back
    over and over: once is enough to see that they lie before its items."""
    caplog.set_level(logging.INFO, "jobqueue")
    app = new_app(database)

    @app.batch_task(size=40, wait=1)
    async def work(numbers: list[int]) -> None: ...

    @app.task
    def other(number: int) -> None:
        threading.Event().wait(0.01)

    async with app:
        await app.defer_many([work.job(0), *(other.job(number) for number in range(150))])
        async with app.worker(concurrency=2):
            await all_ended(database)

    assert caplog.text.count("job.released") <= 60


async def test_what_waits_for_a_seat_has_not_started(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S0-03, S4-68: jobs of other tasks that come by a batch's seats wait, so no crash of the worker counts for them;
    and the seats are no free slots."""
    monkeypatch.setattr("jobqueue.worker.slots.line._HELD_UP", 30.0)
    app = new_app(database)

    @app.batch_task(size=100, wait=LONG)
    async def work(numbers: list[int]) -> None: ...

    @app.task
    async def other(number: int) -> None: ...

    async with app, app.worker(concurrency=1) as worker:
        await work.defer_many(range(3))
        await wait_until(lambda: worker.snapshot().running == 3, "they gather")
        assert 0 == worker.snapshot().free
        await other.defer_many(range(20))
        await wait_until(lambda: worker.snapshot().ahead == 20, "they wait")
        assert 0 == await counted(database, "started and task like '%other'")
        worker.stop(5)
