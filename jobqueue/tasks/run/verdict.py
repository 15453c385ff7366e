"""What a run that did not simply return comes to: one outcome for every way to fail or to be asked to end."""

import asyncio
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from jobqueue.base.job import Job
from jobqueue.base.outcome import (
    Cancel,
    Cancelled,
    Dead,
    Fatal,
    Outcome,
    Released,
    Retried,
    Retry,
    Snooze,
    Snoozed,
    check_moment,
)
from jobqueue.base.retry import DEFAULT_RETRY, Moment, RetryPolicy
from jobqueue.tasks.options import PRIORITIES, check_queue, check_whole
from jobqueue.tasks.run.failure import cut_off, describe, first_of, storable
from jobqueue.tasks.run.state import RunState, Why


@dataclass(frozen=True, slots=True)
class Verdict:
    """Judges one run; made only for those that need it."""

    state: RunState
    number: int
    """Which attempt it is."""
    policy: RetryPolicy | None
    make_job: Callable[[], Job]
    seconds: float | None
    """How long it was allowed to take."""
    budget_ends: float | None
    """When the budget of all attempts is used up, on the monotonic clock."""

    async def on(self, error: BaseException) -> tuple[Outcome, BaseException]:
        """The outcome of a run that ended with this error, and the error that stands for it."""
        match self.state.why:
            case None:
                return await self._raised(error), error
            case Why.TIMEOUT:
                late = cut_off(f"timeout after {self.seconds:g} s", error)
                return await self.after_failure(late), late
            case Why.BUDGET:
                late = cut_off("budget used up", error)
                return Dead("budget", describe(late, self.number)), late
            case Why.CANCEL | Why.STOP | Why.LOST:
                return self._as_asked(), error
            case never:
                assert_never(never)

    async def after_failure(self, error: BaseException) -> Outcome:
        """The outcome of a failed attempt: run again, if the limits and the policy allow it."""
        job, facts = self.make_job(), describe(error, self.number)
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
            if self.state.why in (Why.CANCEL, Why.STOP, Why.LOST):
                return self._as_asked()
            first_of(broken, error).__context__ = error  # both are kept: the traceback tells one after the other
            return Dead("policy", describe(broken, self.number))
        if self._comes_too_late(job, delay, at):
            return Dead("budget", facts)
        return Retried(facts, delay, at, queue, priority)

    async def _raised(self, error: BaseException) -> Outcome:
        match error:
            case Snooze():
                return Snoozed(error.delay, error.at)
            case Cancel():
                return Cancelled(None if error.reason is None else storable(str(error.reason)))
            case Fatal():
                return Dead("fatal", describe(error, self.number))
        return await self.after_failure(error)

    def _as_asked(self) -> Outcome:
        return Cancelled("requested") if self.state.why is Why.CANCEL else Released(lost=self.state.why is Why.LOST)

    def _comes_too_late(self, job: Job, delay: float | None, at: datetime | None) -> bool:
        """Whether the next run would begin after the budget of all runs is used up."""
        if self.budget_ends is None:
            return False
        if at is not None:
            return job.deadline is not None and at >= job.deadline
        return time.monotonic() + (delay or 0) >= self.budget_ends

    async def _moment(self, job: Job, error: BaseException) -> Moment:
        """When to run again: what the handler asked for, else what the policy says."""
        if isinstance(error, Retry) and (error.delay is not None or error.at is not None):
            return error.at if error.delay is None else error.delay
        moment = (self.policy or DEFAULT_RETRY)(job, error)
        return await moment if inspect.isawaitable(moment) else moment


def _moved(error: BaseException) -> tuple[str | None, int | None]:
    """Where a Retry wants to go. Raises InvalidOption: the database would refuse the whole outcome."""
    if not isinstance(error, Retry):
        return None, None
    return check_queue(error.queue), check_whole("priority", error.priority, PRIORITIES)


def interrupted(number: int, job: Job, error: BaseException | None) -> Outcome:
    """The outcome of a run whose own task was cancelled or broke behind its back: a failure like any other."""
    error = error or asyncio.CancelledError("the run's task was cancelled from outside")
    facts = describe(error, number)
    if number >= job.max_attempts:
        return Dead("attempts", facts)
    return Retried(facts, DEFAULT_RETRY(job, error))
