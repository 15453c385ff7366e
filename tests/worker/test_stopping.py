"""How a worker ends: orderly or cut off, by whatever cancels its caller. Nothing is lost, nothing is left."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import anyio
import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import JobState
from jobqueue.base.retry import steps
from jobqueue.tasks.context import JobContext
from jobqueue.worker.work import Work
from tests.support.jobs.working import archived, asked, claims_left, counted, new_app
from tests.support.patience import NEVER, PATIENCE
from tests.support.rounds import rounds
from tests.support.waiting import wait_until

Run: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


async def test_a_drain_waits_for_running_jobs_and_writes_them(database: str) -> None:
    """S1-16, S0-13: jobs that run when the drain begins are completed on record, and nothing new is started."""
    app = new_app(database)
    began, may_end = asyncio.Event(), asyncio.Event()
    started: list[int] = []

    @app.task
    async def work(number: int) -> int:
        started.append(number)
        began.set()
        await may_end.wait()
        return number

    async with app, app.worker(concurrency=1) as worker:
        first, second = await work.defer(1), await work.defer(2)
        await began.wait()
        draining = asyncio.create_task(worker.drain(10))
        await wait_until(lambda: worker.snapshot().draining, "the drain has begun")
        assert not draining.done()
        may_end.set()
        await draining
        states = [await handle.status() for handle in (first, second)]

    assert [JobState.COMPLETED, JobState.READY] == states
    assert ([1], True) == (started, worker.clean)


async def test_a_drain_past_its_limit_gives_jobs_back_and_says_so(database: str) -> None:
    """S3-25, S4-54, S4-55: what still runs is cancelled, cleans up, and is ready again as it was before this attempt.

    The TimeoutError reaches the caller when everything is cleaned up (S2-19, S2-34), once.
    """
    app = new_app(database)
    began = asyncio.Event()
    cleaned: list[str] = []

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise OSError("first")
        try:
            began.set()
            await anyio.sleep_forever()
        finally:
            await anyio.lowlevel.checkpoint()
            cleaned.append("cleaned")

    async with app:
        async with app.worker() as worker:
            handle = await work.defer()
            await began.wait()
            with pytest.raises(TimeoutError, match=r"a drain of 0\.05 s"):
                await worker.drain(0.05)
            assert 0 == await asked(database, "select count(*) from jobqueue.worker")
        job = await app.jobs.get(handle.id)

    assert ["cleaned"] == cleaned
    assert (JobState.READY, 1, ["first"]) == (job.state, job.attempt, [error.message for error in job.errors])
    assert worker.clean


async def test_an_outcome_reached_during_the_cut_counts(database: str) -> None:
    """A handler that uses its cancellation to finish is completed, not run again."""
    app = new_app(database)
    began = asyncio.Event()

    @app.task
    async def work() -> str:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        return "finished"

    async with app:
        async with app.worker() as worker:
            handle = await work.defer()
            await began.wait()
            worker.stop(0)
        assert "finished" == await handle.result(timeout=PATIENCE)


async def test_a_second_stop_may_shorten_the_first(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A drain that waits is hurried by a stop with a nearer limit; a later one changes nothing."""
    app = new_app(database)
    caplog.set_level(logging.INFO, "jobqueue")
    began = asyncio.Event()

    @app.task
    async def work() -> None:
        began.set()
        await anyio.sleep_forever()

    async with app, app.worker() as worker:
        await work.defer()
        await began.wait()
        worker.stop(NEVER)
        await wait_until(lambda: "worker.draining" in caplog.text, "the drain waits")
        worker.stop(2 * NEVER)
        with anyio.fail_after(PATIENCE):
            worker.stop(0)
            await worker.ended()

    assert worker.clean


async def test_two_drains_at_once_both_return(database: str) -> None:
    """S0-14: stopping is idempotent: every drain returns, also one after the end."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app, app.worker() as worker:
        await work.defer()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.drain(5))
            group.create_task(worker.drain(5))
        await worker.drain(5)

    assert [] == await claims_left(database)


async def test_a_worker_starts_once(database: str) -> None:
    """S4-25: start is guarded: a second one is refused, the first runs on."""
    app = new_app(database)

    @app.task
    async def work() -> str:
        return "ran"

    async with app, app.worker() as worker:
        with pytest.raises(ConfigurationError, match="started already"):
            await worker.start()
        assert "ran" == await (await work.defer()).result(timeout=PATIENCE)


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_up_the_end(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S4-27: A handler that outlives the stop is named; its job is not given back while it runs."""
    monkeypatch.setattr("jobqueue.worker.draining.FINAL_WRITES", 0.2)
    app = new_app(database)
    began, may_end = asyncio.Event(), asyncio.Event()

    @app.task
    async def stubborn() -> None:
        began.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    async with app:
        with pytest.raises(TimeoutError):
            async with app.worker() as worker:
                handle = await stubborn.defer()
                await began.wait()
                with anyio.fail_after(PATIENCE):
                    await worker.drain(0.05)
        state = await handle.status()
        assert "job.outcome_unsaved" not in caplog.text
        may_end.set()
        await wait_until(lambda: "job.outcome_unsaved" in caplog.text, "its late outcome is told")

    assert (JobState.RUNNING, False) == (state, worker.clean)
    assert "job.outlived_stop" in caplog.text
    assert str(handle.id) in caplog.text


# Whatever cancels the caller.


async def by_anyio_scope(run: Run, ready: asyncio.Event) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await ready.wait()
        group.cancel_scope.cancel()


async def by_two_cancels(run: Run, ready: asyncio.Event) -> None:
    task = asyncio.create_task(run())
    await ready.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_asyncio_timeout(run: Run, ready: asyncio.Event) -> None:
    async def expire() -> None:
        await ready.wait()
        limit.reschedule(0)

    expiring = asyncio.create_task(expire())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            await run()
    await expiring


async def by_failing_sibling(run: Run, ready: asyncio.Event) -> None:
    async def fail() -> None:
        await ready.wait()
        raise OSError("sibling")

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        async with asyncio.TaskGroup() as group:
            group.create_task(run())
            group.create_task(fail())


@pytest.mark.parametrize("how", ["run_worker", "worker"])
@pytest.mark.parametrize("cancel", [by_anyio_scope, by_two_cancels, by_asyncio_timeout, by_failing_sibling])
async def test_a_cancelled_caller_stops_the_worker(
    database: str, cancel: Callable[[Run, asyncio.Event], Awaitable[None]], how: str
) -> None:
    """Whatever cancels the caller: jobs are cancelled, cleaned up and given back unharmed, at once and completely."""
    app = new_app(database)
    ready = asyncio.Event()
    began: list[int] = []
    cleaned: list[int] = []

    @app.task
    async def work(number: int) -> None:
        began.append(number)
        if len(began) == 10:
            ready.set()
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.lowlevel.checkpoint()
            cleaned.append(number)

    async def run() -> None:
        if how == "run_worker":
            await app.run_worker(concurrency=10)
        else:
            async with app.worker(concurrency=10):
                await anyio.sleep_forever()

    async with app:
        await app.defer_many([work.job(number) for number in range(30)])
        with anyio.fail_after(PATIENCE):
            await cancel(run, ready)
        # Which ten is no matter: on a slow machine a start that blocks the loop leaves the next ones to others.
        assert (10, sorted(began)) == (len(set(began)), sorted(cleaned))
        assert 30 == await counted(database, "state = 'ready' and attempt = 0 and errors is null")
        assert 0 == await asked(database, "select count(*) from jobqueue.worker")
        assert 0 == await asked(database, "select count(*) from jobqueue.sleeper")


async def test_an_error_in_the_block_stops_the_worker_at_once(database: str) -> None:
    """S4-26: An exception out of `async with app.worker()` does not wait for running jobs, and is raised on."""
    app = new_app(database)
    began = asyncio.Event()

    @app.task
    async def work() -> None:
        began.set()
        await anyio.sleep_forever()

    async with app:
        with anyio.fail_after(PATIENCE), pytest.raises(OSError, match="in the block"):
            async with app.worker():
                handle = await work.defer()
                await began.wait()
                raise OSError("in the block")
        assert JobState.READY is await handle.status()


async def test_the_end_of_the_block_drains(database: str) -> None:
    """S4-26: Leaving `async with app.worker()` waits for running jobs; one cut off at the limit is given back."""
    app = new_app(database)
    began = asyncio.Event()

    @app.task
    async def work() -> str:
        began.set()
        for _ in range(50):
            await asyncio.sleep(0)
        return "finished"

    async with app:
        async with app.worker():
            handle = await work.defer()
            await began.wait()
        assert JobState.COMPLETED is await handle.status()


async def test_a_start_that_is_cancelled_leaves_nothing(database: str) -> None:
    """S0-27: Cancelled while it starts, at many moments, a worker leaves neither tasks nor connections nor claims."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app:
        await app.defer_many([work.job() for _ in range(50)])
        for step in range(25):
            task = asyncio.create_task(app.run_worker())
            for _ in range(step * step // 2):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert [] == await claims_left(database)
        assert 0 == await asked(database, "select count(*) from jobqueue.worker")


async def test_stopping_at_any_moment_loses_no_claim(database: str) -> None:
    """Workers stopped at random moments under load leave no job claimed; at the end each has run at least once."""
    app = new_app(database)
    chosen = random.Random(3)  # noqa: S311 - a seed to repeat it by
    runs: list[int] = []
    stops = rounds(8)
    jobs = 100 * stops

    @app.task
    async def work(number: int) -> None:
        runs.append(number)
        await asyncio.sleep(0)

    async with app:
        await app.defer_many([work.job(number) for number in range(jobs)])
        for _ in range(stops):
            task = asyncio.create_task(app.run_worker(concurrency=chosen.choice([1, 5, 50])))
            before, wanted = len(runs), chosen.randrange(40)
            await wait_until(lambda: len(runs) >= min(before + wanted, jobs - 100), "some have run")  # noqa: B023 - used at once
            for _ in range(chosen.randrange(30)):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert [] == await claims_left(database)
        await app.run_until_idle()

    assert (jobs, 0) == (await archived(database), await counted(database))
    assert set(range(jobs)) == set(runs)


async def test_a_stop_while_nothing_runs_is_quick(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S0-13: an idle worker, asleep until a notification, stops at once and is told as clean."""
    app = new_app(database)
    caplog.set_level(logging.INFO, "jobqueue")

    async def is_asleep() -> bool:
        return bool(await asked(database, "select count(*) from jobqueue.sleeper where queue = '*'"))

    async with app, app.worker() as worker:
        await wait_until(is_asleep, "the worker sleeps")
        with anyio.fail_after(PATIENCE):
            await worker.drain(NEVER)
    assert "worker.stopped" in caplog.text
    assert "clean=True" in caplog.text


async def test_the_worker_is_handed_to_who_started_it(database: str) -> None:
    """`run_worker` in a task group gives the means to drain it by `task_status`."""
    app = new_app(database)

    @app.task
    async def work() -> str:
        return "ran"

    async with app, anyio.create_task_group() as group:
        worker: Work = await group.start(app.run_worker)
        assert "ran" == await (await work.defer()).result(timeout=PATIENCE)
        await worker.drain(5)
