"""Runs one job: decode, context, time limit, call, and turn whatever happens into one Outcome.

Knows nothing of claims or databases: the worker, `task.run` and tests all come here. Cancellation as handlers see it:
an async task is cancelled (CancelledError at its next await, `finally` blocks run); a sync task in its thread can only
ask `ctx.cancelled`.
"""

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import anyio

from jobqueue.base.errors import ClaimLost, ConfigurationError, InvalidPayload
from jobqueue.base.outcome import Dead, Done, Outcome, PutAside, Released, Retried, Suspended
from jobqueue.tasks.context import CURRENT, JobContext
from jobqueue.tasks.phases.phases import Phases, Run
from jobqueue.tasks.run.backing import Backing
from jobqueue.tasks.run.failure import brief_json, describe
from jobqueue.tasks.run.middleware import RunMiddleware, nested
from jobqueue.tasks.run.runnable import Runnable
from jobqueue.tasks.run.state import RunState, Why
from jobqueue.tasks.run.thread import ThreadCall
from jobqueue.tasks.run.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the runs of a worker, of a test or of `task.run` have in common."""

    result_limit: int
    """In bytes."""
    resources: Mapping[type, Any]
    threads: anyio.CapacityLimiter | None = None
    """None: those of anyio."""
    around: Sequence[RunMiddleware] = ()
    """The middlewares."""


class Attempt:
    """One run of one job. `run` gives exactly one outcome and raises nothing."""

    __slots__ = (
        "_args", "_backing", "_budget_ends", "_conditions", "_phases", "_seconds", "_seconds_why", "context", "error",
        "number", "state", "suspension", "task",
    )  # fmt: skip

    def __init__(
        self,
        task: Runnable,
        args: str,
        backing: Backing,
        number: int,
        conditions: Conditions,
        *,
        timeout: float | None,
        budget_left: float | None,
    ) -> None:
        """`backing` is what stands behind it."""
        self.task = task
        self.number = number
        self.state = RunState()
        self.error: BaseException | None = None
        """What the run failed with."""
        self.context: JobContext | None = None
        """What its handler has, once that was called."""
        self.suspension: Suspended | None = None
        """Until when its handler sleeps, once it does."""
        self._phases: Phases | None = None
        self._args = args
        self._backing = backing
        self._conditions = conditions
        self._seconds, self._seconds_why = timeout, Why.TIMEOUT
        self._budget_ends: float | None = None
        if budget_left is not None:
            self._keep_within(budget_left)

    async def run(self) -> Outcome:
        """Run in the current task, which must be the run's own."""
        try:
            positional, named = self.task.signature.decode_args(self._args)
        except InvalidPayload as error:
            self.error = error
            return PutAside("payload", self.task.signature.fault_of(error))
        except BaseException as error:  # a validator of the user's may do anything, SystemExit included
            self.error = error
            return await self._verdict().after_failure(error)
        if self.state.why is not None:
            return Released()
        timer, value = self._begin(), None
        try:
            value = await self._call(positional, named)
        except BaseException as error:  # here and no deeper: a GeneratorExit out of a thread closes what lies below
            self.error = error
        if self._phases is not None:
            self._phases.close()  # what it has left behind must not cut off what follows
        try:
            if timer is not None or self._is_asked:
                await self._settle(timer)
            if self.error is None:
                return self._done(value)
            outcome, self.error = await self._verdict().on(self.error)
            return outcome if self._phases is None else self._placed(outcome, self._phases)
        finally:
            self.state.end()
            self._phases = self.context = None  # breaks circles: left to the collector they cost a fifth of the speed

    def _keep_within(self, budget: float) -> None:
        self._budget_ends = time.monotonic() + budget
        if self._seconds is None or budget < self._seconds:
            self._seconds, self._seconds_why = budget, Why.BUDGET

    def _begin(self) -> asyncio.TimerHandle | None:
        self.state.begin(asyncio.current_task())
        if self._seconds is None:
            return None
        return asyncio.get_running_loop().call_later(self._seconds, self.state.ask, self._seconds_why)

    @property
    def _is_asked(self) -> bool:
        """Whether anything has cancelled its task, or tried to."""
        return self.state.why is not None or (self.state.task is not None and self.state.task.cancelling() > 0)

    async def _settle(self, timer: asyncio.TimerHandle | None) -> None:
        """The handler has ended: a cancel that is still pending, its own or ours, must not hit what follows."""
        if timer is not None:
            timer.cancel()
        if self.state.task is not None and self.state.task.cancelling():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        if self.error is None and self.state.why in (Why.TIMEOUT, Why.BUDGET, Why.SUSPEND):
            self.error = asyncio.CancelledError()  # the handler swallowed the cancellation: its value came too late

    def _call(self, positional: list[Any], named: dict[str, Any]) -> Awaitable[Any]:
        context = JobContext(
            self._backing, self.number, self._asked_to_end, self._conditions.resources, self._own_transaction,
            self._its_phases,
        )  # fmt: skip
        CURRENT.set(context)
        self.context = context
        if not (around := self._conditions.around):
            return self._call_task(context, positional, named)
        return nested(around, partial(self._call_task, positional=positional, named=named))(context)

    @contextlib.asynccontextmanager
    async def _own_transaction(self, given: object | None = None) -> AsyncIterator[tuple[Any, Callable[[Any], None]]]:
        """A connection in a transaction, and what notes the result that the job is completed with in it."""
        if self.state.handler_in_thread:
            raise ConfigurationError("ctx.transaction(): needs an async task; a `def` task runs in a thread")
        async with self._backing.transaction(given) as (connection, complete):
            yield connection, lambda value: complete(self._encoded(value))

    def _encoded(self, value: Any) -> Done:
        return Done(self.task.signature.encode_result(value, self._conditions.result_limit))

    def _call_task(self, context: JobContext, positional: list[Any], named: dict[str, Any]) -> Awaitable[Any]:
        if self.task.signature.wants_context:
            positional = [context, *positional]
        if self.task.signature.is_async:
            called: Awaitable[Any] = self.task.function(*positional, **named)
            return called
        return self._call_in_thread(partial(self.task.function, *positional, **named))

    async def _call_in_thread(self, call: Callable[[], Any]) -> Any:
        self.state.enter_thread()
        return await self._in_thread(
            ThreadCall(call, self._thread_begins, self.state.leave_thread), self.state.leave_thread
        )

    async def _step_in_thread(self, call: Callable[[], Any]) -> Any:
        self.state.enter_step()
        return await self._in_thread(ThreadCall(call, self._refuse_late, self.state.leave_step), self.state.leave_step)

    async def _in_thread(self, call: ThreadCall, leave: Callable[[], None]) -> Any:
        try:
            return await call.run(self._conditions.threads)
        finally:
            if call.never_begins():
                leave()

    def _its_phases(self) -> Phases:
        if self.state.handler_in_thread:
            raise ConfigurationError("ctx: phases, sleeps and waits need an async task; a `def` task runs in a thread")
        if self.context is None:  # whoever asks has outlived the run
            raise ClaimLost(self._backing.job().id)
        if self._phases is None:
            self._phases = Phases(Run(
                self.number, self._conditions.result_limit, self._backing.journal(), self._backing.job,
                self._asked_to_end, self._suspend, self._step_in_thread, self._own_transaction,
                lambda error: brief_json(describe(error, self.number)),
            ))  # fmt: skip
        return self._phases

    def _suspend(self, suspension: Suspended) -> None:
        if self.state.why is None:
            self.suspension = suspension
            self.state.ask(Why.SUSPEND)

    def _placed(self, outcome: Outcome, phases: Phases) -> Outcome:
        """The outcome, whose error says in which phase it came up."""
        place = phases.place_of(self.error)
        if place is None or not isinstance(outcome, Retried | Dead) or outcome.error is None:
            return outcome
        return replace(outcome, error=replace(outcome.error, phase=place[0], place=place[1]))

    def _refuse_late(self, ident: int) -> None:
        if self._asked_to_end():
            raise InterruptedError("this run was asked to end before its thread began")

    def _thread_begins(self, ident: int) -> None:
        self._refuse_late(ident)
        self.state.thread = ident

    def _asked_to_end(self) -> bool:
        return self.state.asked

    def _done(self, value: Any) -> Outcome:
        try:
            return self._encoded(value)
        except BaseException as error:  # its effect has happened: running it again would repeat that
            self.error = error
            return Dead("result", describe(error, self.number))

    def _verdict(self) -> Verdict:
        return Verdict(
            self.state,
            self.number,
            self.task.retry,
            self._backing.job,
            self._seconds,
            self._budget_ends,
            self.suspension,
        )


async def run_apart(attempt: Attempt) -> Outcome:
    """Run in a task of its own that is cancelled with the caller: nothing of it outlives this call."""
    runner = asyncio.get_running_loop().create_task(attempt.run(), context=contextvars.copy_context())
    try:
        await asyncio.wait({runner})
    except asyncio.CancelledError:
        attempt.state.ask(Why.STOP)
        with anyio.CancelScope(shield=True):  # no limit: what it waits for is the caller's own clean-up code
            await asyncio.wait({runner})
        raise
    return runner.result()
