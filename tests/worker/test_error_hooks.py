"""`@app.on_error`: the user's own code hears of each failed attempt."""

import asyncio
import logging
from typing import Any

import anyio
import pytest

from jobqueue import App, Cancel, ConfigurationError, FailedAttempt, Fatal, JobContext, Snooze, steps
from jobqueue.base.job import JobState
from jobqueue.tasks.run import hooks
from tests.support.jobs.working import end_of, new_app, reached
from tests.support.patience import NEVER, PATIENCE
from tests.support.waiting import wait_until


async def test_each_failed_attempt_is_told_once(database: str) -> None:
    """S0-09: with the exception itself, the attempt, and whether it will run again; never with the payload."""
    app = new_app(database)
    told: list[FailedAttempt] = []
    app.on_error(told.append)

    @app.on_error
    async def report(failed: FailedAttempt) -> None:
        await anyio.lowlevel.checkpoint()
        told.append(failed)

    @app.task(retry=steps(0), queue="mail")
    async def work(ctx: JobContext, secret: str) -> None:
        if ctx.attempt == 1:
            raise OSError("first")
        raise Fatal("second")

    async with app, app.worker():
        handle = await work.defer("hunter2")
        await end_of(app, handle)

    assert [(1, "first", True)] * 2 + [(2, "second", False)] * 2 == [
        (failed.attempt, str(failed.error), failed.will_retry) for failed in told
    ]
    assert {(handle.id, "work", "mail")} == {(failed.job_id, failed.task, failed.queue) for failed in told}
    assert "hunter2" not in repr(told)


async def test_what_is_no_failure_is_not_told(database: str) -> None:
    """S0-09: success, snooze, cancel and an interrupted run call no hook; a thread's error and a timeout do."""
    app = new_app(database)
    told: list[tuple[str, str]] = []
    app.on_error(lambda failed: told.append((failed.task, type(failed.error).__name__)))
    began = asyncio.Event()

    @app.task
    async def fine() -> None: ...

    @app.task
    async def snoozes(ctx: JobContext) -> None:
        raise Snooze(delay=3600)

    @app.task
    async def cancels() -> None:
        raise Cancel("no")

    @app.task
    async def waits() -> None:
        began.set()
        await anyio.sleep_forever()

    @app.task(timeout=0.05, max_attempts=1)
    async def hangs() -> None:
        await anyio.sleep_forever()

    @app.task(max_attempts=1)
    def thread() -> None:
        raise OSError

    async with app:
        async with app.worker() as worker:
            ends = [await task.defer() for task in (fine, cancels, hangs, thread)]
            snoozed, waiting = await snoozes.defer(), await waits.defer()
            for handle in ends:
                await end_of(app, handle)
            await reached(app, snoozed, JobState.SCHEDULED)
            await began.wait()
            with pytest.raises(TimeoutError):
                await worker.drain(0.01)
        assert JobState.READY is await waiting.status()
    assert [("hangs", "TimeoutError"), ("thread", "OSError")] == sorted(told)


async def test_a_broken_hook_changes_nothing(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S0-09: hooks that raise, exit or hang are told by their class; the next one is called, the job ends."""
    monkeypatch.setattr(hooks, "HOOK_LIMIT", 0.1)
    app = new_app(database)
    told: list[int] = []

    @app.on_error
    def raises(failed: FailedAttempt) -> None:
        raise KeyError("hunter2")

    @app.on_error
    async def exits(failed: FailedAttempt) -> None:
        raise SystemExit

    @app.on_error
    async def hangs(failed: FailedAttempt) -> None:
        await anyio.sleep_forever()

    app.on_error(lambda failed: told.append(failed.attempt))

    @app.task(max_attempts=1)
    async def work() -> None:
        raise OSError

    with caplog.at_level(logging.ERROR):
        async with app, app.worker() as worker:
            job = await end_of(app, await work.defer())
            await wait_until(lambda: told, "the last hook is called")
            assert 0 == worker.snapshot().running
    assert (JobState.DEAD, "attempts", [1]) == (job.state, job.reason, told)
    lines = [record.getMessage() for record in caplog.records if "hook.failed" in record.getMessage()]
    assert ["KeyError", "SystemExit", "TimeoutError"] == [line.partition("error='")[2].split("'")[0] for line in lines]
    assert "hunter2" not in caplog.text


async def test_the_outcome_does_not_wait_for_hooks(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S0-09, S2-41: the attempt is on record while its hook runs, which keeps the slot and is no stuck handler."""
    monkeypatch.setattr("jobqueue.worker.slots.stuck._PATIENCE", 0.1)
    monkeypatch.setattr("jobqueue.worker.slots.stuck._LOOK", 0.05)
    app = new_app(database)
    began, let_go = asyncio.Event(), asyncio.Event()

    @app.on_error
    async def slow(failed: FailedAttempt) -> None:
        began.set()
        await let_go.wait()

    @app.task(timeout=0.1, max_attempts=1)
    async def work() -> None:
        await anyio.sleep_forever()

    async with app, app.worker(concurrency=2) as worker:
        handle = await work.defer()
        await began.wait()
        assert JobState.DEAD is (await end_of(app, handle)).state
        late = asyncio.get_running_loop().time() + 0.4
        await wait_until(lambda: asyncio.get_running_loop().time() > late, "several looks for stuck handlers")
        assert (0, 1) == (worker.snapshot().running, worker.snapshot().free), "its slot is kept"
        assert "job.stuck" not in caplog.text
        let_go.set()
        await wait_until(lambda: worker.snapshot().free == 2, "its slot is free")


async def test_a_batch_that_fails_keeps_one_slot_for_its_hooks(database: str) -> None:
    """S0-09, S0-03: the hooks of all its items run in the one slot that they had."""
    app = new_app(database)
    began: list[int] = []
    let_go = asyncio.Event()

    @app.on_error
    async def slow(failed: FailedAttempt) -> None:
        began.append(failed.attempt)
        await let_go.wait()

    @app.batch_task(size=5, wait=60, max_attempts=1)
    async def work(numbers: list[int]) -> None:
        raise OSError

    async with app, app.worker(concurrency=3) as worker:
        await work.defer_many(range(5))
        await wait_until(lambda: len(began) == 5, "all hooks run")
        assert (0, 2) == (worker.snapshot().running, worker.snapshot().free)
        let_go.set()
        await wait_until(lambda: worker.snapshot().free == 3, "its slot is free")


async def test_a_job_that_has_completed_itself_has_not_failed(database: str) -> None:
    """S0-09: what a handler raises after its own transaction has completed the job is told to no hook."""
    app = new_app(database)
    told: list[str] = []
    app.on_error(lambda failed: told.append(failed.task))

    @app.task(retry=steps(0))
    async def completes(ctx: JobContext) -> None:
        async with ctx.transaction():
            ctx.complete()
        raise OSError

    @app.task(max_attempts=1)
    async def fails(ctx: JobContext) -> None:
        async with ctx.transaction():
            pass
        raise OSError

    async with app:
        first = await completes.defer()
        async with app.worker():
            assert JobState.COMPLETED is (await end_of(app, first)).state
            await end_of(app, await fails.defer())

    assert ["fails"] == told


@pytest.mark.parametrize("timeout", [None, 0.1])
async def test_a_stop_waits_for_no_hook(
    database: str, timeout: float | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S0-09, S4-26: a worker that cuts off its jobs cuts off a hook, whatever the attempt ended by; it stops cleanly,
    nothing counts as cut off, the outcome is written, and the hooks after that one are still called."""
    monkeypatch.setattr(hooks, "HOOK_LIMIT", NEVER)
    app: App = new_app(database)
    began = asyncio.Event()
    told: list[int] = []

    @app.on_error
    async def hangs(failed: FailedAttempt) -> None:
        began.set()
        await anyio.sleep_forever()

    app.on_error(lambda failed: told.append(failed.attempt))

    @app.task(timeout=timeout, max_attempts=1)
    async def work() -> None:
        if timeout is None:
            raise OSError
        await anyio.sleep_forever()

    async with app:
        async with app.worker() as worker:
            handle = await work.defer()
            await began.wait()
            with anyio.fail_after(PATIENCE):
                await worker.drain(0)
        assert JobState.DEAD is await handle.status()
    assert (True, [1]) == (worker.clean, told)
    assert "job.outlived_stop" not in caplog.text


async def test_a_failure_in_the_stop_is_told_without_waiting(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S0-09, S4-26: a timed-out handler that ends when the worker stops already: hooks are called, not waited for."""
    monkeypatch.setattr(hooks, "HOOK_LIMIT", NEVER)
    app = new_app(database)
    cleans_up, may_end = asyncio.Event(), asyncio.Event()
    told: list[int] = []

    @app.on_error
    async def hangs(failed: FailedAttempt) -> None:
        told.append(failed.attempt)
        await anyio.sleep_forever()

    app.on_error(lambda failed: told.append(failed.attempt))

    @app.task(timeout=0.1, max_attempts=1)
    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleans_up.set()
            await may_end.wait()

    async with app:
        async with app.worker() as worker:
            handle = await work.defer()
            await cleans_up.wait()
            worker.stop(0)
            await wait_until(lambda: worker.cut_off, "the jobs are cut off")
            may_end.set()
            with anyio.fail_after(PATIENCE):
                await worker.ended()
        assert JobState.DEAD is await handle.status()
    assert (True, [1, 1]) == (worker.clean, told)


@pytest.mark.parametrize("wrong", [3, lambda: None, lambda failed, more: None], ids=["no function", "none", "two"])
def test_what_cannot_be_called_with_a_failure_is_refused(wrong: Any) -> None:
    """S0-09: when it is registered, not when the first job fails at night."""
    with pytest.raises(ConfigurationError, match=r"^on_error: .* must be a function of one argument"):
        App("postgresql://").on_error(wrong)
