"""`jobs`: list, show and count them. Arguments and results are shown only on demand: they are the user's data."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import orjson

from jobqueue.base.job import AttemptError, Job, JobState
from jobqueue.cli.failures import ExitCode, tell
from jobqueue.cli.output import ago, duration, moment, write, write_facts, write_json, write_table
from jobqueue.cli.place import Place
from jobqueue.cli.safe_text import escaped
from jobqueue.store.lookup import Counts
from jobqueue.store.pool import Database
from jobqueue.tasks.jobs import Jobs

T = TypeVar("T")

_JSON_TEXTS = {"args_json": "args", "result_json": "result", "meta_json": "meta", "progress_json": "progress"}
_PAYLOAD = {"args", "result"}
_ERRORS_SHOWN = 5


def list_jobs(
    place: Place,
    *,
    states: Sequence[JobState] | None,
    queue: str | None,
    task: str | None,
    origin: str | None,
    after: UUID | None,
    limit: int,
    payload: bool,
    as_json: bool,
) -> ExitCode:
    """A page of jobs, newest first."""
    page = asyncio.run(
        _asked(
            place,
            lambda jobs: jobs.list(
                state=states or None, queue=queue, task=task, origin=origin, after=after, limit=limit
            ),
        )
    )
    if as_json:
        write_json([as_document(job, payload) for job in page])
        return ExitCode.OK
    headers = ["id", "state", "task", "queue", "try", "when"]
    rows = [[job.id, job.state, job.task, job.queue, job.attempt, ago(_latest_event(job))] for job in page]
    if payload:
        headers += ["args", "result"]
        rows = [[*row, job.args_json, job.result_json] for row, job in zip(rows, page, strict=True)]
    write_table(headers, rows, whole="id", right=("try",)) if page else tell("no such jobs")
    if len(page) == limit and sys.stdout.isatty():
        tell(f"more, perhaps: --after {page[-1].id}")
    return ExitCode.OK


def show_job(place: Place, id: UUID, *, payload: bool, as_json: bool) -> ExitCode:
    """One job with its errors. Raises JobNotFound."""
    job = asyncio.run(_asked(place, lambda jobs: jobs.get(id)))
    if as_json:
        write_json(as_document(job, payload))
        return ExitCode.OK
    write(f"job {job.id}  {job.state}" + (f" ({job.reason})" if job.reason else ""))
    write_facts(_facts(job) | (_payload_facts(job) if payload else {}))
    if job.errors:
        _write_errors(job.errors)
    return ExitCode.OK


def show_counts(place: Place, as_json: bool) -> ExitCode:
    """How many jobs there are, by queue and state."""
    counts = asyncio.run(_asked(place, Jobs.counts))
    if as_json:
        write_json(counts_document(counts))
    else:
        write_counts(counts)
    return ExitCode.OK


def counts_document(counts: Counts) -> dict[str, object]:
    """Counts as JSON values: sums, by queue, and for how many seconds the oldest ready job of a queue has waited."""
    return {
        "total": _by_name(counts.by_state),
        "queues": {queue: _by_name(held) for queue, held in counts.by_queue.items()},
        "oldest_ready": counts.oldest_ready,
    }


def write_counts(counts: Counts) -> None:
    """Counts as a table, with the sums if there is more than one queue."""
    if not counts.by_queue:
        tell("no jobs")
        return
    total = counts.by_state
    states = [state for state in JobState if state is not JobState.BLOCKED or total[state]]
    rows = [
        [queue, *(held.get(state, 0) for state in states), _waited(counts.oldest_ready.get(queue))]
        for queue, held in sorted(counts.by_queue.items())
    ]
    if len(rows) > 1:
        rows.append(
            ["all", *(total[state] for state in states), _waited(max(counts.oldest_ready.values(), default=None))]
        )
    write_table(["queue", *states, "oldest ready"], rows, right=[*states, "oldest ready"])


def as_document(job: Job, payload: bool) -> dict[str, object]:
    """A job as JSON values, its own JSON texts exactly as they are stored."""
    document: dict[str, object] = {}
    for field in fields(Job):
        name, value = _JSON_TEXTS.get(field.name, field.name), getattr(job, field.name)
        if field.name in _JSON_TEXTS:
            value = None if value is None else orjson.Fragment(value)
        document[name] = value
    document["errors"] = [_error_document(error, payload) for error in job.errors]
    return {name: value for name, value in document.items() if payload or name not in _PAYLOAD}


async def _asked(place: Place, question: Callable[[Jobs], Awaitable[T]]) -> T:
    async with place.database() as (_, database):
        await database.check()

        async def there() -> Database:
            return database

        return await question(Jobs(there))


def _error_document(error: AttemptError, payload: bool) -> dict[str, object]:
    document: dict[str, object] = {
        "attempt": error.attempt,
        "at": error.at,
        "class": error.error_class,
        "message": error.message,
        "traceback": error.traceback,
        "worker": error.worker,
    }
    return document | ({"data": error.data} if payload else {})


def _latest_event(job: Job) -> datetime:
    if job.state is JobState.RUNNING:
        return job.claimed_at or job.due_at
    return job.finished_at or job.due_at


def _by_name(held: Mapping[JobState, int]) -> dict[str, int]:
    return {str(state): jobs for state, jobs in held.items()}


def _waited(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _facts(job: Job) -> dict[str, object]:
    return {
        "task": job.task,
        "queue": f"{job.queue}, priority {job.priority}",
        "attempt": f"{job.attempt} of {job.max_attempts}",
        "crashes": job.crashes or None,
        "lost": job.lost or None,
        "created": moment(job.created_at),
        "due": moment(job.due_at),
        "claimed": moment(job.claimed_at),
        "finished": moment(job.finished_at),
        "timeout": None if job.timeout is None else f"{job.timeout:g} s",
        "deadline": moment(job.deadline),
        "expires": moment(job.expires_at),
        "origin": job.origin,
        "worker": job.worker_id,
        "lease until": moment(job.lease_until),
        "key": job.key,
        "bundle": job.bundle_id,
        "progress": job.progress_json,
        "meta": job.meta_json,
    }


def _payload_facts(job: Job) -> dict[str, object]:
    return {"args": job.args_json, "result": job.result_json}


def _write_errors(errors: tuple[AttemptError, ...]) -> None:
    shown = errors[-_ERRORS_SHOWN:]
    write(f"errors, the last {len(shown)} of {len(errors)}" if len(errors) > len(shown) else "errors")
    for error in shown:
        write(f"  attempt {error.attempt}, {ago(error.at) or 'time unknown'}: {error.error_class}: {error.message}")
    if errors[-1].traceback:
        write("last traceback")
        for line in errors[-1].traceback.splitlines():
            sys.stdout.write(f"  {escaped(line)}\n")
