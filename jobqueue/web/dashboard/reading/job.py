"""One job: how it stands and why, its attempts, its phases, who did what. And what is in it, for who may see that."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import anyio.to_thread

from jobqueue.base.acting.audit import AuditEntry
from jobqueue.base.errors import InvalidOption, JobNotFound
from jobqueue.base.flows.limit import say_gate, without_key
from jobqueue.base.flows.phase import PhaseState
from jobqueue.base.job import AttemptError, Job, JobState
from jobqueue.base.looking.search import fingerprint_of
from jobqueue.base.looking.stuck import WAITS
from jobqueue.store.acting.audit import list_audit
from jobqueue.store.connection.executor import Reader
from jobqueue.store.looking.overview import Waits, stuck_now
from jobqueue.telling.reading import read_story
from jobqueue.telling.story import Story, said_of_plan
from jobqueue.web.dashboard.access.access import NotAllowed
from jobqueue.web.dashboard.reading.jobs import JobRow, row_of
from jobqueue.web.dashboard.reading.view import Model, View
from jobqueue.web.dashboard.showing.redacting import redacted, redacted_text

PARTS = ("args", "result", "meta", "progress", "data")
"""What is in a job: `data` is what the last error carried."""
_PHASES = 200
_DID = 20
_AT_ONCE = 64 << 10
"""Characters that are redacted on the loop; more in a thread."""


class MayNotSee(NotAllowed):
    """Raised for a look at what is in a job by somebody who may not see that."""

    def __init__(self) -> None:
        super().__init__("you may not see arguments, results and messages: that needs payloads=True")


class AttemptRow(Model):
    """An attempt that failed."""

    attempt: int
    error: str
    """The class of its error."""
    message: str | None
    """None without `payloads`."""
    traceback: str | None
    """None without `payloads`: its last lines are the message."""
    place: str | None
    """Where in the user's code it failed, `shop/billing.py:88 charge`; None if that is not known."""
    began: datetime | None
    at: datetime | None
    worker: str | None
    phase: str | None


class PhaseRow(Model):
    """A phase, a sleep, or a wait for a signal."""

    name: str
    kind: str
    state: PhaseState
    attempt: int
    began_at: datetime
    ended_at: datetime | None
    wake_at: datetime | None
    signal: str | None
    result_bytes: int | None


class NeedRow(Model):
    """A job that this one waits for, or waited for in vain."""

    id: UUID
    task: str | None
    state: JobState | None
    failed: bool


class EventRow(Model):
    """What the log says of it."""

    at: datetime
    type: str
    attempt: int
    error: str | None


class DidRow(Model):
    """What somebody did to it."""

    id: int
    at: datetime
    who: str
    via: str | None
    action: str
    matched: int | None
    """Jobs that were meant with it, itself among them. None for who sees some queues only: they may be in others."""
    changed: int | None


class JobSeen(Model):
    """One job, as this user may see it."""

    job: JobRow
    at: datetime
    """When it was read, by the database's clock."""
    sentences: list[str]
    """How it stands, and what keeps it from running."""
    attempts: list[AttemptRow]
    """Those that failed and are remembered, the newest first: of many the first five and the latest twenty."""
    phases: list[PhaseRow]
    needs: list[NeedRow]
    events: list[EventRow]
    did: list[DidRow]
    signals: dict[str, int]
    """How many it has not read, by name."""
    limits: list[str]
    planned: str | None
    crashes: int
    lost: int
    worker_id: UUID | None
    worker: str | None
    stuck: bool
    """Its handler blocks its worker, or was asked to end and goes on: the worker's page has the stack."""
    lease_until: datetime | None
    timeout: float | None
    deadline: datetime | None
    expires_at: datetime | None
    fraction: float | None
    """How far it says it is, 0 to 1."""
    message: str | None
    """What it says of that; None without `payloads`."""
    fingerprint: str | None
    """Of failures like its last one; None if it is not dead."""
    sizes: dict[str, int]
    """Of what is in it: the characters of each part that there is."""


class Payload(Model):
    """What is in a job, each part as JSON text with what the site takes out taken out."""

    parts: dict[str, str]


async def read_job(view: View, id: UUID) -> JobSeen:
    """This job. Raises JobNotFound, also for one in a queue that may not be seen, and DatabaseError."""
    async with view.site.session() as session:
        story = await _story(view, session, id)
        did = await list_audit(session, job=id, limit=_DID)
        stuck = await stuck_now(session) if story.job.running else []
    job = story.job
    report = _report(job)
    return JobSeen.of(
        job,
        job=row_of(view, job),
        at=job.read_at or datetime.now(UTC),
        sentences=list(story.sentences(job.read_at or datetime.now(UTC))),
        attempts=[_attempt(view, story, error) for error in reversed(job.errors)],
        phases=[PhaseRow.of(phase) for phase in story.phases[-_PHASES:]],
        needs=[NeedRow.of(one) for one in story.waits.first],
        events=[EventRow.of(event) for event in reversed(story.events)],
        did=[_did(view, entry) for entry in did],
        signals=dict(story.signals),
        limits=[say_gate(gate if view.access.payloads else without_key(gate)) for gate in job.gates],
        planned=said_of_plan(job),
        worker=None if job.worker_id is None else story.worker(str(job.worker_id)),
        stuck=any(each.job_id == id or (each.how == WAITS and each.worker_id == job.worker_id) for each in stuck),
        fraction=_fraction(report),
        fingerprint=_fingerprint(job),
        message=_message(view, job, report),
        sizes={name: len(text) for name, text in _parts(job).items()},
    )


async def read_payload(view: View, id: UUID, names: Sequence[str] = PARTS) -> Payload:
    """What is in this job. The look is in the audit before anything is shown.

    Raises MayNotSee, JobNotFound, InvalidOption, DatabaseError.
    """
    if not view.access.payloads:
        raise MayNotSee
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in PARTS]:
        raise InvalidOption("show", f"must be of {', '.join(PARTS)}, not {unknown[0][:40]!r}")
    job = await view.jobs.get(id)
    if not view.access.sees(job.queue):
        raise JobNotFound(id)
    await view.site.app.audit.note(view.by, "job.look", jobs=[id], parts=", ".join(names))
    parts = _parts(job)

    def shown() -> dict[str, str]:
        return {name: redacted(job, view.site.redact, name, parts[name]) for name in names if name in parts}

    if view.site.redact is None or sum(map(len, parts.values())) <= _AT_ONCE:
        return Payload(parts=shown())
    return Payload(parts=await anyio.to_thread.run_sync(shown))  # each value is looked at: that takes its time


async def _story(view: View, reader: Reader, id: UUID) -> Story:
    story = await read_story(reader, id, payload=False)
    if story is None or not view.access.sees(story.job.queue):
        raise JobNotFound(id)
    if story.line is not None and not view.access.payloads:
        story = replace(story, line=replace(story.line, gate=without_key(story.line.gate)))
    if view.access.queues is not None:  # the jobs that it waits for may be in other queues
        story = replace(story, waits=Waits(story.waits.unmet, story.waits.total))
    return story


def _fingerprint(job: Job) -> str | None:
    if job.error is None or job.state is JobState.COMPLETED:
        return None
    return fingerprint_of(job.task, job.error.error_class, job.error.code_place)


def _parts(job: Job) -> dict[str, str]:
    texts = {
        "args": job.args_json,
        "result": job.result_json,
        "meta": job.meta_json,
        "progress": job.progress_json,
        "data": None if job.error is None or job.error.data is None else json.dumps(job.error.data),
    }
    return {name: text for name, text in texts.items() if text is not None}


def _did(view: View, entry: AuditEntry) -> DidRow:
    return DidRow.of(entry) if view.access.queues is None else DidRow.of(entry, matched=None, changed=None)


def _attempt(view: View, story: Story, error: AttemptError) -> AttemptRow:
    message, trace = None, None
    if view.access.payloads:
        message = redacted_text(story.job, view.site.redact, "error.message", error.message)
        if message == error.message:  # else it would stand in the last lines of the traceback
            trace = redacted_text(story.job, view.site.redact, "error.traceback", error.traceback)
    return AttemptRow.of(
        error,
        error=error.error_class,
        message=message,
        traceback=trace or None,
        place=error.code_place,
        began=error.began or _began(story.job, error),
        worker=None if error.worker is None else story.worker(str(error.worker)),
        phase=None if error.phase is None else str(error.phase),
    )


def _began(job: Job, error: AttemptError) -> datetime | None:
    """When the last attempt began, of which its error does not say so yet."""
    waits_or_ended = error is job.error and job.state is not JobState.RUNNING
    if not waits_or_ended or job.claimed_at is None or error.at is None or job.claimed_at > error.at:
        return None
    return job.claimed_at


def _report(job: Job) -> Mapping[str, Any]:
    """The last progress report; plain SQL may have written anything."""
    try:
        report = job.progress
    except (ValueError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def _fraction(report: Mapping[str, Any]) -> float | None:
    fraction = report.get("fraction")
    if not isinstance(fraction, int | float) or isinstance(fraction, bool):
        return None
    return float(min(max(fraction, 0), 1))


def _message(view: View, job: Job, report: Mapping[str, Any]) -> str | None:
    message = report.get("message")
    if not view.access.payloads or not isinstance(message, str):
        return None
    return redacted_text(job, view.site.redact, "progress.message", message)
