"""Sync tasks: a plain `def` runs in a thread, which nobody can cancel."""

import asyncio
import threading
from collections.abc import Iterator

import anyio
import pytest

from jobqueue.base.job import JobState
from jobqueue.base.retry import steps
from jobqueue.tasks.context import JobContext
from tests.support.jobs.working import end_of, new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What threads wait for; opened at the end whatever happens, so that none outlives its test."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_sync_task_runs_in_a_thread(database: str) -> None:
    """A plain `def` runs beside the event loop, its result and its errors like those of any task."""
    app = new_app(database)

    @app.task
    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    @app.task(max_attempts=1)
    def fail() -> None:
        raise OSError("no route")

    async with app, app.worker():
        assert False is await (await where.defer()).result(timeout=PATIENCE)
        job = await end_of(app, await fail.defer())

    assert (JobState.DEAD, "no route") == (job.state, job.error and job.error.message)


async def test_threads_are_bounded_by_the_concurrency(database: str, gate: threading.Event) -> None:
    """As many threads run as there are slots, and no more."""
    app = new_app(database)
    running: list[int] = []
    peak: list[int] = []

    @app.task
    def work() -> None:
        running.append(1)
        peak.append(len(running))
        gate.wait(PATIENCE)
        running.pop()

    async with app, app.worker(concurrency=3) as worker:
        handles = [await work.defer() for _ in range(8)]
        await wait_until(lambda: len(running) == 3, "three threads run")
        assert 0 == worker.snapshot().free
        gate.set()
        for handle in handles:
            await end_of(app, handle)

    assert 3 == max(peak)


async def test_a_thread_past_its_timeout_keeps_its_slot(database: str, gate: threading.Event) -> None:
    """The job ends on record at its timeout; the slot stays taken until the thread returns, then it is free again."""
    app = new_app(database)
    seen: list[bool] = []

    @app.task(timeout=0.1, max_attempts=1)
    def work(ctx: JobContext) -> None:
        gate.wait(PATIENCE)
        seen.append(ctx.cancelled)

    @app.task
    async def next_one() -> None: ...

    async with app, app.worker(concurrency=1) as worker:
        job = await end_of(app, await work.defer())
        assert (JobState.DEAD, "TimeoutError") == (job.state, job.error and job.error.error_class)
        assert (1, 0) == (worker.snapshot().running, worker.snapshot().free)

        waiting = await next_one.defer()
        assert JobState.READY is await waiting.status()
        gate.set()
        await end_of(app, waiting)

    assert [True] == seen


async def test_a_job_may_run_again_while_its_first_thread_still_runs(database: str, gate: threading.Event) -> None:
    """A retry beside the first attempt's thread takes a second slot; both come free, and the worker lives on."""
    app = new_app(database)
    ended: list[int] = []

    @app.task(timeout=0.1, max_attempts=2, retry=steps(0))
    def work(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            gate.wait(10)
        ended.append(ctx.attempt)
        return ctx.attempt

    async with app, app.worker(concurrency=2) as worker:
        assert 2 == await (await work.defer()).result(timeout=PATIENCE)
        await wait_until(lambda: worker.snapshot().running == 1, "only the first thread runs")
        gate.set()
        await wait_until(lambda: worker.snapshot().free == 2, "both slots are free")
        assert 1 == (await end_of(app, await work.options(id=None).defer())).attempt

    assert [2, 1, 1] == ended


async def test_a_drain_does_not_wait_for_a_thread_beyond_its_limits(
    database: str, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that does not end keeps its claim; the drain says so by TimeoutError, after everything is closed."""
    monkeypatch.setattr("jobqueue.worker.draining.FINAL_WRITES", 0.4)
    app = new_app(database)
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.task
    def work() -> None:
        loop.call_soon_threadsafe(began.set)
        gate.wait(PATIENCE)

    async with app:
        with pytest.raises(TimeoutError):
            async with app.worker() as worker:
                handle = await work.defer()
                await began.wait()
                with anyio.fail_after(PATIENCE):
                    await worker.drain(0.1)
        job = await app.jobs.get(handle.id)

    assert worker.clean is False
    assert (JobState.RUNNING, 1) == (job.state, job.attempt)
    assert "job.outlived_stop" in caplog.text
    assert "job.outcome_unsaved" not in caplog.text, "a thread that works on has no outcome"


async def test_a_thread_sees_the_drain(database: str) -> None:
    """`ctx.cancelled` becomes true in the thread when the drain's limit is over; what it returns then still counts."""
    app = new_app(database)
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.task
    def work(ctx: JobContext) -> str:
        loop.call_soon_threadsafe(began.set)
        while not ctx.cancelled:
            threading.Event().wait(0.005)
        return "stopped early"

    async with app:
        async with app.worker() as worker:
            handle = await work.defer()
            await began.wait()
            worker.stop(0)
        job = await app.jobs.get(handle.id)

    assert (JobState.COMPLETED, "stopped early") == (job.state, job.result)
