"""Items of a batch that are asked to end: each ends as a single job would, and none before its handler has."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from jobqueue.app import App
from jobqueue.base.errors import JobCancelled
from jobqueue.base.job import JobState
from jobqueue.base.retry import steps
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.handle import JobHandle
from jobqueue.worker.supervisor import Work
from tests.support.beating import QUICK
from tests.support.processes import command_line
from tests.support.scripts import run_script
from tests.support.waiting import wait_until
from tests.support.working import asleep, claims_left, end_of, new_app, reached
from tests.worker.test_lost_claims import take_away

LONG = 60.0
"""Seconds that no test waits."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What threads wait for; opened at the end whatever happens, so that none outlives its test."""
    event = threading.Event()
    yield event
    event.set()


class Handler:
    """Stays until it is let go; when it is cancelled it cleans up, as long as it must, and goes."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.let_go = asyncio.Event()
        self.cancelled = 0
        self.may_go = asyncio.Event()
        self.gone = 0

    async def __call__(self, numbers: list[int]) -> list[str]:
        self.calls.append(numbers)
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await self.may_go.wait()
            raise
        finally:
            self.gone += 1
        return [f"did {number}" for number in numbers]


@dataclass
class Running:
    """A batch of three that runs in one of a worker's two slots; nothing else is on its way."""

    dsn: str
    app: App
    worker: Work
    handles: list[JobHandle[str]]

    async def heard(self) -> None:
        """Return once the worker has heard all that it was told so far: notifications come one after the other."""
        ping = self.app.registry.find("ping")
        assert ping is not None
        await asleep(self.dsn)
        await end_of(self.app, await ping.defer())

    async def timed_out(self) -> None:
        """Return once a timeout of 0.2 s is over that begins now."""
        endless = self.app.registry.find("endless")
        assert endless is not None
        await end_of(self.app, await endless.defer())

    async def states(self) -> list[JobState]:
        return [await handle.status() for handle in self.handles]


def declare_signals(app: App) -> None:
    """What `Running` defers to learn how far the worker is."""

    @app.task
    async def ping() -> None: ...

    @app.task(timeout=0.2, max_attempts=1)
    async def endless() -> None:
        await anyio.sleep_forever()


@asynccontextmanager
async def three_running(dsn: str, app: App, handler: Handler, *limits: float, **options: Any) -> AsyncIterator[Running]:
    """`limits` are the timeouts of the first items."""

    @app.batch_task(size=3, wait=LONG, **options)
    async def work(numbers: list[int]) -> list[str]:
        return await handler(numbers)

    declare_signals(app)
    async with app:
        tasks = [work.options(timeout=limit) for limit in limits] + [work] * (3 - len(limits))
        handles = await app.defer_many([task.job(number) for number, task in enumerate(tasks)])
        async with app.worker(concurrency=2) as worker:
            await wait_until(lambda: handler.calls, "they run")
            yield Running(dsn, app, worker, handles)


async def test_a_cancelled_item_ends_with_its_batch(database: str) -> None:
    """S0-03, S2-09: of three that run one is cancelled, on record when the handler has ended; the others complete."""
    app, handler = new_app(database), Handler()

    async with three_running(database, app, handler) as running:
        await running.handles[1].cancel()
        await running.heard()
        assert [JobState.RUNNING] * 3 == await running.states(), "the handler still has it"
        handler.let_go.set()
        assert ["did 0", "did 2"] == [await running.handles[place].result(timeout=10) for place in (0, 2)]
        with pytest.raises(JobCancelled, match="requested"):
            await running.handles[1].result(timeout=10)

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
                await handle.result(timeout=10)
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
            await handle.result(timeout=10)
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
        await (await work.defer(5)).result(timeout=10)

    assert [[5]] == calls


async def test_items_are_timed_out(database: str) -> None:
    """S0-03, S0-15: once all items are past their timeout the handler is cancelled; they have failed, told with the
    place where it was, and run again."""
    app, handler = new_app(database), Handler()
    handler.may_go.set()

    async with three_running(database, app, handler, timeout=0.3, retry=steps(0)) as running:
        await wait_until(lambda: handler.cancelled, "the handler is cancelled")
        handler.let_go.set()
        jobs = [await end_of(app, handle) for handle in running.handles]

    assert 1 == handler.cancelled
    assert [(JobState.COMPLETED, 2)] * 3 == [(job.state, job.attempt) for job in jobs]
    for job in jobs:
        (error,) = job.errors
        assert "timeout after 0.3 s" == error.message
        assert "self.let_go.wait()" in (error.traceback or "")


async def test_one_item_is_timed_out(database: str) -> None:
    """S0-03, S0-15: an item past its timeout has failed even if the handler comes to a result for it, but only then."""
    app, handler = new_app(database), Handler()

    async with three_running(database, app, handler, 0.05, max_attempts=1) as running:
        await running.timed_out()
        assert [JobState.RUNNING] * 3 == await running.states()
        handler.let_go.set()
        jobs = [await end_of(app, handle) for handle in running.handles]

    assert [JobState.DEAD, JobState.COMPLETED, JobState.COMPLETED] == [job.state for job in jobs]
    assert "timeout after 0.05 s" == (jobs[0].error and jobs[0].error.message)


async def test_a_drain_begins_a_batch_that_gathers(database: str) -> None:
    """S0-03, S1-16: nothing more comes in a drain, so the batch begins at once, and ends on record."""
    app, calls = new_app(database), list[list[int]]()

    @app.batch_task(wait=LONG)
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)

    async with app:
        handles = await work.defer_many([0, 1])
        async with app.worker() as worker:
            await wait_until(lambda: worker.snapshot().running == 2, "they wait for more")
            await worker.drain(10)
        states = [await handle.status() for handle in handles]

    assert ([[0, 1]], [JobState.COMPLETED] * 2) == (calls, states)


async def test_an_item_that_comes_in_a_drain_waits_for_no_other(database: str) -> None:
    """S0-03, S1-16: an item that middleware has held up until the drain had begun gets its batch at once."""
    held, let_go = asyncio.Event(), asyncio.Event()

    async def hold_up(ctx: JobContext, call_next: Any) -> Any:
        held.set()
        await let_go.wait()
        return await call_next(ctx)

    app = App(database, middleware=[hold_up])

    @app.batch_task(wait=LONG)
    async def work(numbers: list[int]) -> None: ...

    async with app:
        handle = await work.defer(1)
        async with app.worker() as worker:
            await held.wait()
            worker.stop(10)
            let_go.set()
            await worker.ended()
        assert JobState.COMPLETED is await handle.status()


async def test_a_drain_waits_for_a_batch(database: str) -> None:
    """S0-03, S1-16: a batch that runs when the drain begins ends on record."""
    app, handler = new_app(database), Handler()

    async with three_running(database, app, handler) as running:
        draining = asyncio.create_task(running.worker.drain(10))
        await wait_until(lambda: running.worker.snapshot().draining, "the drain has begun")
        handler.let_go.set()
        await draining
        assert [JobState.COMPLETED] * 3 == await running.states()


async def test_a_drain_past_its_limit_gives_the_batch_back(database: str) -> None:
    """S0-03, S4-54: the handler is cancelled and cleans up; its items are ready again, no attempt spent."""
    app, handler = new_app(database), Handler()
    handler.may_go.set()

    async with three_running(database, app, handler) as running:
        with pytest.raises(TimeoutError, match=r"3 job\(s\) still ran"):
            await running.worker.drain(0.05)
        jobs = [await app.jobs.get(handle.id) for handle in running.handles]

    assert (1, 1) == (handler.cancelled, handler.gone)
    assert [(JobState.READY, 0)] * 3 == [(job.state, job.attempt) for job in jobs]
    assert [] == await claims_left(database)


async def test_an_item_whose_claim_is_lost_leaves_the_others_alone(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S0-03, S1-26: the others are completed; what the handler gives for the lost one is not written."""
    app, handler = new_app(database, **QUICK), Handler()

    async with three_running(database, app, handler) as running:
        await take_away(database, running.handles[1].id)
        await wait_until(lambda: "job.lost" in caplog.text, "the claim is given up")
        handler.let_go.set()
        assert ["did 0", "did 2"] == [await running.handles[place].result(timeout=10) for place in (0, 2)]
        await wait_until(lambda: running.worker.snapshot().running == 0, "the slot is free")
        assert JobState.RUNNING is await running.handles[1].status(), "it is the other's"

    assert 0 == handler.cancelled


async def test_a_plain_handler_runs_in_a_thread(database: str, gate: threading.Event) -> None:
    """S0-03: a `def` handler runs in a thread, which cannot be cancelled: its items wait for it."""
    app = new_app(database)
    threads: list[bool] = []

    @app.batch_task(size=3, wait=LONG, max_attempts=1)
    def work(numbers: list[int]) -> list[int | Exception]:
        threads.append(threading.current_thread() is threading.main_thread())
        gate.wait(10)
        return [OSError("no route") if number == 1 else number for number in numbers]

    declare_signals(app)
    async with app:
        handles = await app.defer_many([work.options(timeout=0.1).job(0), work.job(1), work.job(2)])
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


async def test_a_drain_waits_for_no_thread_beyond_its_limits(
    database: str, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S0-03: items whose handler's thread does not end keep their claims; the drain says so and returns."""
    monkeypatch.setattr("jobqueue.worker.supervisor.FINAL_WRITES", 0.4)
    app = new_app(database)
    began = threading.Event()

    @app.batch_task(size=2, wait=LONG)
    def work(numbers: list[int]) -> None:
        began.set()
        gate.wait(10)

    async with app:
        with pytest.raises(TimeoutError):
            async with app.worker() as worker:
                handles = await work.defer_many(range(2))
                await wait_until(began.is_set, "the thread runs")
                with anyio.fail_after(3):
                    await worker.drain(0.1)
        states = [await handle.status() for handle in handles]
        gate.set()

    assert worker.clean is False
    assert [JobState.RUNNING] * 2 == states
    assert 2 == caplog.text.count("job.outlived_stop")


async def test_no_thread_keeps_a_loop_from_its_end(database: str) -> None:
    """S0-03: when a loop is closed, items that wait for a thread do not hold it up."""
    answer = await run_script(
        """
        import asyncio, logging, os, sys, threading, time
        import jobqueue.worker.supervisor
        from jobqueue import App

        logging.basicConfig(stream=sys.stdout)
        jobqueue.worker.supervisor.FINAL_WRITES = 0.2
        app = App(os.environ["JOBQUEUE_DSN"])
        began, gate = threading.Event(), threading.Event()

        @app.batch_task(size=2, wait=60)
        def work(numbers: list[int]) -> None:
            began.set()
            gate.wait(60)

        async def main() -> None:
            async with app:
                await work.defer_many([1, 2])
                async with app.worker() as worker:
                    while not began.is_set():
                        await asyncio.sleep(0.01)
                    worker.stop(0)
                    await worker.ended()

        started = time.monotonic()
        asyncio.run(main())
        print("loop ended", time.monotonic() - started < 15)
        gate.set()
        """,
        database,
    )

    assert "loop ended True" in answer
    assert 2 == answer.count("job.outlived_stop")
    assert "job.outcome_unsaved" not in answer, "a thread that works on has no outcome"


FAULTY = """
import os, pathlib, time
from jobqueue import App
from tests.support.beating import QUICK
from jobqueue import Settings

app = App(os.environ["FAULTY_DSN"], settings=Settings(**QUICK))
calls = pathlib.Path(os.environ["FAULTY_CALLS"])

@app.batch_task(size=3, wait=60)
def work(numbers: list[int]) -> list[int]:
    with calls.open("a") as file:
        file.write(f"{numbers}\\n")
    if len(calls.read_text().splitlines()) == 1:
        time.sleep(60)
    return numbers
"""


@pytest.mark.timeout(60)
async def test_a_killed_worker_takes_its_batch_with_it_once(database: str, tmp_path: Path) -> None:
    """S0-03, S1-17: a worker is killed in mid-batch: each item runs again, alone, since one may be at fault."""
    calls = tmp_path / "calls"
    calls.touch()
    app = new_app(database)

    @app.batch_task()
    async def work(numbers: list[int]) -> list[int]:
        return numbers

    with command_line(tmp_path) as line:
        line.environment |= {"FAULTY_DSN": database, "FAULTY_CALLS": str(calls)}
        line.module("faulty", FAULTY)
        async with app:
            handles = await work.defer_many(range(3))
            first = line.start("worker", "faulty:app")
            await wait_until(calls.read_text, "the batch runs", 20)
            first.kill()
            line.start("worker", "faulty:app")
            assert [0, 1, 2] == [await handle.result(timeout=30) for handle in handles]
            jobs = [await app.jobs.get(handle.id) for handle in handles]

    assert ["[0, 1, 2]", "[0]", "[1]", "[2]"] == sorted(
        calls.read_text().splitlines(), key=lambda call: (-len(call), call)
    )
    assert [(1, 1)] * 3 == [(job.attempt, job.crashes) for job in jobs]


async def test_a_stuck_batch_is_named_once_and_makes_room(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S0-03, S2-41: a handler that swallows its cancellation is told with its place; one spare slot opens for it.

    An item that waits for a handler which nobody has asked to end is not stuck.
    """
    monkeypatch.setattr("jobqueue.worker.stuck._PATIENCE", 0.5)
    monkeypatch.setattr("jobqueue.worker.stuck._LOOK", 0.1)
    caplog.set_level(logging.WARNING, "jobqueue")
    app, handler, over = new_app(database), Handler(), asyncio.Event()

    def told(task: str) -> list[str]:
        lines = [record.getMessage() for record in caplog.records if "job.stuck" in record.getMessage()]
        return [line for line in lines if f"task='{task}'" in line]

    @app.task(timeout=0.05, max_attempts=1)
    async def clings() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        await over.wait()

    async with three_running(database, app, handler, 0.05, 0.05) as running:
        other = await clings.defer()
        await wait_until(lambda: told("clings"), "one that was asked at the same time is told")
        assert [] == told("work")
        over.set()
        await end_of(app, other)
        await running.handles[2].cancel()
        await wait_until(lambda: told("work"), "now it is told")
        (line,) = told("work")
        assert "why='timeout'" in line
        assert "test_batch_ends.py" in line
        await wait_until(lambda: running.worker.snapshot().free == 2, "a spare slot is open beside the free one")
        handler.may_go.set()
        for handle in running.handles:
            await reached(app, handle, JobState.CANCELLED if handle is running.handles[2] else JobState.SCHEDULED)
        await wait_until(lambda: running.worker.snapshot().free == 2, "the spare slot is closed again")

    assert 1 == handler.cancelled
