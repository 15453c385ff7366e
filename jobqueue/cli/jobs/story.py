"""The whole story of one job: what is the matter with it now, its facts, and how its attempts failed."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, pairwise

from jobqueue.base.flows.event import Event
from jobqueue.base.flows.limit import say_gate
from jobqueue.base.flows.phase import Phase
from jobqueue.base.flows.schedule import planned_id
from jobqueue.base.job import PLANNED_BY, AttemptError, Job, JobState, short_id
from jobqueue.cli.jobs.lines import said_of_line
from jobqueue.cli.jobs.timeline import is_parked, where_it_is, write_phases
from jobqueue.cli.terminal.event_words import line_of
from jobqueue.cli.terminal.output import ago, duration, length, moment, write, write_facts
from jobqueue.cli.terminal.safe_text import escaped
from jobqueue.store.looking.overview import Beside, Dependency, InLine, Waits
from jobqueue.store.workers import WorkerRow
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

    def write(self, payload: bool, now: datetime | None = None) -> None:
        """On one screen, if it has not failed in too many ways."""
        job, now = self.job, now or datetime.now(UTC)
        write(f"job {job.id}  {job.state}" + (f" ({job.reason})" if job.reason else ""))
        for sentence in self._sentences(now):
            write(f"  {sentence}")
        write_facts(self._facts() | ({"args": job.args_json, "result": job.result_json} if payload else {}))
        if self.phases:
            write_phases(self.phases, now, payload)
        if self.events:
            write("events")
            for event in self.events:
                write(f"  {line_of(event)}")
        if job.errors:
            self._write_errors(payload)

    def _sentences(self, now: datetime) -> Iterator[str]:
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

    def _facts(self) -> dict[str, object]:
        job = self.job
        return {
            "task": job.task,
            "queue": f"{job.queue}, priority {job.priority}",
            "attempt": f"{job.attempt} of {job.max_attempts}",
            "crashes": job.crashes or None,
            "claims lost": job.lost or None,
            "created": moment(job.created_at),
            "due": moment(job.due_at),
            "claimed": moment(job.claimed_at),
            "finished": moment(job.finished_at),
            "took": length(job.claimed_at, job.finished_at) if job.claimed_at and job.finished_at else None,
            "cancel asked": moment(job.cancel_asked),
            "timeout": None if job.timeout is None else f"{job.timeout:g} s",
            "deadline": moment(job.deadline),
            "expires": moment(job.expires_at),
            "origin": job.origin,
            "planned": _planned(job),
            "worker": None if job.worker_id is None else self._worker(str(job.worker_id), whole=True),
            "lease until": moment(job.lease_until),
            "limits": ", ".join(map(say_gate, job.gates)),
            "key": None if job.key is None else job.key.removeprefix(f"{job.task}\n"),  # as --key takes it
            "bundle": job.bundle_id,
            "progress": _progress(job),
            "signals": ", ".join(f"{count} unread {name!r}" for name, count in self.signals.items()),
            "meta": job.meta_json,
        }

    def _worker(self, id: str, *, whole: bool = False) -> str:
        """Who that was; a worker that ended in good order has left nothing but its id."""
        name = next((f"{row.host}, pid {row.pid}" for row in self.workers if str(row.id) == id), None)
        if name is None:
            return id
        return f"{name} ({id})" if whole else name

    def _write_errors(self, payload: bool) -> None:
        errors = self.job.errors
        write("errors")
        for (kind, message, phase), alike in groupby(errors, key=_like):
            run = list(alike)
            write(f"  {_attempts(run)} {moment(run[-1].at) or 'time unknown'}")
            write(f"    {kind}: {message}")
            if phase is not None:
                write(f"    in phase {phase!r}, place {run[-1].place}")
            if payload and run[-1].data is not None:
                write(f"    data {json.dumps(run[-1].data, ensure_ascii=False)}")
            if worker := run[-1].worker:
                write(f"    worker {self._worker(worker)}")
        if errors[-1].traceback:
            write("last traceback")
            for line in errors[-1].traceback.splitlines():
                sys.stdout.write(f"  {escaped(line)}\n")


def _like(error: AttemptError) -> tuple[str, str, str | None]:
    return error.error_class, error.message, error.phase


def _named(one: Dependency) -> str:
    """`load …7d2f0b11 (running)`: as much of the id as `jobs show` needs."""
    return f"{one.task or 'job'} {short_id(one.id)} ({one.state or 'deleted'})"


def _attempts(run: Sequence[AttemptError]) -> str:
    """`attempt 3,` or, of several that failed alike, `attempts 1 to 3, the last`.

    Numbers begin anew once the job was retried by hand, and stay as they are when its worker dies.
    """
    numbers = [error.attempt for error in run]
    if len(run) == 1:
        return f"attempt {numbers[0]},"
    if all(before < after for before, after in pairwise(numbers)):
        return f"attempts {numbers[0]} to {numbers[-1]}, the last"
    return f"{len(run)} failures, the last in attempt {numbers[-1]},"


def _planned(job: Job) -> str | None:
    """For which planned time of its schedule it was made, or that somebody triggered it."""
    if job.planned_at is None or job.origin is None:
        return None
    name = job.origin.removeprefix(PLANNED_BY)
    if job.id != planned_id(name, job.planned_at):
        return f"by hand: schedule {name} was triggered"
    return f"{moment(job.planned_at)} by schedule {name}"


def _progress(job: Job) -> str | None:
    """`42 %, page 42 of 100` and the data of the last report, or whatever else stands there."""
    report = job.progress
    if not isinstance(report, dict) or not isinstance(report.get("fraction"), int | float):
        return job.progress_json
    data = report.get("data")
    parts = (f"{report['fraction']:.0%}", report.get("message"), None if data is None else json.dumps(data))
    return ", ".join(str(part) for part in parts if part is not None)
