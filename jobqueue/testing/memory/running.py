"""Runs a job in memory, as a worker would: one attempt, and what its outcome asks for."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NoReturn, assert_never
from uuid import UUID

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import AttemptError, Claimed, Job, JobState, WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.outcome import (
    Cancelled,
    Dead,
    Done,
    LinedUp,
    Outcome,
    PutAside,
    Released,
    Rescued,
    Retried,
    Snoozed,
    Suspended,
)
from jobqueue.base.settings import Settings
from jobqueue.tasks.membership import MemberOf
from jobqueue.tasks.registry import AnyTask, Registry
from jobqueue.tasks.run.attempt import Attempt, Conditions, run_apart
from jobqueue.tasks.run.batch import Alone
from jobqueue.tasks.run.hooks import call_hooks, failure_of
from jobqueue.tasks.run.middleware import Middleware
from jobqueue.testing.memory.bundles import KeptBundles
from jobqueue.testing.memory.clock import Clock
from jobqueue.testing.memory.kept import Kept
from jobqueue.testing.memory.phases import NO_DATABASE, KeptPhases
from jobqueue.testing.memory.shelf import Shelf
from jobqueue.worker.ending.lines import tell_failure

_ASIDE_FIRST = 1.0
_NOBODY = WorkerId(UUID(int=0))

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Around:
    """What runs find around them."""

    tasks: Registry
    middleware: Middleware
    settings: Settings
    resources: Mapping[type, Any]
    bundle: MemberOf


class Running:
    """Runs the jobs of one shelf, one after the other for each caller."""

    def __init__(self, around: Around, shelf: Shelf, bundles: KeptBundles, clock: Clock) -> None:
        self._around = around
        self._shelf = shelf
        self._bundles = bundles
        self._clock = clock

    async def drain(self, queue: str | None) -> list[Job]:
        """Run what is due, and what comes of that, until nothing is; the jobs, in the order in which they began."""
        ran: dict[Kept, None] = {}
        while (kept := self._shelf.best(queue)) is not None:
            ran[kept] = None
            await self.run(kept)
        return [kept.job(self._clock.now) for kept in ran]

    async def at_once(self, first: Iterable[Kept]) -> None:
        """Run these as far as they are due, and what becomes ready by their ends."""
        waiting = deque(first)
        while waiting:
            kept = waiting.popleft()
            if kept.state is JobState.READY:
                waiting.extend(await self.run(kept))

    async def run(self, kept: Kept) -> list[Kept]:
        """One attempt of one that is ready; what has become ready by its end. Cancelled, it gives the job back."""
        began = time.monotonic()
        self._shelf.begin(kept)
        task = self._around.tasks.find(kept.new.task)
        attempt, outcome = None, self._unfit(kept, task)
        try:
            if task is not None and outcome is None:
                kept.run = attempt = self._attempt(kept, task)
                outcome = await run_apart(attempt)
        except BaseException:
            self._apply(kept, Released())
            raise
        finally:
            kept.run = None
        seconds = round(time.monotonic() - began, 3)
        return await self._ended(kept, outcome or Released(), None if attempt is None else attempt.error, seconds)

    async def _ended(self, kept: Kept, outcome: Outcome, error: BaseException | None, seconds: float) -> list[Kept]:
        facts = {"id": kept.id, "task": kept.new.task, "queue": kept.queue, "attempt": kept.attempt}
        fresh = self._apply(kept, outcome)
        if isinstance(outcome, Retried | Dead):  # a test that fails shows why a job did not do what it expects
            tell_failure(log, facts, outcome, seconds, self._around.settings.log_failures or "traceback")
        failed = failure_of(facts, error, outcome)
        if failed is not None:
            await call_hooks(self._around.middleware.on_error, failed)
        return fresh

    def _unfit(self, kept: Kept, task: AnyTask | None) -> Outcome | None:
        now = self._clock.now
        if kept.attempt == 1 and kept.expires_at is not None and kept.expires_at <= now:
            return Dead("expired")
        if kept.deadline is not None and kept.deadline <= now:
            return Dead("budget")
        return PutAside("unknown task") if task is None else None

    def _attempt(self, kept: Kept, task: AnyTask) -> Attempt:
        around, left = self._around, None
        if kept.deadline is not None:
            left = (kept.deadline - self._clock.now).total_seconds()
        return Attempt(
            task if task.batch is None else Alone(task),
            kept.new.args,
            _Behind(kept, self._clock, self._around.bundle),
            kept.attempt,
            Conditions(around.settings.max_result, around.resources, around=around.middleware.around_run),
            timeout=kept.new.timeout,
            budget_left=left,
        )

    def _apply(self, kept: Kept, outcome: Outcome) -> list[Kept]:
        """What it asks for is done; what has become ready by that."""
        self._shelf.take_fresh()
        if kept.cancel_asked is not None and not isinstance(outcome, Done | Dead):
            outcome = Cancelled("requested", getattr(outcome, "error", None))
        match outcome:
            case Done(result):
                self._end(kept, JobState.COMPLETED, None, result)
            case Cancelled(reason, error):
                self._end(kept, JobState.CANCELLED, reason, None, error)
            case Dead(reason, error):
                self._end(kept, JobState.DEAD, reason, None, error)
            case _:
                self._again(kept, outcome)
        return self._shelf.take_fresh()

    def _end(
        self, kept: Kept, state: JobState, reason: str | None, result: str | None, error: AttemptError | None = None
    ) -> None:
        kept.errors += () if error is None else (replace(error, began=kept.claimed_at),)
        self._shelf.end(kept, state, reason, result)
        self._bundles.ended(kept)

    def _again(
        self, kept: Kept, outcome: Retried | Snoozed | Suspended | Released | Rescued | PutAside | LinedUp
    ) -> None:
        """It runs again: as a failed attempt, or with that given back."""
        due, now = self._clock.due, self._clock.now
        kept.attempt -= not isinstance(outcome, Retried)
        match outcome:
            case Retried(error, delay, at, queue, priority):
                kept.errors += (replace(error, began=kept.claimed_at),)
                kept.queue = queue or kept.queue
                kept.priority = kept.priority if priority is None else priority
                self._shelf.put_back(kept, due(delay, at))
            case Snoozed(delay, at):
                self._shelf.put_back(kept, due(delay, at))
            case Suspended(at, seen):
                heard = seen is not None and kept.phases.sent > seen
                self._shelf.put_back(kept, now if heard else at)
                kept.heard = seen if kept.state is JobState.SCHEDULED else None
            case PutAside(reason):
                self._aside(kept, reason)
            case Released() | Rescued() | LinedUp():
                self._shelf.release(kept)
            case never:
                assert_never(never)
        self._shelf.tell(kept)

    def _aside(self, kept: Kept, reason: str) -> None:
        kept.aside_since = kept.aside_since or self._clock.now
        aside = (self._clock.now - kept.aside_since).total_seconds()
        if aside >= self._around.settings.aside_max_age:
            self._end(kept, JobState.DEAD, reason, None)
            return
        self._shelf.put_back(kept, self._clock.now + timedelta(seconds=max(_ASIDE_FIRST, aside / 4)))


@dataclass(frozen=True, slots=True)
class _Behind:
    """Behind a run in memory: see `Backing`."""

    kept: Kept
    clock: Clock
    bundle_of: MemberOf

    def job(self) -> Job:
        """As a worker would have claimed it."""
        return self.kept.job(self.clock.now)

    def report(self, report: str) -> None:
        """Kept with the job."""
        self.kept.progress = report

    def transaction(self, given: object | None) -> NoReturn:
        """There is no database."""
        raise ConfigurationError(f"ctx.transaction(): {NO_DATABASE}")

    def bundle(self) -> Any:
        """As the app gives it; in memory no fence is needed."""
        bundle, by = self.kept.new.bundle, Claimed(self.kept.id, 0, _NOBODY)
        return None if bundle is None else self.bundle_of(bundle, by)

    def journal(self) -> KeptPhases:
        """Kept with the job."""
        return self.kept.phases
