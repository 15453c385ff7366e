"""One job in memory, from its defer to its end."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from jobqueue.base.job import AttemptError, Job, JobState, NewJob
from jobqueue.base.new_jobs import job_from
from jobqueue.tasks.run.attempt import Attempt
from jobqueue.testing.memory.phases import KeptPhases


@dataclass(slots=True, eq=False)
class Kept:
    """A job, and where it stands."""

    new: NewJob[Any] = field(repr=False)
    place: int
    """Its place among those of its priority: when it became ready."""
    state: JobState
    created_at: datetime
    due_at: datetime
    queue: str
    priority: int
    phases: KeptPhases = field(repr=False)
    callback: bool = False
    """Whether its bundle has called it back: then it is no member."""
    deadline: datetime | None = None
    expires_at: datetime | None = None
    attempt: int = 0
    claimed_at: datetime | None = None
    finished_at: datetime | None = None
    aside_since: datetime | None = None
    errors: tuple[AttemptError, ...] = ()
    result: str | None = field(default=None, repr=False)
    reason: str | None = None
    progress: str | None = field(default=None, repr=False)
    cancel_asked: datetime | None = None
    waits_for: set[UUID] = field(default_factory=set)
    """The jobs that it comes after, as far as they have not ended."""
    heard: int | None = None
    """How many signals it had been sent when it began to wait for the next one; None while it waits for none."""
    run: Attempt | None = field(default=None, repr=False)
    ended: list[asyncio.Future[None]] = field(default_factory=list, repr=False)
    """Told when it has ended, or its run has."""

    @property
    def id(self) -> UUID:
        """The job's id."""
        return self.new.id

    def fall_due(self, due_at: datetime) -> None:
        """It may begin from then on: what is left of its time counts from there."""
        self.due_at = due_at
        self.deadline = None if self.new.budget is None else due_at + timedelta(seconds=self.new.budget)
        self.expires_at = None if self.new.expires is None else due_at + timedelta(seconds=self.new.expires)

    def job(self, now: datetime) -> Job:
        """As a look into the database would find it."""
        return job_from(
            self.new,
            self.state,
            now,
            queue=self.queue,
            priority=self.priority,
            attempt=self.attempt,
            due_at=self.due_at,
            created_at=self.created_at,
            claimed_at=self.claimed_at,
            finished_at=self.finished_at,
            deadline=self.deadline,
            expires_at=self.expires_at,
            cancel_asked=self.cancel_asked,
            reason=self.reason,
            errors=self.errors,
            result_json=self.result,
            progress_json=self.progress,
        )
