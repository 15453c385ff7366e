"""Runs one job: decode, context, time limit, call, and turn whatever happens into one Outcome.

Knows nothing of claims or databases: the worker, `task.run` and tests all come here. Cancellation as handlers see it:
an async task is cancelled (CancelledError at its next await, `finally` blocks run); a sync task in its thread can only
ask `ctx.cancelled`.
"""

import asyncio
import contextlib
import contextvars
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from functools import partial
from typing import Any, Protocol, assert_never

import anyio

from jobqueue.base.codec import encode
from jobqueue.base.errors import InvalidPayload
from jobqueue.base.job import AttemptError, Job, JsonValue
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
from jobqueue.base.retry import DEFAULT_RETRY, RetryPolicy
from jobqueue.tasks.context import CURRENT, JobContext
from jobqueue.tasks.middleware import RunMiddleware, nested
from jobqueue.tasks.signature import Signature

_MESSAGE_LIMIT = 8 << 10
_TRACEBACK_LIMIT = 64 << 10


class Runnable(Protocol):
    """What running needs of a task."""

    @property
    def name(self) -> str:
        """The registered name."""
        ...

    @property
    def function(self) -> Callable[..., Any]:
        """The function as written."""
        ...

    @property
    def signature(self) -> Signature:
        """Codec of its arguments and result."""
        ...

    @property
    def retry(self) -> RetryPolicy | None:
        """When it runs again after a failure; None for the default."""
        ...


class Why(Enum):
    """Why a run was asked to end before its handler returned."""

    TIMEOUT = auto()
    BUDGET = auto()
    STOP = auto()
    CANCEL = auto()
    LOST = auto()


class Attempt:
    """One run of one job. `run` gives exactly one outcome and raises nothing."""

    __slots__ = (
        "_args",
        "_around",
        "_make_job",
        "_resources",
        "_result_limit",
        "_runner",
        "_seconds",
        "_seconds_why",
        "_thread_done",
        "_threads",
        "error",
        "number",
        "started",
        "task",
        "thread_runs",
        "why",
    )  # fmt: skip

    def __init__(
        self,
        task: Runnable,
        args: str,
        make_job: Callable[[], Job],
        number: int,
        *,
        timeout: float | None,
        budget_left: float | None,
        result_limit: int,
        threads: anyio.CapacityLimiter | None,
        resources: Mapping[type, Any],
        around: Sequence[RunMiddleware] = (),
    ) -> None:
        self.task = task
        self.number = number
        self.why: Why | None = None
        self.error: BaseException | None = None
        self.started = False
        self.thread_runs = False
        """True while a sync task's thread runs: it cannot be cancelled, its slot is free only when it returns."""
        self._thread_done: Callable[[], None] | None = None
        self._args = args
        self._around = around
        self._make_job = make_job
        self._result_limit = result_limit
        self._threads = threads
        self._resources = resources
        self._runner: asyncio.Task[Any] | None = None
        tight = budget_left is not None and (timeout is None or budget_left < timeout)
        self._seconds = budget_left if tight else timeout
        self._seconds_why = Why.BUDGET if tight else Why.TIMEOUT

    def stop(self, why: Why) -> None:
        """Ask the run to end; the first reason counts. A handler that swallows the cancellation is asked only once."""
        if self.why is None:
            self.why = why
            if self._runner is not None:
                self._runner.cancel()

    async def run(self) -> Outcome:
        """Run in the current task, which must be the run's own."""
        try:
            positional, named = self.task.signature.decode_args(self._args)
        except InvalidPayload as error:
            self.error = error
            return PutAside("payload")
        if self._asked_to_end():
            return Released()
        self._runner = asyncio.current_task()
        timer = None
        if self._seconds is not None:
            timer = asyncio.get_running_loop().call_later(self._seconds, self.stop, self._seconds_why)
        self.started, value = True, None
        try:
            value = await self._call(positional, named)
        except BaseException as error:
            self.error = error
        if timer is not None:
            timer.cancel()
        if self.error is None and self.why in (Why.TIMEOUT, Why.BUDGET):
            self.error = asyncio.CancelledError()  # the handler swallowed the cancellation: its value came too late
        return self._done(value) if self.error is None else await self._after(self.error)

    async def _call(self, positional: list[Any], named: dict[str, Any]) -> Any:
        context = JobContext(self._make_job, self.number, self._asked_to_end, self._resources)
        CURRENT.set(context)
        if not self._around:
            return await self._call_task(context, positional, named)
        return await nested(self._around, partial(self._call_task, positional=positional, named=named))(context)

    async def _call_task(self, context: JobContext, positional: list[Any], named: dict[str, Any]) -> Any:
        if self.task.signature.wants_context:
            positional = [context, *positional]
        if self.task.signature.is_async:
            return await self.task.function(*positional, **named)
        return await self._call_in_thread(partial(self.task.function, *positional, **named))

    async def _call_in_thread(self, call: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()

        def body() -> Any:
            try:
                return call()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for this thread any more
                    loop.call_soon_threadsafe(self._thread_ended)

        self.thread_runs = True
        return await anyio.to_thread.run_sync(body, abandon_on_cancel=True, limiter=self._threads)

    def when_thread_ends(self, then: Callable[[], None]) -> None:
        """Call this once the thread has returned."""
        self._thread_done = then

    def _thread_ended(self) -> None:
        self.thread_runs = False
        if self._thread_done is not None:
            self._thread_done()

    def _asked_to_end(self) -> bool:
        return self.why is not None

    def _done(self, value: Any) -> Outcome:
        try:
            return Done(self.task.signature.encode_result(value, self._result_limit))
        except InvalidPayload as error:  # its effect has happened: running it again would repeat that
            self.error = error
            return Dead("result", describe(error, self.number))

    async def _after(self, error: BaseException) -> Outcome:
        match self.why:
            case None:
                return await self._after_handler_raised(error)
            case Why.TIMEOUT:
                self.error = TimeoutError(f"timeout after {self._seconds:g} s")
                return await self._after_failure(self.error)
            case Why.BUDGET:
                self.error = TimeoutError("budget used up")
                return Dead("budget", describe(self.error, self.number))
            case Why.CANCEL:
                return Cancelled("requested")
            case Why.STOP | Why.LOST:
                return Released()
            case never:
                assert_never(never)

    async def _after_handler_raised(self, error: BaseException) -> Outcome:
        match error:
            case Snooze():
                return Snoozed(error.delay, error.at)
            case Cancel():
                return Cancelled(error.reason)
            case Fatal():
                return Dead("fatal", describe(error, self.number))
        return await self._after_failure(error)

    async def _after_failure(self, error: BaseException) -> Outcome:
        job, facts = self._make_job(), describe(error, self.number)
        if self.number >= job.max_attempts:
            return Dead("attempts", facts)
        if isinstance(error, Retry) and (error.delay is not None or error.at is not None):
            return Retried(facts, error.delay, error.at, error.queue, error.priority)
        try:
            moment = (self.task.retry or DEFAULT_RETRY)(job, error)
            if inspect.isawaitable(moment):
                moment = await moment
            if moment is None:
                return Dead("policy", facts)
            delay, at = (None, moment) if isinstance(moment, datetime) else (max(0.0, float(moment)), None)
        except BaseException as broken:
            if self.why is Why.STOP:
                return Released()
            broken.__context__ = error  # both are kept: the traceback tells the first as the cause
            return Dead("policy", describe(broken, self.number))
        if isinstance(error, Retry):
            return Retried(facts, delay, at, error.queue, error.priority)
        return Retried(facts, delay, at)


def interrupted(attempt: Attempt, job: Job) -> Outcome:
    """The outcome of a run whose own task was cancelled behind its back: a failure like any other."""
    facts = describe(asyncio.CancelledError("the run's task was cancelled by its own code"), attempt.number)
    if attempt.number >= job.max_attempts:
        return Dead("attempts", facts)
    return Retried(facts, DEFAULT_RETRY(job, asyncio.CancelledError()))


def describe(error: BaseException, attempt: int) -> AttemptError:
    """An exception as it is stored: class, message, traceback without local variables, the data it carries."""
    kind = type(error)
    frames = traceback.TracebackException(kind, error, _first_foreign_frame(error), capture_locals=False)
    return AttemptError(
        error_class=kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
        message=_storable(str(error), _MESSAGE_LIMIT),
        traceback=_storable("".join(frames.format()), _TRACEBACK_LIMIT),
        data=_data(error),
        attempt=attempt,
        at=datetime.now(UTC),
    )


def _first_foreign_frame(error: BaseException) -> Any:
    """The traceback from the user's first frame on; ours above it tell nobody anything."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    return trace


def _storable(text: str, limit: int) -> str:
    """Text that PostgreSQL takes: no NUL, no lone surrogates, within the limit."""
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
    return clean if len(clean) <= limit else clean[: limit - 20] + " ... (cut)"


def _data(error: BaseException) -> JsonValue:
    data = getattr(error, "data", None)
    if data is None:
        return None
    try:
        encode(data, "error data", _TRACEBACK_LIMIT, setting="")
    except InvalidPayload:
        return None
    kept: JsonValue = data
    return kept


async def run_apart(attempt: Attempt) -> Outcome:
    """Run in a task of its own that is cancelled with the caller: nothing of it outlives this call."""
    runner = asyncio.get_running_loop().create_task(attempt.run(), context=contextvars.copy_context())
    try:
        await asyncio.wait({runner})
    except asyncio.CancelledError:
        attempt.stop(Why.STOP)
        with anyio.CancelScope(shield=True):  # no limit: what it waits for is the caller's own clean-up code
            await asyncio.wait({runner})
        raise
    return runner.result()
