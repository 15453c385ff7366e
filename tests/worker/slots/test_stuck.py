"""Handlers that do not end when they are asked to: named, and no standstill."""

import asyncio
import logging
import threading

import pytest

from jobqueue.base.job import JobState
from tests.support.jobs.working import end_of, new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler is stuck after half a second."""
    monkeypatch.setattr("jobqueue.worker.slots.stuck._PATIENCE", 0.5)
    monkeypatch.setattr("jobqueue.worker.slots.stuck._LOOK", 0.1)


async def test_a_stuck_handler_is_named_and_makes_room(
    database: str, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """S2-41: a task that swallows its timeout is told with name and place; its slot stays taken, a spare one opens."""
    caplog.set_level(logging.WARNING, "jobqueue")
    app = new_app(database)
    let_go = asyncio.Event()

    async def cling() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    @app.task(timeout=0.1, max_attempts=1)
    async def stubborn(secret: str) -> None:
        await cling()

    @app.task
    async def quick() -> int:
        return 1

    async with app, app.worker(concurrency=1) as worker:
        first = await stubborn.defer("hunter2-secret")
        second = await quick.defer()
        assert 1 == await second.result(timeout=PATIENCE)

        (line,) = [record.getMessage() for record in caplog.records if "job.stuck" in record.getMessage()]
        assert str(first.id) in line
        assert "why='timeout'" in line
        assert "test_stuck.py" in line
        assert "cling" in line
        assert "hunter2" not in caplog.text
        assert JobState.RUNNING is await first.status()
        let_go.set()
        job = await end_of(app, first)
        await wait_until(lambda: worker.snapshot().free == 1, "the spare slot is closed again")
    assert (JobState.DEAD, "attempts") == (job.state, job.reason)


async def test_a_stuck_thread_makes_room(database: str, impatient: None, caplog: pytest.LogCaptureFixture) -> None:
    """S2-41, A16: a thread that goes on after its timeout is named with its place; others get a slot and a thread."""
    caplog.set_level(logging.WARNING, "jobqueue")
    app = new_app(database)
    gate = threading.Event()

    @app.task(timeout=0.1, max_attempts=1)
    def blocks() -> None:
        gate.wait(PATIENCE)

    @app.task
    def quick() -> int:
        return 1

    async with app, app.worker(concurrency=1):
        first = await blocks.defer()
        assert "timeout" in (await end_of(app, first)).errors[-1].message
        second = await quick.defer()
        try:
            assert 1 == await second.result(timeout=PATIENCE)
            assert "gate.wait" not in caplog.text, "files, lines and functions only"
            assert "job.stuck" in caplog.text
            assert "blocks" in caplog.text
        finally:
            gate.set()


async def test_one_that_ends_in_time_is_not_mentioned(
    database: str, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that cleans up after its cancellation, and one that runs long without being asked, are not stuck."""
    caplog.set_level(logging.WARNING, "jobqueue")
    app = new_app(database)
    done = asyncio.Event()

    @app.task(timeout=0.05, max_attempts=1)
    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)

    @app.task
    async def long() -> None:
        await done.wait()

    async with app, app.worker(concurrency=2):
        waits = await long.defer()
        await end_of(app, await tidy.defer())
        late = asyncio.get_running_loop().time() + 1.2
        await wait_until(lambda: asyncio.get_running_loop().time() > late, "twice the patience has passed")
        done.set()
        await end_of(app, waits)
    assert "job.stuck" not in caplog.text
