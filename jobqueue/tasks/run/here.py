"""Runs a job here and now, without a database: `task.run`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from jobqueue.base.errors import ConfigurationError, JobCancelled, JobQueueError
from jobqueue.base.job import Job, JobState, NewJob
from jobqueue.base.new_jobs import job_from
from jobqueue.base.outcome import Cancelled, Done
from jobqueue.tasks.context import NO_RESOURCES
from jobqueue.tasks.phases.memory import MemoryJournal
from jobqueue.tasks.phases.result import signal_text
from jobqueue.tasks.run.attempt import Attempt, Conditions, run_apart
from jobqueue.tasks.run.batch import Alone, Registered


async def run_here(
    task: Registered,
    job: NewJob[Any],
    result_limit: int,
    resources: Mapping[type, Any] = NO_RESOURCES,
    signals: Mapping[str, Sequence[Any]] | None = None,
) -> Any:
    """Give the result as `handle.result()` would; raise what the handler raised, or JobCancelled.

    One attempt, whatever the outcome asks for. A cancelled caller cancels the handler and waits for it.
    """
    sent = {name: [signal_text(each, result_limit) for each in given] for name, given in (signals or {}).items()}
    attempt = Attempt(
        task if task.batch is None else Alone(task),
        job.args,
        _Backing(job, sent),
        1,
        Conditions(result_limit, resources),
        timeout=job.timeout,
        budget_left=job.budget,
    )
    outcome = await run_apart(attempt)
    if isinstance(outcome, Done):
        return task.signature.decode_result(outcome.result)
    if isinstance(outcome, Cancelled):
        raise JobCancelled(job.id, outcome.reason)
    raise attempt.error or JobQueueError("the run was stopped")


@dataclass(frozen=True, slots=True)
class _Backing:
    """Behind a run without a worker: see `Backing`."""

    new: NewJob[Any]
    signals: Mapping[str, Sequence[str]]

    def job(self) -> Job:
        """As a worker would have claimed it."""
        now = datetime.now(UTC)
        return job_from(self.new, JobState.RUNNING, now, attempt=1, claimed_at=now)

    def report(self, report: str) -> None:
        """Nobody reads it."""

    def transaction(self, given: object | None) -> NoReturn:
        """There is no job on record."""
        raise ConfigurationError("a transaction: only a worker has a job to complete; task.run has none")

    def bundle(self) -> None:
        """It is in none."""

    def journal(self) -> MemoryJournal:
        """Kept for as long as the run."""
        return MemoryJournal(self.signals)
