"""The whole story of one job: what is the matter with it now, its facts, and how its attempts failed."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby, pairwise

from jobqueue.base.flows.limit import say_gate
from jobqueue.base.job import AttemptError, Job
from jobqueue.cli.jobs.timeline import write_phases
from jobqueue.cli.terminal.event_words import line_of
from jobqueue.cli.terminal.output import write, write_facts
from jobqueue.cli.terminal.safe_text import escaped
from jobqueue.telling.spans import length, moment
from jobqueue.telling.story import Story, said_of_plan


def write_story(story: Story, payload: bool, now: datetime | None = None) -> None:
    """On one screen, if it has not failed in too many ways."""
    job, now = story.job, now or datetime.now(UTC)
    write(f"job {job.id}  {job.state}" + (f" ({job.reason})" if job.reason else ""))
    for sentence in story.sentences(now):
        write(f"  {sentence}")
    write_facts(_facts(story) | ({"args": job.args_json, "result": job.result_json} if payload else {}))
    if story.phases:
        write_phases(story.phases, now, payload)
    if story.events:
        write("events")
        for event in story.events:
            write(f"  {line_of(event)}")
    if job.errors:
        _write_errors(story, payload)


def _facts(story: Story) -> dict[str, object]:
    job = story.job
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
        "planned": said_of_plan(job),
        "worker": None if job.worker_id is None else story.worker(str(job.worker_id), whole=True),
        "lease until": moment(job.lease_until),
        "limits": ", ".join(map(say_gate, job.gates)),
        "key": None if job.key is None else job.key.removeprefix(f"{job.task}\n"),  # as --key takes it
        "bundle": job.bundle_id,
        "progress": _progress(job),
        "signals": ", ".join(f"{count} unread {name!r}" for name, count in story.signals.items()),
        "meta": job.meta_json,
    }


def _write_errors(story: Story, payload: bool) -> None:
    errors = story.job.errors
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
            write(f"    worker {story.worker(worker)}")
    if errors[-1].traceback:
        write("last traceback")
        for line in errors[-1].traceback.splitlines():
            sys.stdout.write(f"  {escaped(line)}\n")


def _like(error: AttemptError) -> tuple[str, str, str | None]:
    return error.error_class, error.message, error.phase


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


def _progress(job: Job) -> str | None:
    """`42 %, page 42 of 100` and the data of the last report, or whatever else stands there."""
    report = job.progress
    if not isinstance(report, dict) or not isinstance(report.get("fraction"), int | float):
        return job.progress_json
    data = report.get("data")
    parts = (f"{report['fraction']:.0%}", report.get("message"), None if data is None else json.dumps(data))
    return ", ".join(str(part) for part in parts if part is not None)
