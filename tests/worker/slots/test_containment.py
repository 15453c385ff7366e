"""One job's trouble is its own: beside whatever a handler does, the others run, and the worker lives on."""

import asyncio
import contextvars
import gc
import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest

from jobqueue.base.job import JobState
from jobqueue.base.outcome import Fatal
from jobqueue.base.retry import steps
from jobqueue.tasks.context import JobContext
from tests.support.jobs.working import claims_left, end_of, new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until


class Shock(BaseException):
    """An exception that `except Exception` does not catch."""


async def raises_shock() -> None:
    raise Shock


async def exits() -> None:
    raise SystemExit(1)


async def is_interrupted() -> None:
    raise KeyboardInterrupt


async def closes() -> None:
    raise GeneratorExit


async def raises_cancelled() -> None:
    raise asyncio.CancelledError


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep_forever()


async def cancels_itself_and_fails() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    raise OSError


async def fails_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(raises_value_error())
        group.create_task(anyio.sleep_forever())


async def raises_value_error() -> None:
    raise ValueError("wrong")


async def swallows_its_timeout() -> None:
    try:
        await anyio.sleep_forever()
    except asyncio.CancelledError:
        return


async def hangs() -> None:
    await anyio.sleep_forever()


async def recurses() -> None:
    await recurses()


async def is_fatal() -> None:
    raise Fatal("no")


def exits_in_a_thread() -> None:
    raise SystemExit(1)


def stops_iterating_in_a_thread() -> None:
    next(iter(()))


TROUBLE: list[Callable[[], Awaitable[None] | None]] = [
    raises_shock,
    exits,
    is_interrupted,
    closes,
    raises_cancelled,
    cancels_itself,
    cancels_itself_and_fails,
    fails_in_a_group,
    raises_value_error,
    swallows_its_timeout,
    hangs,
    recurses,
    is_fatal,
    exits_in_a_thread,
    stops_iterating_in_a_thread,
]


async def test_healthy_jobs_run_beside_every_kind_of_trouble(database: str) -> None:
    """S0-15, S3-16: jobs that end in every bad way are dead after their attempts; 20 others and later ones complete."""
    app = new_app(database)
    troubles = [app.task(max_attempts=2, retry=steps(0), timeout=0.3)(function) for function in TROUBLE]

    @app.task
    async def healthy(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return number

    async with app, app.worker(concurrency=6) as worker:
        bad = [handle for task in troubles for handle in await app.defer_many([task.job()])]
        good = [await healthy.defer(number) for number in range(20)]
        assert list(range(20)) == [await handle.result(timeout=PATIENCE) for handle in good]
        ends = {handle.task: (await end_of(app, handle)).state for handle in bad}
        assert {task.name: JobState.DEAD for task in troubles} == ends

        assert 7 == await (await healthy.defer(7)).result(timeout=PATIENCE)
        await wait_until(lambda: worker.snapshot().free == 6, "all slots are free again")
        assert worker.clean

    assert [] == await claims_left(database)


async def test_a_stray_cancellation_costs_no_slot(database: str) -> None:
    """Handlers that leave a cancellation behind, one after the other, leave all slots in place."""
    app = new_app(database)

    @app.task
    async def cancel_and_return(number: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return number

    async with app, app.worker(concurrency=2) as worker:
        handles = [await cancel_and_return.defer(number) for number in range(10)]
        assert list(range(10)) == [await handle.result(timeout=PATIENCE) for handle in handles]
        await wait_until(lambda: worker.snapshot().free == 2, "both slots are free")


async def test_context_variables_do_not_leak_from_job_to_job(database: str) -> None:
    """Each job begins with fresh context variables: neither those of the job before nor those of the caller."""
    app = new_app(database)
    mark = contextvars.ContextVar("mark", default="none")
    mark.set("caller's")

    @app.task
    async def look_and_set() -> str:
        before = mark.get()
        mark.set("job's")
        return before

    async with app, app.worker(concurrency=1):
        handles = [await look_and_set.defer() for _ in range(3)]
        assert ["none"] * 3 == [await handle.result(timeout=PATIENCE) for handle in handles]


async def test_a_task_broken_from_outside_is_a_failed_attempt(database: str) -> None:
    """Someone who cancels all tasks of the loop costs the running jobs an attempt, not the worker its life."""
    app = new_app(database)
    began = asyncio.Event()

    @app.task(max_attempts=1)
    async def victim() -> None:
        began.set()
        await anyio.sleep_forever()

    @app.task
    async def healthy() -> str:
        return "ran"

    async with app, app.worker():
        handle = await victim.defer()
        await began.wait()
        [task] = [task for task in asyncio.all_tasks() if "_perform" in str(task.get_coro())]
        task.cancel()
        job = await end_of(app, handle)
        assert "ran" == await (await healthy.defer()).result(timeout=PATIENCE)

    assert (JobState.DEAD, "asyncio.exceptions.CancelledError") == (job.state, job.error and job.error.error_class)


async def test_nothing_is_logged_that_was_dealt_with(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio finds no exception that nobody has looked at: every failure is retrieved and stored."""
    app = new_app(database)
    caplog.set_level(logging.WARNING, "asyncio")

    @app.task(max_attempts=1)
    async def fail(ctx: JobContext) -> None:
        raise SystemExit(2)

    async with app, app.worker():
        await end_of(app, await fail.defer())
    gc.collect()

    assert [] == [record.getMessage() for record in caplog.records if record.name == "asyncio"]
