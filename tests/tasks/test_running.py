"""One run of one job, without a database: whatever the handler does, exactly one outcome comes out."""

import asyncio
import contextlib
import contextvars
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any, Self

import anyio
import pytest
from pydantic import BaseModel, field_serializer, field_validator

from jobqueue.base.job import AttemptError, Job, JobState, NewJob
from jobqueue.base.outcome import (
    Cancel,
    Cancelled,
    Dead,
    Done,
    Fatal,
    Outcome,
    PutAside,
    Released,
    Retried,
    Retry,
    Snooze,
    Snoozed,
)
from jobqueue.base.retry import RetryPolicy, exponential, linear, steps
from jobqueue.tasks.context import JobContext, current_job
from jobqueue.tasks.router import TaskHome
from jobqueue.tasks.running import Attempt, Why, run_apart
from jobqueue.tasks.task import Task
from tests.support.waiting import wait_until
from tests.tasks.recording import Recorder, ended_job, open_home


class Shock(BaseException):
    """An exception that `except Exception` does not catch."""


def attempt_at(
    function: Callable[..., Any],
    /,
    *args: Any,
    number: int = 1,
    max_attempts: int = 20,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    budget: float | None = None,
    text: str | None = None,
    **named: Any,
) -> Attempt:
    """A run of this function as the worker would make it."""
    task: Task[..., Any] = open_home(Recorder()).task(retry=retry, max_attempts=max_attempts)(function)
    job: NewJob[Any] = task.job(*args, **named) if text is None else task.job()
    claimed = replace(ended_job(job.id, JobState.RUNNING, None, None, ()), attempt=number, max_attempts=max_attempts)
    return Attempt(
        task,
        job.args if text is None else text,
        lambda: claimed,
        number,
        timeout=timeout,
        budget_left=budget,
        result_limit=1000,
        threads=None,
        resources={str: "resource"},
    )


async def run(function: Callable[..., Any], /, *args: Any, **options: Any) -> Outcome:
    return await run_apart(attempt_at(function, *args, **options))


async def error_of(function: Callable[..., Any], /, *args: Any, **options: Any) -> AttemptError:
    """How the failure of this function is stored."""
    outcome = await run(function, *args, **options)
    assert isinstance(outcome, Retried | Dead), outcome
    assert outcome.error is not None
    return outcome.error


async def test_a_result_is_stored_as_json() -> None:
    """A handler that returns is done, its result as JSON by the return annotation."""

    async def add(a: int, b: int) -> int:
        return a + b

    assert Done("3") == await run(add, 1, 2)


async def test_none_is_told_from_an_empty_object() -> None:
    """S4-36: a result of None is stored as null, an empty dict as {}."""

    async def nothing() -> None: ...

    async def empty() -> dict[str, int]:
        return {}

    assert [Done("null"), Done("{}")] == [await run(nothing), await run(empty)]


@pytest.mark.parametrize("value", [float("nan"), "a\x00b", 10**30, {"deep": object()}, "x" * 2000])
async def test_a_result_that_cannot_be_stored_is_never_retried(value: object) -> None:
    """A result that JSON or the limit refuses makes the job dead at once: its effect has happened."""

    async def give() -> Any:
        return value

    outcome = await run(give)

    assert isinstance(outcome, Dead)
    assert ("result", "jobqueue.base.errors.InvalidPayload") == (
        outcome.reason,
        outcome.error and outcome.error.error_class,
    )


async def test_a_serializer_that_ends_the_process_only_ends_the_job() -> None:
    """S0-15: SystemExit out of the user's own serializer is contained like any other error."""

    class Report(BaseModel):
        pages: int

        @field_serializer("pages")
        def refuse(self, value: int) -> int:
            raise SystemExit(3)

    async def give() -> Report:
        return Report(pages=1)

    outcome = await run(give)

    assert isinstance(outcome, Dead)
    assert "result" == outcome.reason


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (Snooze(5), Snoozed(5.0)),
        (Snooze(), Snoozed(60.0)),
        (Cancel("not needed"), Cancelled("not needed")),
        (Cancel(), Cancelled(None)),
    ],
)
async def test_a_handler_chooses_its_outcome(raised: Exception, outcome: Outcome) -> None:
    """Snooze and Cancel are outcomes, not failures."""

    async def choose() -> None:
        raise raised

    assert outcome == await run(choose, number=20, max_attempts=20)


async def test_snooze_until_a_time() -> None:
    """`Snooze(at=...)` keeps the time."""
    at = datetime.now(UTC) + timedelta(hours=1)

    async def later() -> None:
        raise Snooze(at=at)

    assert Snoozed(None, at) == await run(later)


async def test_retry_says_when_and_where() -> None:
    """`Retry` with a delay overrides the policy and moves the job."""

    async def again() -> None:
        raise Retry(delay=7, queue="slow", priority=3)

    outcome = await run(again, retry=lambda job, error: None)

    assert isinstance(outcome, Retried)
    assert (7, None, "slow", 3) == (outcome.delay, outcome.at, outcome.queue, outcome.priority)


async def test_retry_at_a_time() -> None:
    """`Retry(at=...)` keeps the time."""
    at = datetime.now(UTC) + timedelta(hours=1)

    async def again() -> None:
        raise Retry(at=at)

    outcome = await run(again)

    assert isinstance(outcome, Retried)
    assert (None, at) == (outcome.delay, outcome.at)


async def test_retry_without_a_time_asks_the_policy() -> None:
    """`Retry()` waits as long as the task's policy says, and still moves the job."""

    async def again() -> None:
        raise Retry(priority=9)

    outcome = await run(again, retry=steps(11))

    assert isinstance(outcome, Retried)
    assert (11.0, 9) == (outcome.delay, outcome.priority)


@pytest.mark.parametrize("wrong", [{"queue": "x" * 101}, {"queue": "*"}, {"queue": "a\x00b"}, {"priority": 10**9}])
async def test_a_retry_to_nowhere_shows_both_errors(wrong: dict[str, Any]) -> None:
    """A `Retry` into a queue or priority that cannot be ends the job as dead, and tells why."""

    async def again() -> None:
        raise Retry(delay=1, **wrong)

    outcome = await run(again)

    assert isinstance(outcome, Dead)
    assert outcome.error is not None
    assert ("policy", "jobqueue.base.errors.InvalidOption") == (outcome.reason, outcome.error.error_class)
    assert "retry asked for by the task" in outcome.error.traceback


async def test_retry_does_not_give_more_attempts() -> None:
    """`Retry` on the last attempt ends the job as dead, like any failure."""

    async def again() -> None:
        raise Retry(delay=0)

    outcome = await run(again, number=3, max_attempts=3)

    assert isinstance(outcome, Dead)
    assert "attempts" == outcome.reason


async def test_fatal_ends_the_job_whatever_attempts_are_left() -> None:
    """S3-15: `Fatal` is dead at once and keeps its message and data."""

    async def refuse() -> None:
        raise Fatal("card refused", {"code": 51})

    outcome = await run(refuse)

    assert isinstance(outcome, Dead)
    assert outcome.error is not None
    assert ("fatal", "card refused", {"code": 51}) == (outcome.reason, outcome.error.message, outcome.error.data)


@pytest.mark.parametrize("data", [object(), "a\x00b", float("nan"), {1: 2}, "x" * 100_000])
async def test_data_that_cannot_be_stored_is_left_out(data: Any) -> None:
    """S4-37: An exception's data that the database could not hold costs neither the error nor the job."""

    async def refuse() -> None:
        raise Fatal("message", data)

    error = await error_of(refuse)

    assert ("message", None) == (error.message, error.data)


@pytest.mark.parametrize(
    ("policy", "attempt", "least", "most"),
    [
        (exponential(first=2, factor=3, jitter=0), 3, 18, 18),
        (exponential(first=2, factor=3, cap=10, jitter=0), 3, 10, 10),
        (exponential(first=10, jitter=0.2), 1, 8, 12),
        (linear(first=2, step=5, jitter=0), 3, 12, 12),
        (steps(1, 30, 300), 2, 30, 30),
        (steps(1, 30, 300), 9, 300, 300),
        (None, 1, 1.6, 2.4),
    ],
)
async def test_backoff(policy: RetryPolicy | None, attempt: int, least: float, most: float) -> None:
    """S1-14, S2-20, S3-09, S4-51: A failed attempt runs again after what its policy says for that attempt."""

    async def fail() -> None:
        raise OSError("no route")

    outcome = await run(fail, number=attempt, retry=policy)

    assert isinstance(outcome, Retried)
    assert outcome.delay is not None
    assert least <= outcome.delay <= most


async def test_a_policy_sees_the_job_and_the_error() -> None:
    """S4-50: a policy is called with the job as claimed and the exception itself; sync or async, seconds and times."""
    at = datetime.now(UTC) + timedelta(days=1)
    seen: list[tuple[int, str]] = []

    def seconds(job: Job, error: BaseException) -> float:
        seen.append((job.attempt, str(error)))
        return 4

    async def moment(job: Job, error: BaseException) -> datetime:
        await asyncio.sleep(0)
        seen.append((job.attempt, str(error)))
        return at

    async def fail() -> None:
        raise OSError("no route")

    first, second = await run(fail, number=2, retry=seconds), await run(fail, number=3, retry=moment)

    assert isinstance(first, Retried)
    assert isinstance(second, Retried)
    assert [(4, None), (None, at)] == [(first.delay, first.at), (second.delay, second.at)]
    assert [(2, "no route"), (3, "no route")] == seen


async def test_a_policy_may_give_up() -> None:
    """S4-50: A policy that returns None ends the job as dead, with the handler's error."""

    async def fail() -> None:
        raise OSError("no route")

    outcome = await run(fail, retry=lambda job, error: None)

    assert isinstance(outcome, Dead)
    assert outcome.error is not None
    assert ("policy", "no route") == (outcome.reason, outcome.error.message)


def _raises(job: Job, error: BaseException) -> float:
    raise KeyError("no such policy")


def _raises_from_another(job: Job, error: BaseException) -> float:
    try:
        raise KeyError("no such policy")
    except KeyError as cause:
        raise ValueError("policy is broken") from cause


async def _exits(job: Job, error: BaseException) -> float:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (_raises, "no such policy"),
        (_raises_from_another, "policy is broken"),
        (_exits, "SystemExit"),
        (lambda job, error: "soon", "soon"),
        (lambda job, error: float("nan"), "delay"),
        (lambda job, error: float("inf"), "delay"),
        (lambda job, error: datetime(2030, 1, 1), "timezone-aware"),
    ],
)
async def test_a_broken_policy_shows_both_errors(policy: Any, named: str) -> None:
    """S4-52: a policy that raises or answers nonsense ends the job as dead; its and the handler's error are kept."""

    async def fail() -> None:
        raise OSError("no route")

    outcome = await run(fail, retry=policy)

    assert isinstance(outcome, Dead)
    assert outcome.error is not None
    assert "policy" == outcome.reason
    assert named in outcome.error.traceback
    assert "no route" in outcome.error.traceback


async def test_a_broken_policy_after_a_timeout_shows_both_errors() -> None:
    """Also the library's own TimeoutError is kept beside the policy's error."""
    error = await error_of(anyio.sleep_forever, timeout=0.01, retry=_raises)

    assert "no such policy" in error.traceback
    assert "timeout after 0.01 s" in error.traceback


async def test_a_slow_policy_does_not_count_against_the_timeout() -> None:
    """The time limit ends with the handler: a policy that takes its time is not cut off by it."""
    asked = asyncio.Event()

    async def slow(job: Job, error: BaseException) -> float:
        asked.set()
        with anyio.move_on_after(0.1):
            await anyio.sleep_forever()
        return 5

    async def fail() -> None:
        raise OSError("no route")

    outcome = await run(fail, retry=slow, timeout=0.03)

    assert asked.is_set()
    assert isinstance(outcome, Retried)
    assert 5 == outcome.delay


async def test_a_negative_delay_means_at_once() -> None:
    """A policy that computes a time in the past means now."""

    async def fail() -> None:
        raise OSError

    outcome = await run(fail, retry=lambda job, error: -5)

    assert isinstance(outcome, Retried)
    assert 0 == outcome.delay


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("plain"),
        SystemExit(2),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError("mine"),
        StopIteration(1),
        StopAsyncIteration(),
        RecursionError(),
        MemoryError(),
        Shock("own"),
        BaseExceptionGroup("several", [ValueError(), Shock()]),
    ],
    ids=lambda raised: type(raised).__name__,
)
async def test_whatever_a_handler_raises_is_a_failed_attempt(raised: BaseException) -> None:
    """S0-15: exceptions of any class cost the attempt and nothing else, in tasks and in threads."""

    async def fail() -> None:
        raise raised

    def fail_in_thread() -> None:
        raise raised

    first, second = await error_of(fail), await error_of(fail_in_thread)

    # A StopIteration cannot leave a coroutine as such: Python wraps it.
    assert type(raised).__name__ in first.traceback
    assert type(raised).__name__ in second.traceback


async def test_the_last_attempt_is_dead() -> None:
    """S4-09: a job has as many attempts as it was given; with one, the first failure is final."""

    async def fail() -> None:
        raise OSError

    kinds = [type(await run(fail, number=n, max_attempts=limit)) for n, limit in [(1, 1), (1, 2), (2, 2)]]

    assert [Dead, Retried, Dead] == kinds


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
    await wait_until(lambda: attempt.started, "the handler runs")
    attempt.stop(why)

    assert Released(lost=why is Why.LOST) == await running


async def test_a_run_stopped_before_it_began_never_begins() -> None:
    """Stopping between claim and start calls no handler."""
    called = []

    async def begin() -> None:
        called.append(True)

    attempt = attempt_at(begin)
    attempt.stop(Why.STOP)

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
    await wait_until(lambda: attempt.started, "the handler runs")
    attempt.stop(Why.STOP)

    assert Done('"finished"') == await running


async def test_the_first_reason_to_end_counts() -> None:
    """A stop after a timeout does not turn the failure into a release."""

    async def slow() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            attempt.stop(Why.STOP)

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
        assert PutAside("payload") == await run(take, text=text)
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
    attempt.when_thread_ends(ended.set)
    try:
        outcome = await run_apart(attempt)
        assert isinstance(outcome, Retried)
        assert (True, False) == (attempt.thread_runs, ended.is_set())
    finally:
        thread.may_end.set()
    await wait_until(ended.is_set, "the thread has ended")

    assert (False, True) == (attempt.thread_runs, thread.saw_cancel)


async def test_a_thread_that_was_never_started_holds_nothing() -> None:
    """A sync task that is stopped before its thread has begun leaves no slot taken, and its code never runs."""
    called = []

    def work() -> None:
        called.append(True)

    for _ in range(50):
        attempt = attempt_at(work)
        running = asyncio.create_task(attempt.run())
        await asyncio.sleep(0)
        attempt.stop(Why.STOP)
        outcome = await running
        if outcome == Released():
            assert not attempt.thread_runs or called, "no thread runs, yet the slot waits for one"
            await wait_until(lambda: not attempt.thread_runs, "the slot is free")  # noqa: B023 - used at once

    assert not called or len(called) <= 50


async def test_raise_if_cancelled_is_the_way_out_of_a_thread() -> None:
    """`ctx.raise_if_cancelled()` ends a thread that looks at it."""
    ended = asyncio.Event()

    def work(ctx: JobContext) -> None:
        while True:
            ctx.raise_if_cancelled()

    attempt = attempt_at(work, timeout=0.05)
    attempt.when_thread_ends(ended.set)

    assert isinstance(await run_apart(attempt), Retried)
    await wait_until(ended.is_set, "the thread has ended")


async def test_run_here_raises_what_the_handler_raised() -> None:
    """`task.run` gives the handler's own exception; a retry that it asks for is not followed."""
    home = TaskHome()

    @home.task
    async def fail() -> None:
        raise Retry(delay=5)

    @home.task
    async def wait() -> None:
        await anyio.sleep_forever()

    with pytest.raises(Retry):
        await fail.run()
    with pytest.raises(TimeoutError, match=r"timeout after 0\.02 s"):
        await wait.options(timeout=0.02).run()


async def test_results_are_json_of_the_annotated_type() -> None:
    """What is stored is what the annotation says, and reads back as such."""

    class Report(BaseModel):
        pages: int
        made: datetime

    made = datetime(2026, 1, 2, tzinfo=UTC)

    async def report() -> Report:
        return Report(pages=3, made=made)

    outcome = await run(report)

    assert isinstance(outcome, Done)
    assert {"pages": 3, "made": "2026-01-02T00:00:00Z"} == json.loads(outcome.result)


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
