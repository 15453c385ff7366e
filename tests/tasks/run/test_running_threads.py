"""One run of a `def` task, in a thread; and runs that cancel their own task."""

import asyncio
from dataclasses import dataclass
from threading import Event
from typing import Self

import anyio

from jobqueue.base.job import Job
from jobqueue.base.outcome import (
    Done,
    Released,
    Retried,
)
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.run.attempt import run_apart
from jobqueue.tasks.run.state import Why
from tests.support.waiting import wait_until
from tests.tasks.run.attempts import attempt_at, error_of, run


@dataclass
class Thread:
    """A sync task that reports and waits as a test tells it."""

    began: Event
    may_end: Event
    saw_cancel: bool = False

    @classmethod
    def new(cls) -> Self:
        return cls(Event(), Event())

    def work(self, ctx: JobContext) -> str:
        self.began.set()
        self.may_end.wait(5)
        self.saw_cancel = ctx.cancelled
        return "done"


async def test_a_thread_that_outlives_its_timeout_is_waited_for_by_its_slot_only() -> None:
    """A sync task past its timeout ends on record at once; its thread goes on and can see that it was asked to end."""
    thread = Thread.new()
    ended = asyncio.Event()

    def work(ctx: JobContext) -> str:
        return thread.work(ctx)

    attempt = attempt_at(work, timeout=0.05)
    attempt.state.when_thread_ends(ended.set)
    try:
        outcome = await run_apart(attempt)
        assert isinstance(outcome, Retried)
        assert (True, False) == (attempt.state.in_thread, ended.is_set())
    finally:
        thread.may_end.set()
    await wait_until(ended.is_set, "the thread has ended")

    assert (False, True) == (attempt.state.in_thread, thread.saw_cancel)


async def test_a_thread_that_was_never_started_holds_nothing() -> None:
    """A sync task that is stopped before its thread has begun leaves no slot taken, and its code never runs."""
    called = []

    def work() -> None:
        called.append(True)

    for _ in range(50):
        attempt = attempt_at(work)
        running = asyncio.create_task(attempt.run())
        await asyncio.sleep(0)
        attempt.state.ask(Why.STOP)
        outcome = await running
        if outcome == Released():
            assert not attempt.state.in_thread or called, "no thread runs, yet the slot waits for one"
            await wait_until(lambda: not attempt.state.in_thread, "the slot is free")  # noqa: B023 - used at once

    assert not called or len(called) <= 50


async def test_raise_if_cancelled_is_the_way_out_of_a_thread() -> None:
    """`ctx.raise_if_cancelled()` ends a thread that looks at it."""
    ended = asyncio.Event()

    def work(ctx: JobContext) -> None:
        while True:
            ctx.raise_if_cancelled()

    attempt = attempt_at(work, timeout=0.05)
    attempt.state.when_thread_ends(ended.set)

    assert isinstance(await run_apart(attempt), Retried)
    await wait_until(ended.is_set, "the thread has ended")


async def test_a_stray_cancel_does_not_undo_what_the_handler_has_done() -> None:
    """A handler that cancels its own task and returns has returned; its value is the outcome, not a second run."""

    async def cancel_and_return() -> str:
        cancel_this_task()
        return "done"

    assert Done('"done"') == await run(cancel_and_return)


async def test_a_stray_cancel_does_not_reach_the_policy() -> None:
    """A cancellation that a failing handler leaves behind ends neither the run nor its retry policy."""

    async def patient(job: Job, error: BaseException) -> float:
        await asyncio.sleep(0)
        return 5

    async def cancel_and_fail() -> None:
        cancel_this_task()
        raise OSError("no route")

    outcome = await run(cancel_and_fail, retry=patient)

    assert isinstance(outcome, Retried)
    assert ("OSError", 5) == (outcome.error.error_class, outcome.delay)


async def test_a_stray_cancel_that_is_met_is_a_failure() -> None:
    """A handler that cancels its own task and then waits ends with CancelledError, which costs the attempt."""

    async def cancel_and_wait() -> None:
        cancel_this_task()
        await anyio.sleep_forever()

    assert (await error_of(cancel_and_wait)).error_class.endswith("CancelledError")


def cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
