"""What a run that did not simply return comes to: one outcome for every way to fail or to be asked to end."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from jobqueue.base.job import Job
from jobqueue.base.log import get_logger
from jobqueue.base.outcome import Cancel, Cancelled, Dead, Fatal, Outcome, Released, Retried, Snooze, Snoozed, Suspended
from jobqueue.base.retry import DEFAULT_RETRY, RetryPolicy
from jobqueue.tasks.run.again import Again, by_default, next_run
from jobqueue.tasks.run.failure import cut_off, describe, storable, with_slip
from jobqueue.tasks.run.groups import meant_by
from jobqueue.tasks.run.state import RunState, Why

log = get_logger(__name__)


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
    suspension: Suspended | None = None
    """Until when its handler sleeps."""

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
            case Why.SUSPEND:
                return self.suspension or Released(), error
            case Why.CANCEL | Why.STOP | Why.LOST:
                return self._as_asked(), error
            case never:
                assert_never(never)

    async def after_failure(self, error: BaseException) -> Outcome:
        """The outcome of a failed attempt: run again, if the limits and the policy allow it."""
        job, facts = self.make_job(), describe(error, self.number)
        if self.number >= job.max_attempts:
            return Dead("attempts", facts)
        meant = meant_by(error)
        try:
            again = await next_run(self.policy or DEFAULT_RETRY, job, meant)
        except BaseException as slip:
            if self.state.why in (Why.CANCEL, Why.STOP, Why.LOST):
                return self._as_asked()
            log.error("job.policy_failed", job_id=str(job.id), task=job.task, error=type(slip).__name__)
            again, facts = by_default(job, meant), with_slip(facts, slip)
        if again is None:
            return Dead("policy", facts)
        if self._comes_too_late(job, again):
            return Dead("budget", facts)
        return Retried(facts, again.delay, again.at, again.queue, again.priority)

    async def _raised(self, error: BaseException) -> Outcome:
        match meant_by(error):
            case Snooze() as snooze:
                return Snoozed(snooze.delay, snooze.at)
            case Cancel() as cancel:
                return Cancelled(None if cancel.reason is None else storable(str(cancel.reason)))
            case Fatal():
                return Dead("fatal", describe(error, self.number))
        return await self.after_failure(error)

    def _as_asked(self) -> Outcome:
        return Cancelled("requested") if self.state.why is Why.CANCEL else Released(lost=self.state.why is Why.LOST)

    def _comes_too_late(self, job: Job, again: Again) -> bool:
        """Whether the next run would begin after the budget of all runs is used up."""
        if self.budget_ends is None:
            return False
        if again.at is not None:
            return job.deadline is not None and again.at >= job.deadline
        return time.monotonic() + (again.delay or 0) >= self.budget_ends


def interrupted(number: int, job: Job, error: BaseException | None) -> Outcome:
    """The outcome of a run whose own task was cancelled or broke behind its back: a failure like any other."""
    error = error or asyncio.CancelledError("the run's task was cancelled from outside")
    facts = describe(error, number)
    if number >= job.max_attempts:
        return Dead("attempts", facts)
    return Retried(facts, DEFAULT_RETRY(job, error))
