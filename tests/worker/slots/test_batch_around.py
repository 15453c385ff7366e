"""Middleware goes around each item of a batch."""

import asyncio
import traceback
from collections.abc import Sequence
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.errors import JobFailed
from jobqueue.base.job import NewJob
from jobqueue.tasks.context import JobContext
from tests.support.jobs.working import all_ended
from tests.support.patience import PATIENCE, scaled
from tests.support.waiting import wait_until


async def test_middleware_goes_around_each_item(database: str) -> None:
    """Middleware sees each item as a job: its number of runs, its result, its own failure."""
    seen: list[tuple[int, object]] = []

    async def watch(ctx: JobContext, call_next: Any) -> Any:
        try:
            result = await call_next(ctx)
        except OSError as error:
            result = str(error)
            raise
        finally:
            seen.append((ctx.attempt, result))
        return result

    app = App(database, middleware=[watch])

    @app.batch_task(max_attempts=1)
    async def work(numbers: list[int]) -> list[int | Exception]:
        return [OSError("odd") if number % 2 else number for number in numbers]

    async with app:
        handles = await work.defer_many(range(3))
        async with app.worker():
            assert (0, 2) == (await handles[0].result(timeout=PATIENCE), await handles[2].result(timeout=PATIENCE))
            with pytest.raises(JobFailed, match="odd"):
                await handles[1].result(timeout=PATIENCE)

    assert {(1, 0), (1, "odd"), (1, 2)} == set(seen)
    assert 3 == len(seen)


async def test_middleware_may_try_an_item_again(database: str) -> None:
    """An item that middleware calls a second time is in a second batch, alone if it is the only one."""
    calls: list[list[int]] = []

    async def again(ctx: JobContext, call_next: Any) -> Any:
        try:
            return await call_next(ctx)
        except OSError:
            return await call_next(ctx)

    app = App(database, middleware=[again])

    @app.batch_task(size=3, wait=scaled(0.5))
    async def work(numbers: list[int]) -> list[int | Exception]:
        calls.append(numbers)
        return [OSError() if number == 1 and len(calls) == 1 else number for number in numbers]

    async with app:
        handles = await work.defer_many(range(3))
        async with app.worker(concurrency=1) as worker:
            assert [0, 1, 2] == [await handle.result(timeout=PATIENCE) for handle in handles]
            await wait_until(lambda: worker.snapshot().running == 0, "all have ended")
            assert worker.snapshot().free >= 1
            await (await work.defer(3)).result(timeout=PATIENCE)

    assert [[0, 1, 2], [1], [3]] == calls


async def test_one_that_comes_late_joins_the_next_batch(database: str) -> None:
    """S0-03: an item that middleware holds up does not hold up the others: it is in the batch after theirs, which runs
    beside it if a slot is free."""
    let_go, came = asyncio.Event(), asyncio.Event()
    calls: list[list[int]] = []

    async def hold_up(ctx: JobContext, call_next: Any) -> Any:
        if ctx.job.priority == 5:
            await let_go.wait()
        return await call_next(ctx)

    app = App(database, middleware=[hold_up])

    @app.batch_task(wait=0.05, size=4)
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)
        if 0 in numbers:
            came.set()
        await came.wait()

    async with app:
        jobs: Sequence[NewJob[Any]] = [work.options(priority=5).job(0), work.job(1), work.job(2), work.job(3)]
        await app.defer_many(jobs)
        async with app.worker(concurrency=2) as worker:
            await wait_until(lambda: calls, "the first batch runs without it")
            let_go.set()
            await all_ended(database)
            assert (2, 0) == (worker.snapshot().free, worker.snapshot().running)

    assert [[1, 2, 3], [0]] == calls


async def test_an_error_is_not_made_longer_by_each_item(database: str) -> None:
    """Each item raises the handler's one error with the handler's trace, and not with those of the items before it."""
    lengths: list[int] = []

    async def measure(ctx: JobContext, call_next: Any) -> Any:
        try:
            return await call_next(ctx)
        except OSError as error:
            lengths.append(len(traceback.extract_tb(error.__traceback__)))
            raise

    app = App(database, middleware=[measure])

    @app.batch_task(size=20, max_attempts=1)
    async def work(numbers: list[int]) -> None:
        raise OSError

    async with app:
        await work.defer_many(range(20))
        async with app.worker():
            await all_ended(database)

    assert 20 == len(lengths)
    assert 1 == len(set(lengths))
