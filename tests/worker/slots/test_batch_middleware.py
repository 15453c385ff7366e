"""Middleware around the items of a batch: its time limits, its second tries, its delays."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.base.retry import steps
from jobqueue.base.settings import Settings
from jobqueue.tasks.context import JobContext
from tests.support.jobs.batches import LONG
from tests.support.jobs.working import POLL, all_ended, end_of
from tests.support.patience import PATIENCE, stretched
from tests.support.waiting import wait_until


def app_with(dsn: str, middleware: Any) -> App:
    """An app whose items go through this."""
    return App(dsn, middleware=[middleware], settings=Settings(poll=POLL))


@asynccontextmanager
async def scope_of_anyio(seconds: float) -> Any:
    """A limit whose cancellation comes again at each turn of the loop."""
    with anyio.fail_after(seconds):
        yield


@pytest.mark.parametrize("limit", [scope_of_anyio, asyncio.timeout])
async def test_no_item_is_given_back_while_its_handler_runs(
    database: str, limit: Callable[[float], AbstractAsyncContextManager[Any]]
) -> None:
    """S0-03: an item's run is cancelled by middleware, and again by the job's timeout; what came of it is on record,
    and it runs again, only when the handler that has it has ended."""
    inside: Counter[int] = Counter()
    beside: list[int] = []
    most = 0
    asked, may_go = asyncio.Event(), asyncio.Event()

    async def limited(ctx: JobContext, call_next: Any) -> Any:
        if ctx.attempt > 1 or ctx.job.task != "work":
            return await call_next(ctx)
        async with limit(stretched(0.15)):
            try:
                return await call_next(ctx)
            finally:
                beside.append(inside.total())

    app = app_with(database, limited)

    @app.batch_task(size=2, wait=stretched(0.1), retry=steps(0), timeout=stretched(0.3))
    async def work(numbers: list[int]) -> None:
        nonlocal most
        inside.update(numbers)
        most = max(most, *inside.values())
        try:
            if not asked.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await anyio.sleep_forever()
                asked.set()
                await may_go.wait()
        finally:
            inside.subtract(numbers)

    @app.task(timeout=stretched(0.5), max_attempts=1)
    async def endless() -> None:
        await anyio.sleep_forever()

    async with app:
        handles = await work.defer_many(range(2))
        async with app.worker(concurrency=5):
            await asked.wait()
            await end_of(app, await endless.defer())  # their own timeout is over as well
            assert [JobState.RUNNING] * 2 == [await handle.status() for handle in handles]
            may_go.set()
            jobs = [await end_of(app, handle) for handle in handles]

    assert (1, [0, 0]) == (most, beside), "not even its middleware goes on beside the handler"
    assert [(JobState.COMPLETED, 2)] * 2 == [(job.state, job.attempt) for job in jobs]


async def test_an_item_that_middleware_forsakes_is_waited_for(database: str) -> None:
    """S0-03: middleware that does not wait for the end of what it has cancelled does not get the item run twice at
    once: the job's outcome waits for the handler."""
    calls: list[list[int]] = []
    let_go = asyncio.Event()
    left: list[asyncio.Task[Any]] = []

    async def forsake(ctx: JobContext, call_next: Any) -> Any:
        left.append(asyncio.ensure_future(call_next(ctx)))
        if ctx.attempt > 1:
            return await left[-1]
        await wait_until(lambda: calls, "the handler has it")
        raise OSError

    app = app_with(database, forsake)

    @app.batch_task(size=1, wait=0, retry=steps(0))
    async def work(numbers: list[int]) -> list[int]:
        calls.append(numbers)
        if len(calls) == 1:
            await let_go.wait()
        return numbers

    @app.task
    async def other() -> int:
        return 1

    async with app:
        handle = await work.defer(7)
        async with app.worker(concurrency=2) as worker:
            await wait_until(lambda: calls and left and worker.supervisor.snapshot().running, "it runs")
            await wait_until(lambda: not [t for t in asyncio.all_tasks() if _runs(t)], "its run is over")
            assert ([[7]], JobState.RUNNING) == (calls, await handle.status())
            let_go.set()
            job = await end_of(app, handle)
            await wait_until(lambda: (2, 0) == (worker.snapshot().free, worker.snapshot().running), "no slot is lost")

    assert (JobState.COMPLETED, 2, [[7], [7]]) == (job.state, job.attempt, calls)


def _runs(task: "asyncio.Task[Any]") -> bool:
    return "_perform" in str(task.get_coro())


async def test_middleware_may_try_again_after_its_own_limit(database: str) -> None:
    """S0-03: the first call of the handler is cut off by middleware; a second `call_next` joins a batch anew, and gets
    what that one gives."""
    calls = 0
    limits: list[anyio.CancelScope] = []

    async def again(ctx: JobContext, call_next: Any) -> Any:
        with anyio.CancelScope() as limit:
            limits.append(limit)
            return await call_next(ctx)
        return await call_next(ctx)

    app = app_with(database, again)

    @app.batch_task(size=2, wait=LONG, max_attempts=1)
    async def work(numbers: list[int]) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 1:
            for limit in limits:
                limit.cancel()
            await anyio.sleep_forever()
        return [f"call {calls}" for _ in numbers]

    async with app:
        handles = await work.defer_many(range(2))
        async with app.worker(concurrency=5):
            assert ["call 2"] * 2 == [await handle.result(timeout=PATIENCE) for handle in handles]


async def test_two_calls_at_once_are_refused(database: str) -> None:
    """S0-03: an item cannot be in two batches at once; the error says so, and the first call goes on."""
    errors: list[str] = []

    async def twice(ctx: JobContext, call_next: Any) -> Any:
        first = asyncio.ensure_future(call_next(ctx))
        await anyio.lowlevel.checkpoint()
        try:
            await call_next(ctx)
        except RuntimeError as error:
            errors.append(str(error))
        return await first

    app = app_with(database, twice)

    @app.batch_task(size=1, wait=0)
    async def work(numbers: list[int]) -> list[int]:
        return numbers

    async with app, app.worker(concurrency=1):
        assert 7 == await (await work.defer(7)).result(timeout=PATIENCE)

    assert ["work: call_next was called again while the batch still has this item"] == errors


async def test_items_that_come_late_do_not_exceed_concurrency(database: str) -> None:
    """S0-03, S0-04: items that middleware lets go one after the other get batches of their own, each only when the
    slot is free; what comes meanwhile joins the one that waits."""
    running, most = 0, 0
    calls: list[list[int]] = []
    began, may_end = asyncio.Event(), asyncio.Event()
    doors = [asyncio.Event() for _ in range(6)]

    async def one_by_one(ctx: JobContext, call_next: Any) -> Any:
        await doors[ctx.job.priority].wait()
        return await call_next(ctx)

    app = app_with(database, one_by_one)

    @app.batch_task(size=20, wait=0.02)
    async def work(numbers: list[int]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        calls.append(numbers)
        began.set()
        try:
            await may_end.wait()
        finally:
            running -= 1

    async with app:
        await app.defer_many([work.options(priority=number).job(number) for number in range(6)])
        async with app.worker(concurrency=1) as worker:
            await wait_until(lambda: worker.snapshot().running == 6, "all are aboard")
            for door in doors:
                door.set()
                await began.wait()
                await wait_until(lambda: worker.snapshot().running == 6, "they wait")
                await asyncio.wait({asyncio.get_running_loop().create_task(_until(0.05))})
            assert [[0]] == calls, "the others wait for its slot"
            may_end.set()
            await all_ended(database)
            await wait_until(lambda: (1, 0) == (worker.snapshot().free, worker.snapshot().running), "the slot is free")

    assert 1 == most
    assert [[0], [1, 2, 3, 4, 5]] == calls


async def test_a_late_item_joins_one_that_waits_for_its_slot(database: str) -> None:
    """S0-03: the last item of a batch that has begun without it gives up that slot, and goes with the batch that has
    waited for it: one call, with both."""
    calls: list[list[int]] = []
    doors = [asyncio.Event() for _ in range(3)]

    async def one_by_one(ctx: JobContext, call_next: Any) -> Any:
        await doors[ctx.job.priority].wait()
        return await call_next(ctx)

    app = app_with(database, one_by_one)

    @app.batch_task(size=20, wait=0.02)
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)

    async with app:
        handles = await app.defer_many([work.options(priority=number).job(number) for number in range(3)])
        async with app.worker(concurrency=1) as worker:
            await wait_until(lambda: worker.snapshot().running == 3, "all are aboard")
            doors[0].set()
            await end_of(app, handles[0])
            doors[1].set()
            await _until(0.1)
            assert [[0]] == calls, "the last one holds the slot"
            doors[2].set()
            await all_ended(database)
            await wait_until(lambda: (1, 0) == (worker.snapshot().free, worker.snapshot().running), "the slot is free")

    assert [[0], [1, 2]] == calls


async def _until(seconds: float) -> None:
    """Longer than a batch waits."""
    late = asyncio.get_running_loop().time() + seconds
    await wait_until(lambda: asyncio.get_running_loop().time() > late, "a batch's time is over")


async def test_a_late_batch_that_is_asked_to_end_leaves_no_trace(database: str) -> None:
    """S0-03, S2-09: a late item waits for a slot and is cancelled: it ends at once, and the next one is served."""
    began, may_end, let_in = asyncio.Event(), asyncio.Event(), asyncio.Event()
    calls: list[list[int]] = []

    async def hold_up(ctx: JobContext, call_next: Any) -> Any:
        if ctx.job.priority:
            await let_in.wait()
        return await call_next(ctx)

    app = app_with(database, hold_up)

    @app.batch_task(size=20, wait=0.02)
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)
        began.set()
        await may_end.wait()

    async with app:
        first, late = await app.defer_many([work.job(0), work.options(priority=1).job(1)])
        async with app.worker(concurrency=1) as worker:
            await began.wait()
            let_in.set()
            await _until(0.05)
            await late.cancel()
            assert JobState.CANCELLED is (await end_of(app, late)).state
            may_end.set()
            assert JobState.COMPLETED is (await end_of(app, first)).state
            await (await work.defer(2)).result(timeout=PATIENCE)
            await wait_until(lambda: (1, 0) == (worker.snapshot().free, worker.snapshot().running), "the slot is free")

    assert [[0], [2]] == calls


async def test_middleware_that_hangs_after_its_batch_is_stuck(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S0-03, S2-41: an item whose middleware does not end is named with its place, though its batch has long ended;
    a spare slot opens for it."""
    monkeypatch.setattr("jobqueue.worker.slots.stuck._PATIENCE", 0.3)
    monkeypatch.setattr("jobqueue.worker.slots.stuck._LOOK", 0.1)
    caplog.set_level(logging.WARNING, "jobqueue")
    let_go = asyncio.Event()

    async def hang(ctx: JobContext, call_next: Any) -> Any:
        try:
            return await call_next(ctx)
        finally:
            await let_go.wait()

    app = app_with(database, hang)

    @app.batch_task(size=1, wait=0, timeout=0.1, max_attempts=1)
    async def work(numbers: list[int]) -> None:
        await anyio.sleep_forever()

    async with app:
        handle = await work.defer(1)
        async with app.worker(concurrency=1) as worker:
            await wait_until(lambda: "job.stuck" in caplog.text, "it is told")
            await wait_until(lambda: worker.snapshot().free == 1, "a spare slot is open")
            let_go.set()
            await end_of(app, handle)

    (line,) = [record.getMessage() for record in caplog.records if "job.stuck" in record.getMessage()]
    assert "test_batch_middleware.py" in line
