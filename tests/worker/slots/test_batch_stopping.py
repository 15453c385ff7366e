"""Batches when their worker stops, drains or dies, and when its loop is closed."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.tasks.context import JobContext
from tests.support.jobs.batches import LONG, Handler, three_running
from tests.support.jobs.working import claims_left, new_app
from tests.support.patience import PATIENCE
from tests.support.programs.processes import command_line
from tests.support.programs.scripts import run_script
from tests.support.waiting import wait_until


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What threads wait for; opened at the end whatever happens, so that none outlives its test."""
    event = threading.Event()
    yield event
    event.set()


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


async def test_a_drain_waits_for_no_thread_beyond_its_limits(
    database: str, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S0-03: items whose handler's thread does not end keep their claims; the drain says so and returns."""
    monkeypatch.setattr("jobqueue.worker.draining.FINAL_WRITES", 0.4)
    app = new_app(database)
    began = threading.Event()

    @app.batch_task(size=2, wait=LONG)
    def work(numbers: list[int]) -> None:
        began.set()
        gate.wait(PATIENCE)

    async with app:
        with pytest.raises(TimeoutError):
            async with app.worker() as worker:
                handles = await work.defer_many(range(2))
                await wait_until(began.is_set, "the thread runs")
                with anyio.fail_after(PATIENCE):
                    await worker.drain(0.1)
        states = [await handle.status() for handle in handles]
        gate.set()

    assert worker.clean is False
    assert [JobState.RUNNING] * 2 == states
    assert 2 == caplog.text.count("job.outlived_stop")


async def test_a_thread_that_outlives_the_stop_leaves_no_task_behind(
    database: str, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S0-03, S2-41: once the worker has ended, nothing of a batch whose thread goes on waits in the caller's loop."""
    monkeypatch.setattr("jobqueue.worker.draining.FINAL_WRITES", 0.4)
    app = new_app(database)
    began = threading.Event()
    before = asyncio.all_tasks()

    @app.batch_task(size=3, wait=LONG)
    def work(numbers: list[int]) -> None:
        began.set()
        gate.wait(PATIENCE)

    async with app:
        handles = await work.defer_many(range(3))
        with pytest.raises(TimeoutError):
            async with app.worker() as worker:
                await wait_until(began.is_set, "the thread runs")
                await worker.drain(0)
        assert [JobState.RUNNING] * 3 == [await handle.status() for handle in handles]
    assert set() == asyncio.all_tasks() - before


async def test_no_thread_keeps_a_loop_from_its_end(database: str) -> None:
    """S0-03: when a loop is closed, items that wait for a thread do not hold it up."""
    answer = await run_script(
        """
        import asyncio, logging, os, sys, threading, time
        import jobqueue.worker.draining
        from jobqueue import App

        logging.basicConfig(stream=sys.stdout)
        jobqueue.worker.draining.FINAL_WRITES = 0.2
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
from tests.support.jobs.beating import QUICK
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
            await wait_until(calls.read_text, "the batch runs")
            first.kill()
            line.start("worker", "faulty:app")
            assert [0, 1, 2] == [await handle.result(timeout=PATIENCE) for handle in handles]
            jobs = [await app.jobs.get(handle.id) for handle in handles]

    assert ["[0, 1, 2]", "[0]", "[1]", "[2]"] == sorted(
        calls.read_text().splitlines(), key=lambda call: (-len(call), call)
    )
    assert [(1, 1)] * 3 == [(job.attempt, job.crashes) for job in jobs]
