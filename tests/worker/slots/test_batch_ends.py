"""Items of a batch that are asked to end: each ends as a single job would, and none before its handler has."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator

import anyio
import pytest

from jobqueue.base.errors import JobCancelled
from jobqueue.base.job import JobState
from jobqueue.base.retry import steps
from tests.support.jobs.batches import LIMIT, LONG, Handler, Running, declare_signals, three_running
from tests.support.jobs.beating import QUICK
from tests.support.jobs.deaths import take_away
from tests.support.jobs.working import asleep, end_of, new_app, reached
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What threads wait for; opened at the end whatever happens, so that none outlives its test."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_cancelled_item_ends_with_its_batch(database: str) -> None:
    """S0-03, S2-09: of three that run one is cancelled, on record when the handler has ended; the others complete."""
    app, handler = new_app(database), Handler()

    async with three_running(database, app, handler) as running:
        await running.handles[1].cancel()
        await running.heard()
        assert [JobState.RUNNING] * 3 == await running.states(), "the handler still has it"
        handler.let_go.set()
        assert ["did 0", "did 2"] == [await running.handles[place].result(timeout=PATIENCE) for place in (0, 2)]
        with pytest.raises(JobCancelled, match="requested"):
            await running.handles[1].result(timeout=PATIENCE)

    assert ([[0, 1, 2]], 0) == (handler.calls, handler.cancelled)


async def test_once_all_items_are_cancelled_the_handler_is(database: str) -> None:
    """S0-03, S2-09: the last of three cancels cancels the handler, once; the jobs end when it has cleaned up."""
    app, handler = new_app(database), Handler()

    async with three_running(database, app, handler) as running:
        for place in (2, 0):
            await running.handles[place].cancel()
        await running.heard()
        assert 0 == handler.cancelled
        await running.handles[1].cancel()
        await wait_until(lambda: handler.cancelled, "the handler is cancelled")
        for handle in running.handles:
            await handle.cancel()
        await running.heard()
        assert [JobState.RUNNING] * 3 == await running.states(), "it cleans up"
        handler.may_go.set()
        for handle in running.handles:
            with pytest.raises(JobCancelled, match="requested"):
                await handle.result(timeout=PATIENCE)
        assert 0 == running.worker.snapshot().running

    assert (1, 1) == (handler.cancelled, handler.gone)


async def test_an_item_cancelled_before_the_handler_begins_leaves(database: str) -> None:
    """S0-03, S2-09: while the batch gathers, a cancelled item ends at once; its seat is free for the next."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task(size=3, wait=LONG)
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)

    async with app, app.worker(concurrency=1) as worker:
        first, second = await work.defer_many([0, 1])
        await wait_until(lambda: worker.snapshot().running == 2, "two wait for a third")
        await asleep(database)
        await first.cancel()
        assert JobState.CANCELLED is (await end_of(app, first)).state
        await wait_until(lambda: worker.snapshot().running == 1, "its seat is free")
        third, fourth = await work.defer_many([2, 3])
        for handle in (second, third, fourth):
            await handle.result(timeout=PATIENCE)
        await wait_until(lambda: worker.snapshot().running == 0, "the slot is free")
        assert worker.snapshot().free >= 1

    assert [[1, 2, 3]] == calls


async def test_a_batch_that_all_have_left_holds_no_slot(database: str) -> None:
    """S0-03: once every item was cancelled while the batch gathered, it is gone: no call, and the slot is free."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task(size=3, wait=0.5)
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)

    async with app, app.worker(concurrency=1) as worker:
        handles = await work.defer_many([0, 1])
        await wait_until(lambda: worker.snapshot().running == 2, "they wait for a third")
        await asleep(database)
        for handle in handles:
            await handle.cancel()
            await end_of(app, handle)
        await wait_until(lambda: (0, 1) == (worker.snapshot().running, worker.snapshot().free), "one slot is free")
        await (await work.defer(5)).result(timeout=PATIENCE)

    assert [[5]] == calls


async def test_items_are_timed_out(database: str) -> None:
    """S0-03, S0-15: once all items are past their timeout the handler is cancelled; they have failed, told with the
    place where it was, and run again."""
    app, handler = new_app(database), Handler()
    handler.may_go.set()

    async with three_running(database, app, handler, timeout=LIMIT, retry=steps(0)) as running:
        await wait_until(lambda: handler.cancelled, "the handler is cancelled")
        handler.let_go.set()
        jobs = [await end_of(app, handle) for handle in running.handles]

    assert 1 == handler.cancelled
    assert [(JobState.COMPLETED, 2)] * 3 == [(job.state, job.attempt) for job in jobs]
    for job in jobs:
        (error,) = job.errors
        assert f"timeout after {LIMIT:g} s" == error.message
        assert "self.let_go.wait()" in (error.traceback or "")


async def test_one_item_is_timed_out(database: str) -> None:
    """S0-03, S0-15: an item past its timeout has failed even if the handler comes to a result for it, but only then."""
    app, handler = new_app(database), Handler()

    async with three_running(database, app, handler, LIMIT, max_attempts=1) as running:
        await running.timed_out()
        assert [JobState.RUNNING] * 3 == await running.states()
        handler.let_go.set()
        jobs = [await end_of(app, handle) for handle in running.handles]

    assert [JobState.DEAD, JobState.COMPLETED, JobState.COMPLETED] == [job.state for job in jobs]
    assert f"timeout after {LIMIT:g} s" == (jobs[0].error and jobs[0].error.message)


async def test_an_item_whose_claim_is_lost_leaves_the_others_alone(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S0-03, S1-26: the others are completed; what the handler gives for the lost one is not written."""
    app, handler = new_app(database, **QUICK), Handler()

    async with three_running(database, app, handler) as running:
        await take_away(database, running.handles[1].id)
        await wait_until(lambda: "job.lost" in caplog.text, "the claim is given up")
        handler.let_go.set()
        assert ["did 0", "did 2"] == [await running.handles[place].result(timeout=PATIENCE) for place in (0, 2)]
        await wait_until(lambda: running.worker.snapshot().running == 0, "the slot is free")
        assert JobState.RUNNING is await running.handles[1].status(), "it is the other's"

    assert 0 == handler.cancelled


async def test_a_plain_handler_runs_in_a_thread(database: str, gate: threading.Event) -> None:
    """S0-03: a `def` handler runs in a thread, which cannot be cancelled: its items wait for it."""
    app = new_app(database)
    threads: list[bool] = []

    @app.batch_task(size=3, wait=LIMIT / 2, max_attempts=1)
    def work(numbers: list[int]) -> list[int | Exception]:
        threads.append(threading.current_thread() is threading.main_thread())
        gate.wait(PATIENCE)
        return [OSError("no route") if number == 1 else number for number in numbers]

    declare_signals(app)
    async with app:
        handles = await app.defer_many([work.options(timeout=LIMIT).job(0), work.job(1), work.job(2)])
        async with app.worker(concurrency=2) as worker:
            await wait_until(lambda: threads, "the thread runs")
            running = Running(database, app, worker, handles)
            await running.timed_out()
            for handle in handles:
                await handle.cancel()
            await running.heard()
            assert [JobState.RUNNING] * 3 == await running.states()
            gate.set()
            jobs = [await end_of(app, handle) for handle in handles]

    assert [False] == threads
    assert [JobState.DEAD, JobState.CANCELLED, JobState.COMPLETED] == [job.state for job in jobs]


async def test_a_stuck_batch_is_named_once_and_makes_room(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S0-03, S2-41: a handler that swallows its cancellation is told with its place; one spare slot opens for it.

    An item that waits for a handler which nobody has asked to end is not stuck.
    """
    monkeypatch.setattr("jobqueue.worker.slots.stuck._PATIENCE", 0.5)
    monkeypatch.setattr("jobqueue.worker.slots.stuck._LOOK", 0.1)
    caplog.set_level(logging.WARNING, "jobqueue")
    app, handler, over = new_app(database), Handler(), asyncio.Event()

    def told(task: str) -> list[str]:
        lines = [record.getMessage() for record in caplog.records if "job.stuck" in record.getMessage()]
        return [line for line in lines if f"task='{task}'" in line]

    @app.task(timeout=LIMIT, max_attempts=1)
    async def clings() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        await over.wait()

    async with three_running(database, app, handler, LIMIT, LIMIT) as running:
        other = await clings.defer()
        await wait_until(lambda: told("clings"), "one that was asked at the same time is told")
        assert [] == told("work")
        over.set()
        await end_of(app, other)
        await running.handles[2].cancel()
        await wait_until(lambda: told("work"), "now it is told")
        (line,) = told("work")
        assert "why='timeout'" in line
        assert "support/jobs/batches.py" in line
        await wait_until(lambda: running.worker.snapshot().free == 2, "a spare slot is open beside the free one")
        handler.may_go.set()
        for handle in running.handles:
            await reached(app, handle, JobState.CANCELLED if handle is running.handles[2] else JobState.SCHEDULED)
        await wait_until(lambda: running.worker.snapshot().free == 2, "the spare slot is closed again")

    assert 1 == handler.cancelled
