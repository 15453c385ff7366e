"""Runs one job: decode, context, time limit, call, and turn whatever happens into one Outcome.

Knows nothing of claims or databases: the worker, `task.run` and tests all come here. Cancellation as handlers see it:
an async task is cancelled (CancelledError at its next await, `finally` blocks run); a sync task in its thread can only
ask `ctx.cancelled`.
"""

import asyncio
import contextlib
import contextvars
import inspect
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum, auto
from functools import partial
from threading import Lock, get_ident
from typing import Any, Protocol, assert_never

import anyio

from jobqueue.base.errors import ConfigurationError, InvalidPayload
from jobqueue.base.job import Job
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
    check_moment,
)
from jobqueue.base.retry import DEFAULT_RETRY, Moment, RetryPolicy
from jobqueue.tasks.context import CURRENT, JobContext
from jobqueue.tasks.options import PRIORITIES, check_queue, check_whole
from jobqueue.tasks.payload.signature import Signature
from jobqueue.tasks.run.failure import cut_off, describe, first_of, storable
from jobqueue.tasks.run.middleware import RunMiddleware, nested


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
        "_budget_ends",
        "_make_job",
        "_put_off",
        "_report",
        "_resources",
        "_result_limit",
        "_runner",
        "_seconds",
        "_seconds_why",
        "_thread_done",
        "_threads",
        "_transact",
        "asked_at",
        "completion",
        "error",
        "held_off",
        "number",
        "started",
        "task",
        "thread",
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
        report: Callable[[str], None] = lambda report: None,
        transact: Callable[[], contextlib.AbstractAsyncContextManager[Any]] | None = None,
    ) -> None:
        """`report` is called with each report of progress, in whatever thread the handler runs.

        `transact` gives the handler a transaction that ends with its job's `completion`; None where there is no job.
        """
        self._report = report
        self._transact = transact
        self.completion: Done | None = None
        """What the handler has completed with in its open transaction."""
        self.task = task
        self.number = number
        self.held_off = self._put_off = False
        self.why: Why | None = None
        self.asked_at: float | None = None
        """When it was asked to end, on the monotonic clock."""
        self.thread: int | None = None
        """The identity of the thread that it runs in, if it does."""
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
        self._budget_ends = None if budget_left is None else time.monotonic() + budget_left

    def stop(self, why: Why) -> None:
        """Ask the run to end; the first reason counts. A handler that swallows the cancellation is asked only once.

        A thread can still reach its outcome, during a stop of the worker or with a claim that may hold after all: it is
        waited for until `abandon`.
        """
        if self.why is None:
            self.why, self.asked_at = why, time.monotonic()
            if self._runner is not None and not (self.thread_runs and why in (Why.STOP, Why.LOST)):
                if self.held_off:
                    self._put_off = True
                else:
                    self._runner.cancel()

    def hold_off(self) -> None:
        """Until `resume` a request to end does not cut the run: it is committing its own completion."""
        self.held_off = True

    def resume(self) -> None:
        """What `hold_off` kept out comes now."""
        self.held_off = False
        if self._put_off and self._runner is not None:
            self._put_off = False
            self._runner.cancel()

    def abandon(self) -> None:
        """Wait no longer for a thread that was asked to end."""
        if self._runner is not None and self.thread_runs:
            self._runner.cancel()

    async def run(self) -> Outcome:
        """Run in the current task, which must be the run's own."""
        try:
            positional, named = self.task.signature.decode_args(self._args)
        except InvalidPayload as error:
            self.error = error
            return PutAside("payload")
        except BaseException as error:  # a validator of the user's may do anything, SystemExit included
            self.error = error
            return await self._after_failure(error)
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
        if self._runner is not None and self._runner.cancelling():
            # The handler has ended: a cancel that is still pending, its own or ours, must not hit what follows.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        if self.error is None and self.why in (Why.TIMEOUT, Why.BUDGET):
            self.error = asyncio.CancelledError()  # the handler swallowed the cancellation: its value came too late
        if self.error is not None:
            return await self._after(self.error)
        self._runner = None  # breaks a circle: left to the garbage collector, it costs a fifth of the speed
        return self._done(value)

    async def _call(self, positional: list[Any], named: dict[str, Any]) -> Any:
        context = JobContext(
            self._make_job, self.number, self._asked_to_end, self._resources, self._report, self._own_transaction
        )
        CURRENT.set(context)
        if not self._around:
            return await self._call_task(context, positional, named)
        return await nested(self._around, partial(self._call_task, positional=positional, named=named))(context)

    @contextlib.asynccontextmanager
    async def _own_transaction(self) -> AsyncIterator[tuple[Any, Callable[[Any], None]]]:
        """A connection in a transaction, and what notes the result that the job is completed with in it."""
        if self._transact is None:
            raise ConfigurationError("ctx.transaction(): only a worker has a job to complete; task.run has none")
        if self.thread_runs:
            raise ConfigurationError("ctx.transaction(): needs an async task; a `def` task runs in a thread")
        try:
            async with self._transact() as connection:
                yield connection, self._complete
        finally:
            self.completion = None

    def _complete(self, value: Any) -> None:
        self.completion = Done(self.task.signature.encode_result(value, self._result_limit))

    async def _call_task(self, context: JobContext, positional: list[Any], named: dict[str, Any]) -> Any:
        if self.task.signature.wants_context:
            positional = [context, *positional]
        if self.task.signature.is_async:
            return await self.task.function(*positional, **named)
        return await self._call_in_thread(partial(self.task.function, *positional, **named))

    async def _call_in_thread(self, call: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()

        def body() -> Any:
            if not ticket.acquire(blocking=False):
                return None  # given up before a thread came to it
            try:
                self._refuse_to_begin_late()
                self.thread = get_ident()
                return call()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for this thread any more
                    loop.call_soon_threadsafe(self.thread_ended)

        ticket = Lock()
        self.thread_runs = True
        try:
            return await anyio.to_thread.run_sync(body, abandon_on_cancel=True, limiter=self._threads)
        finally:
            if ticket.acquire(blocking=False):
                self.thread_runs = False  # it never began, and without the ticket it never will

    def _refuse_to_begin_late(self) -> None:
        if self._asked_to_end():
            raise InterruptedError("this run was asked to end before its thread began")

    def when_thread_ends(self, then: Callable[[], None]) -> None:
        """Call this once the thread has returned."""
        self._thread_done = then

    def thread_ended(self) -> None:
        """The thread has returned."""
        self.thread_runs = False
        if self._thread_done is not None:
            self._thread_done()

    def _asked_to_end(self) -> bool:
        return self.why is not None

    def _done(self, value: Any) -> Outcome:
        try:
            return Done(self.task.signature.encode_result(value, self._result_limit))
        except BaseException as error:  # its effect has happened: running it again would repeat that
            self.error = error
            return Dead("result", describe(error, self.number))

    async def _after(self, error: BaseException) -> Outcome:
        match self.why:
            case None:
                return await self._after_handler_raised(error)
            case Why.TIMEOUT:
                self.error = cut_off(f"timeout after {self._seconds:g} s", error)
                return await self._after_failure(self.error)
            case Why.BUDGET:
                self.error = cut_off("budget used up", error)
                return Dead("budget", describe(self.error, self.number))
            case Why.CANCEL:
                return Cancelled("requested")
            case Why.STOP | Why.LOST:
                return Released(lost=self.why is Why.LOST)
            case never:
                assert_never(never)

    async def _after_handler_raised(self, error: BaseException) -> Outcome:
        match error:
            case Snooze():
                return Snoozed(error.delay, error.at)
            case Cancel():
                return Cancelled(None if error.reason is None else storable(str(error.reason)))
            case Fatal():
                return Dead("fatal", describe(error, self.number))
        return await self._after_failure(error)

    async def _after_failure(self, error: BaseException) -> Outcome:
        job, facts = self._make_job(), describe(error, self.number)
        if self.number >= job.max_attempts:
            return Dead("attempts", facts)
        try:
            moment = await self._moment(job, error)
            if moment is None:
                return Dead("policy", facts)
            delay, at = (None, moment) if isinstance(moment, datetime) else (max(float(moment), 0.0), None)
            check_moment(delay, at)
            queue, priority = _moved(error)
        except BaseException as broken:
            if self.why is Why.CANCEL:
                return Cancelled("requested")
            if self.why in (Why.STOP, Why.LOST):
                return Released(lost=self.why is Why.LOST)
            first_of(broken, error).__context__ = error  # both are kept: the traceback tells one after the other
            return Dead("policy", describe(broken, self.number))
        if self._comes_too_late(job, delay, at):
            return Dead("budget", facts)
        return Retried(facts, delay, at, queue, priority)

    def _comes_too_late(self, job: Job, delay: float | None, at: datetime | None) -> bool:
        """Whether the next run would begin after the budget of all runs is used up."""
        if self._budget_ends is None:
            return False
        if at is not None:
            return job.deadline is not None and at >= job.deadline
        return time.monotonic() + (delay or 0) >= self._budget_ends

    async def _moment(self, job: Job, error: BaseException) -> Moment:
        """When to run again: what the handler asked for, else what the policy says."""
        if isinstance(error, Retry) and (error.delay is not None or error.at is not None):
            return error.at if error.delay is None else error.delay
        moment = (self.task.retry or DEFAULT_RETRY)(job, error)
        return await moment if inspect.isawaitable(moment) else moment


def _moved(error: BaseException) -> tuple[str | None, int | None]:
    """Where a Retry wants to go. Raises InvalidOption: the database would refuse the whole outcome."""
    if not isinstance(error, Retry):
        return None, None
    return check_queue(error.queue), check_whole("priority", error.priority, PRIORITIES)


def interrupted(attempt: Attempt, job: Job, error: BaseException | None) -> Outcome:
    """The outcome of a run whose own task was cancelled or broke behind its back: a failure like any other."""
    error = error or asyncio.CancelledError("the run's task was cancelled from outside")
    facts = describe(error, attempt.number)
    if attempt.number >= job.max_attempts:
        return Dead("attempts", facts)
    return Retried(facts, DEFAULT_RETRY(job, error))


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
