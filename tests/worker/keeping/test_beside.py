"""Work in a thread with a loop of its own: how it ends, and what it raises."""

import asyncio
import threading

import anyio
import pytest

from jobqueue.worker.keeping.beside import run_beside
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until

NAME = "jobqueue beside a test"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == NAME]


async def test_it_runs_in_a_thread_of_its_own() -> None:
    """The work has a thread of this name and a loop that is not ours; when it returns, so does the call."""
    seen: list[tuple[str, asyncio.AbstractEventLoop]] = []

    async def work() -> None:
        seen.append((threading.current_thread().name, asyncio.get_running_loop()))

    await run_beside(work, NAME)
    ((name, loop),) = seen
    assert name == NAME
    assert loop is not asyncio.get_running_loop()
    await wait_until(lambda: not threads(), "the thread has ended")


@pytest.mark.parametrize("error", [OSError("no route"), KeyError("x"), SystemExit(3)])
async def test_what_it_raises_arrives(error: BaseException) -> None:
    """Any error of the work is raised to the caller, who would not notice its end otherwise."""

    async def work() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)) as caught:
        await run_beside(work, NAME)
    assert error is caught.value
    await wait_until(lambda: not threads(), "the thread has ended")


async def test_a_cancel_ends_the_work_and_waits_for_it() -> None:
    """Who cancels the call cancels the work in its thread; the clean-up there has ended when the call has."""
    began = threading.Event()
    ended: list[str] = []

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(100):
                await asyncio.sleep(0)
            ended.append("cleaned")

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(run_beside, work, NAME)
            await wait_until(began.is_set, "it works")
            group.cancel_scope.cancel()
    assert ["cleaned"] == ended
    await wait_until(lambda: not threads(), "the thread has ended")


@pytest.mark.parametrize("steps", range(8))
async def test_a_cancel_at_any_moment_leaves_no_thread(steps: int) -> None:
    """Cancelled natively before, while or after the thread starts: the work never outlives the call."""
    ended: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    for _ in range(10):
        task = asyncio.create_task(run_beside(work, NAME))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_until(lambda: not threads(), "the thread has ended")
    assert len(ended) <= 10


async def test_a_stray_cancellation_is_no_orderly_end() -> None:
    """Work that ends by a cancellation which nobody asked for raises: a part that is missing must not go unnoticed."""

    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError):
        await run_beside(work, NAME)


def test_a_loop_that_ends_first_is_no_error() -> None:
    """The work may end after the caller's loop was closed: nobody waits, and nothing is raised or written."""
    began, release, left = threading.Event(), threading.Event(), threading.Event()

    async def work() -> None:
        began.set()
        release.wait(PATIENCE)
        left.set()

    async def main() -> None:
        task = asyncio.create_task(run_beside(work, NAME))
        await wait_until(began.is_set, "it works")
        task.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobqueue.worker.keeping.beside._LIMIT", 0.05)
        asyncio.run(main())
    release.set()
    assert left.wait(5)
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(5)
    assert [] == threads()
