"""One run of one job that is asked to end: by its limits, by a stop, by a stray cancellation."""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, field_validator

from jobqueue.base.outcome import (
    Cancel,
    Cancelled,
    Dead,
    Done,
    PutAside,
    Released,
    Retried,
)
from jobqueue.tasks.context import JobContext, current_job
from jobqueue.tasks.run.attempt import run_apart
from jobqueue.tasks.run.state import Why
from tests.support.waiting import wait_until
from tests.tasks.run.attempts import attempt_at, error_of, run


async def test_a_timeout_costs_an_attempt() -> None:
    """S4-35: a run past its timeout is cancelled, its `finally` blocks run, and it counts as a failure."""
    cleaned = []

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(True)

    outcome = await run(slow, timeout=0.02)

    assert isinstance(outcome, Retried)
    assert ("TimeoutError", "timeout after 0.02 s") == (outcome.error.error_class, outcome.error.message)
    assert [True] == cleaned


async def test_a_timeout_tells_where_the_handler_was() -> None:
    """The stored error of a timeout shows the line that the handler was waiting on."""

    async def slow() -> None:
        await anyio.sleep_forever()

    assert "in slow" in (await error_of(slow, timeout=0.02)).traceback


async def test_a_handler_that_swallows_the_timeout_still_timed_out() -> None:
    """A value returned after the limit is not a result; the handler goes on until it returns by itself."""

    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        await asyncio.sleep(0)
        return "late"

    error = await error_of(stubborn, timeout=0.02)

    assert "TimeoutError" == error.error_class


async def test_no_timeout_means_none() -> None:
    """S4-35: without a timeout a run may take as long as it likes; one of the handler's own is its own affair."""

    async def own_limit() -> str:
        try:
            async with asyncio.timeout(0.01):
                await anyio.sleep_forever()
        except TimeoutError:
            return "went on"
        return "never"

    assert Done('"went on"') == await run(own_limit)


async def test_a_used_up_budget_is_final() -> None:
    """S3-13: The budget of all attempts ends the job as dead, also when the timeout would be longer."""
    outcome = await run(anyio.sleep_forever, timeout=30, budget=0.02)

    assert isinstance(outcome, Dead)
    assert "budget" == outcome.reason


async def test_the_tighter_limit_counts() -> None:
    """A timeout shorter than what is left of the budget is an ordinary timeout."""
    outcome = await run(anyio.sleep_forever, timeout=0.02, budget=30)

    assert isinstance(outcome, Retried)


@pytest.mark.parametrize("why", [Why.STOP, Why.LOST])
async def test_a_stopped_run_is_released(why: Why) -> None:
    """A run that is stopped from outside fails nobody: it is given back."""
    attempt = attempt_at(anyio.sleep_forever)
    running = asyncio.create_task(attempt.run())
    await wait_until(lambda: attempt.state.begun, "the handler runs")
    attempt.state.ask(why)

    assert Released(lost=why is Why.LOST) == await running


async def test_a_run_stopped_before_it_began_never_begins() -> None:
    """Stopping between claim and start calls no handler."""
    called = []

    async def begin() -> None:
        called.append(True)

    attempt = attempt_at(begin)
    attempt.state.ask(Why.STOP)

    assert Released() == await attempt.run()
    assert [] == called


async def test_an_outcome_reached_in_spite_of_a_stop_counts() -> None:
    """A handler that finishes its work during the stop is done, not released."""

    async def finish() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        return "finished"

    attempt = attempt_at(finish)
    running = asyncio.create_task(attempt.run())
    await wait_until(lambda: attempt.state.begun, "the handler runs")
    attempt.state.ask(Why.STOP)

    assert Done('"finished"') == await running


async def test_the_first_reason_to_end_counts() -> None:
    """A stop after a timeout does not turn the failure into a release."""

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            attempt.state.ask(Why.STOP)

    attempt = attempt_at(slow, timeout=0.02)

    assert isinstance(await run_apart(attempt), Retried)


async def test_the_caller_takes_the_run_along() -> None:
    """S0-26: a cancelled caller ends only after the handler has, and nothing happens later."""
    steps_taken = []

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await asyncio.sleep(0)
            steps_taken.append("cleaned")

    with anyio.move_on_after(0.02) as scope:
        await run(slow)

    assert scope.cancelled_caught
    assert ["cleaned"] == steps_taken


async def test_an_argument_that_does_not_fit_never_runs_the_code() -> None:
    """S3-26: valid JSON of the wrong shape is put aside; neither handler nor default is used."""
    called = []

    async def take(number: int = 1) -> None:
        called.append(number)

    for text in ['{"number": "many"}', '{"other": 1}', "[]", "7", "not json"]:
        outcome = await run(take, text=text)
        assert isinstance(outcome, PutAside)
        assert "payload" == outcome.reason
        assert outcome.detail.startswith("number: " if "number" in text else "")
        assert not {"many", "other"} & set(outcome.detail.split())
    assert [] == called


async def test_a_validator_that_ends_the_process_only_ends_the_attempt() -> None:
    """S0-15: SystemExit out of the user's own validator is a failed attempt."""

    class Mail(BaseModel):
        to: str

        @field_validator("to")
        @classmethod
        def refuse(cls, value: str) -> str:
            raise SystemExit(3)

    async def send(mail: Mail | None = None) -> None: ...

    assert "SystemExit" == (await error_of(send, text='{"mail": {"to": "x"}}')).error_class


async def test_an_error_is_kept_from_the_users_first_frame_on() -> None:
    """The stored traceback begins in the user's code, in tasks and in threads, and shows no local variables."""

    def deep(secret: str) -> None:
        raise ValueError("wrong")

    async def fail() -> None:
        deep("hunter2-" + "in-a-local")

    def fail_in_thread() -> None:
        deep("hunter2-" + "in-a-local")

    for handler in (fail, fail_in_thread):
        error = await error_of(handler)
        frames = [line for line in error.traceback.splitlines() if line.startswith("  File")]

        assert ("ValueError", "wrong", 1) == (error.error_class, error.message, error.attempt)
        assert [f"in {handler.__name__}", "in deep"] == [
            frame.partition(", ")[2].partition(", ")[2] for frame in frames
        ]
        assert "hunter2-in-a-local" not in error.traceback


async def test_an_error_that_no_column_could_hold_is_made_storable() -> None:
    """NUL characters, half surrogate pairs and endless texts in a message are replaced or cut."""

    async def fail(text: str) -> None:
        raise ValueError({"nul": "a\x00b", "half": "a\ud800b", "long": "x" * 10_000_000}[text])

    messages = [(await error_of(fail, which)).message for which in ("nul", "half", "long")]

    assert ["a\ufffdb", "a?b"] == messages[:2]
    assert len(messages[2]) < 10_000


async def test_an_exception_that_cannot_be_shown_is_still_stored() -> None:
    """S0-15: an exception whose `__str__`, data or class name is broken costs its attempt and nothing else."""

    class Broken(Exception):
        @property
        def data(self) -> Any:
            raise KeyError("data")

        def __str__(self) -> str:
            raise KeyError("str")

    Broken.__qualname__ = "Bro\ud800ken"

    async def fail() -> None:
        raise Broken

    error = await error_of(fail)

    assert "Bro?ken" in error.error_class
    assert None is error.data


async def test_a_reason_is_made_storable() -> None:
    """A cancellation's reason is text that PostgreSQL takes."""

    async def cancel() -> None:
        raise Cancel("a\x00b")

    assert Cancelled("a\ufffdb") == await run(cancel)


async def test_an_error_keeps_its_causes() -> None:
    """The stored traceback tells the whole chain, and the members of a group."""

    async def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ExceptionGroup("several", [OSError("member")]) from first

    error = await error_of(fail)

    assert all(part in error.traceback for part in ("first", "several", "member"))


async def test_nested_scopes_in_a_handler_work() -> None:
    """Task groups, timeouts and scopes of asyncio and anyio nest inside a handler, which goes on after each."""

    async def nest() -> list[str]:
        seen = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(anyio.sleep_forever())
                group.create_task(_fail_soon())
        except* OSError:
            seen.append("group")
        try:
            async with asyncio.timeout(0.01):
                await anyio.sleep_forever()
        except TimeoutError:
            seen.append("timeout")
        with anyio.move_on_after(0.01):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        seen.append("scope")
        return seen

    assert Done('["group","timeout","scope"]') == await run(nest, timeout=5)


async def _fail_soon() -> None:
    await asyncio.sleep(0)
    raise OSError("no route")


async def test_a_timeout_reaches_into_nested_scopes() -> None:
    """The run's timeout ends children of task groups; each cleans up, none is left."""
    cleaned = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(True)

    async def nest() -> None:
        async with asyncio.TaskGroup() as outer, anyio.create_task_group() as inner:
            outer.create_task(child())
            inner.start_soon(child)

    assert "TimeoutError" == (await error_of(nest, timeout=0.02)).error_class
    assert [True, True] == cleaned


async def test_a_raised_context_variable_stays_in_its_run() -> None:
    """What a handler sets in context variables is gone with it, and it sees none of the caller's changes later."""
    mark = contextvars.ContextVar("mark", default="clean")

    async def set_mark() -> str:
        before = mark.get()
        mark.set("dirty")
        return before

    first, second = await run(set_mark), await run(set_mark)

    assert [Done('"clean"'), Done('"clean"'), "clean"] == [first, second, mark.get()]


async def test_a_context_is_found_in_deep_code_and_threads() -> None:
    """`current_job()` is the context of the run, in tasks, their children and threads; outside there is none."""

    def deep() -> str:
        return current_job().get(str)

    async def ask(ctx: JobContext) -> list[str]:
        assert current_job() is ctx
        return [deep(), await asyncio.create_task(_called(deep)), await anyio.to_thread.run_sync(deep)]

    def ask_in_thread(ctx: JobContext) -> str:
        assert current_job() is ctx
        return deep()

    assert Done('["resource","resource","resource"]') == await run(ask)
    assert Done('"resource"') == await run(ask_in_thread)
    with pytest.raises(LookupError):
        current_job()


async def _called(function: Callable[[], str]) -> str:
    return function()
