"""How a job stands, and what keeps it from running: sentences for somebody who was woken up for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from jobqueue.base.flows.event import Event
from jobqueue.base.flows.phase import Phase
from jobqueue.base.flows.schedule import planned_id
from jobqueue.base.job import PLANNED_BY, Job, JobState, short_id
from jobqueue.store.looking.overview import Beside, Dependency, InLine, Waits
from jobqueue.store.workers import WorkerRow
from jobqueue.telling.lines import said_of_line
from jobqueue.telling.phases import is_parked, where_it_is
from jobqueue.telling.spans import ago, duration, length, moment
from jobqueue.worker.claiming.queues import Queues

_DEAD = {
    "attempts": "its attempts are used up",
    "budget": "the time for all its attempts is over",
    "crashed": "its workers died while it ran, too often",
    "expired": "it was not started in time",
    "fatal": "its task said that another attempt is of no use",
    "limit": "no worker could find the key of its limit in its arguments",
    "lost": "its claim was lost too often",
    "payload": "no worker had a task that its arguments fit",
    "policy": "its retry policy allows no further attempt, or failed",
    "result": "it ran, but its result could not be stored",
    "unknown task": "no worker knew its task",
}


_CANCELLED = {
    "requested": "somebody cancelled it",
    "dependency": "a job that it came after did not complete",
}

REASONS = frozenset({*_DEAD, *_CANCELLED})
"""Why jobs end, in our words; all others are a task's own, and may say anything."""
_BOTH = ": a retry of that brings both back"


@dataclass(frozen=True, slots=True)
class Story:
    """A job, what keeps it from running, and the workers there are."""

    job: Job
    beside: Beside | None
    workers: Sequence[WorkerRow]
    events: Sequence[Event] = ()
    """What the log says of it, as far back as was looked."""
    waits: Waits = field(default_factory=Waits)
    phases: Sequence[Phase] = ()
    signals: Mapping[str, int] = field(default_factory=dict)
    """How many it has not read, by name."""
    line: InLine | None = None
    """Where it stands in the line of a limit."""

    def sentences(self, now: datetime) -> Iterator[str]:
        """What somebody wants to know who was woken up for this job."""
        job = self.job
        match job.state:
            case JobState.DEAD:
                yield _DEAD.get(job.reason or "", "it was given up")
            case JobState.CANCELLED:
                yield _CANCELLED.get(job.reason or "", "its task cancelled it")
                yield from self._wanted()
            case JobState.RUNNING:
                yield from self._running(now)
            case JobState.BLOCKED if self.line is not None:
                yield from said_of_line(self.line)
                yield from self._served(now)
            case JobState.BLOCKED:
                yield self._blocked(now)
            case JobState.SCHEDULED | JobState.READY:
                yield from self._waiting(now)

    def _running(self, now: datetime) -> Iterator[str]:
        job = self.job
        since = "" if job.claimed_at is None else f" for {length(job.claimed_at, now)}"
        yield f"runs{since}" + (f"; was asked to end {ago(job.cancel_asked, now)}" if job.cancel_asked else "")
        if not any(worker.id == job.worker_id and worker.alive for worker in self.workers):
            holds = job.lease_until is not None and job.lease_until > now
            when = f"once its lease ends {ago(job.lease_until, now)}" if holds else "as soon as one looks"
            yield f"its worker gives no sign of life; another takes it {when}"
        yield from where_it_is(job, self.phases, now)

    def _blocked(self, now: datetime) -> str:
        job, waits = self.job, self.waits
        named = [_named(one) for one in waits.first]
        if waits.unmet > len(named):
            named.append(f"{waits.unmet - len(named)} more")
        which = f"{waits.unmet} of {waits.total}: {', '.join(named)}" if named else "others"
        return f"waits for {which}" + (f"; due {ago(job.due_at, now)}" if job.due_at > now else "")

    def _wanted(self) -> Iterator[str]:
        for one in self.waits.first:
            if one.failed:
                yield f"it needs {_named(one)}" + (_BOTH if one.state is JobState.DEAD else "")

    def _waiting(self, now: datetime) -> Iterator[str]:
        job, beside = self.job, self.beside
        if job.crashes:
            yield f"a suspect: its worker died while it ran (crash {job.crashes}); each worker runs one such at a time"
        if beside is not None and beside.aside is not None:
            yield f"put aside for {duration(beside.aside)}: no worker knows its task, or its arguments do not fit it"
        if job.due_at > now and is_parked(job, self.phases):
            yield from where_it_is(job, self.phases, now)
        else:
            failed = f"attempt {job.attempt} failed; " if job.attempt and job.errors else ""
            yield failed + (f"due {ago(job.due_at, now)}" if job.due_at > now else f"waits {length(job.due_at, now)}")
        yield from self._served(now)

    def _served(self, now: datetime) -> Iterator[str]:
        job, beside = self.job, self.beside
        if beside is not None and beside.paused:
            resumes = f", resumes {ago(beside.resume_at, now)}" if beside.resume_at else ""
            yield f"queue {job.queue} is paused{resumes}"
        if not any(worker.alive for worker in self.workers):
            yield "no worker is alive"
        elif not any(worker.alive and Queues(worker.queues).serves(job.queue) for worker in self.workers):
            yield f"no living worker serves queue {job.queue}"

    def worker(self, id: str, *, whole: bool = False) -> str:
        """Who that was; a worker that ended in good order has left nothing but its id."""
        name = next((f"{row.host}, pid {row.pid}" for row in self.workers if str(row.id) == id), None)
        if name is None:
            return id
        return f"{name} ({id})" if whole else name


def reason_told(job: Job) -> str | None:
    """Why it ended, unless a task said that in its own words, which may hold anything."""
    return job.reason if job.reason in REASONS else None


def said_of_plan(job: Job) -> str | None:
    """For which planned time of its schedule it was made, or that somebody triggered it."""
    if job.planned_at is None or job.origin is None:
        return None
    name = job.origin.removeprefix(PLANNED_BY)
    if job.id != planned_id(name, job.planned_at):
        return f"by hand: schedule {name} was triggered"
    return f"{moment(job.planned_at)} by schedule {name}"


def _named(one: Dependency) -> str:
    """`load …7d2f0b11 (running)`: as much of the id as `jobs show` needs."""
    return f"{one.task or 'job'} {short_id(one.id)} ({one.state or 'deleted'})"
