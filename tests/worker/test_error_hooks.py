"""`@app.on_error`: the user's own code hears of each failed attempt."""

import asyncio
import logging

import anyio
import pytest

from jobqueue import App, Cancel, FailedAttempt, Fatal, JobContext, Snooze, steps
from jobqueue.base.job import JobState
from jobqueue.tasks import hooks
from tests.support.waiting import wait_until
from tests.support.working import end_of, new_app, reached


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
            await wait_until(lambda: worker.snapshot().running == 0, "its slot is free")
    assert (JobState.DEAD, "attempts", [1]) == (job.state, job.reason, told)
    lines = [record.getMessage() for record in caplog.records if "hook.failed" in record.getMessage()]
    assert ["KeyError", "SystemExit", "TimeoutError"] == [line.partition("error='")[2].split("'")[0] for line in lines]
    assert "hunter2" not in caplog.text


async def test_a_cancellation_cuts_a_hook_and_keeps_the_outcome(database: str) -> None:
    """S0-09, S4-26: a worker that stops does not wait for a hook, and the attempt's outcome is written."""
    app: App = new_app(database)
    began = asyncio.Event()

    @app.on_error
    async def hangs(failed: FailedAttempt) -> None:
        began.set()
        await anyio.sleep_forever()

    @app.task(max_attempts=1)
    async def work() -> None:
        raise OSError

    async with app:
        async with app.worker() as worker:
            handle = await work.defer()
            await began.wait()
            worker.stop(0)
        assert JobState.DEAD is await handle.status()
