"""`jobs`: list, show and count them. Arguments and results are shown only on demand: they are the user's data."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import anyio
import orjson

from jobqueue.base.errors import JobNotFound
from jobqueue.base.flows.event import event_document
from jobqueue.base.job import AttemptError, Job, JobState
from jobqueue.base.looking.search import Inside
from jobqueue.cli.jobs.shortened import whole
from jobqueue.cli.jobs.story import write_story
from jobqueue.cli.jobs.timeline import phase_document
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, as_usage, tell
from jobqueue.cli.terminal.outages import tell_of_outages
from jobqueue.cli.terminal.output import write, write_json, write_table
from jobqueue.store.looking.lookup import find_job
from jobqueue.store.looking.overview import Counts
from jobqueue.tasks.acting.filters import check_filters
from jobqueue.tasks.jobs import Jobs
from jobqueue.tasks.sending.waiting import Waiters
from jobqueue.telling.lines import waits_at
from jobqueue.telling.reading import read_story
from jobqueue.telling.spans import ago, duration, moment, number
from jobqueue.telling.story import Story

_RENAMED = {
    "args_json": "args", "result_json": "result", "meta_json": "meta", "progress_json": "progress",
    "waits_for": "gate",
}  # fmt: skip
_COLUMNS = ["id", "state", "task", "queue", "try", "when", "why"]
_FAILURE_LENGTH = 60
_PAYLOAD = {"args", "result"}


class WaitedInVain(Exception):
    """Raised when a job has not ended in time."""


def list_jobs(
    place: Place,
    *,
    states: Sequence[JobState] | None,
    queue: str | None,
    task: str | None,
    origin: str | None,
    bundle: UUID | None,
    inside: Mapping[str, Any],
    after: UUID | None,
    limit: int,
    payload: bool,
    as_json: bool,
) -> ExitCode:
    """A page of jobs, newest first."""
    with as_usage():
        check_filters(queue=queue, task=task, origin=origin)
        Inside(**inside)
    page = asyncio.run(
        place.ask(
            Jobs,
            lambda jobs: jobs.list(
                state=states or None,
                queue=queue,
                task=task,
                origin=origin,
                bundle=bundle,
                **inside,
                after=after,
                limit=limit,
                payload=payload,
            ),
        )
    )
    if as_json:
        write_json([as_document(job, payload) for job in page])
        return ExitCode.OK
    columns = [*_COLUMNS, "args", "result"] if payload else _COLUMNS
    if page:
        rows = [[*_cells(job), job.args_json, job.result_json][: len(columns)] for job in page]
        write_table(columns, rows, right=("try",), apart=("task", "queue", "why", "args", "result"))
    elif page.next is None:
        tell("no such jobs")
    if page.next is not None and (len(page) < limit or sys.stdout.isatty()):
        back = f"looked at {number(page.searched, about=False)} jobs, back to {moment(page.reached)}; go on with"
        tell(f"{'more, perhaps' if len(page) == limit else back}: --after {page.next}")
    return ExitCode.OK


def show_job(place: Place, part: str, *, payload: bool, as_json: bool) -> ExitCode:
    """The whole story of one job, by its id or a part of it. Raises JobNotFound."""
    (id,) = whole(place, [part])
    story = asyncio.run(_told(place, id, payload))
    if as_json:
        events = [event_document(event) for event in story.events]
        phases = {"phases": [phase_document(phase, payload) for phase in story.phases], "signals": story.signals}
        waits = {"waits_for": asdict(story.waits), "line": None if story.line is None else asdict(story.line)}
        write_json(as_document(story.job, payload) | waits | phases | {"events": events})
    else:
        write_story(story, payload)
    return ExitCode.OK


def wait_for_job(place: Place, part: str, limit: float | None, *, payload: bool, as_json: bool) -> ExitCode:
    """Wait for its end, at most `limit` seconds. Raises JobNotFound."""
    tell_of_outages()
    (id,) = whole(place, [part])
    try:
        job = asyncio.run(_ended(place, id, limit))
    except WaitedInVain:
        tell(f"job {id} has not ended within {limit:g} s")
        return ExitCode.TIMED_OUT
    if as_json:
        write_json(as_document(job, payload))
    else:
        write(f"{job.state}" + (f" ({job.reason})" if job.reason else ""))
        if payload and job.result_json is not None:
            write(job.result_json)
        if job.error is not None and job.state is not JobState.COMPLETED:
            tell(f"{job.error.error_class}: {job.error.message}")
    return ExitCode.OK if job.state is JobState.COMPLETED else ExitCode.ERROR


def show_counts(place: Place, as_json: bool) -> ExitCode:
    """How many jobs there are, by queue and state."""
    counts = asyncio.run(place.ask(Jobs, Jobs.counts))
    if as_json:
        write_json(counts_document(counts))
    else:
        write_counts(counts)
    return ExitCode.OK


def counts_document(counts: Counts) -> dict[str, object]:
    """Counts as JSON values: sums, by queue, and for how many seconds the oldest ready job of a queue has waited.

    `estimated` names the numbers that are only about right.
    """
    estimated: dict[str, list[str]] = {}
    for queue, state in sorted(counts.estimated):
        estimated.setdefault(queue, []).append(str(state))
    return {
        "total": _by_name(counts.by_state),
        "queues": {queue: _by_name(held) for queue, held in counts.by_queue.items()},
        "estimated": estimated,
        "oldest_ready": counts.oldest_ready,
    }


def write_counts(counts: Counts) -> None:
    """Counts as a table, with the sums if there is more than one queue; ~ stands before what is estimated."""
    if not counts.by_queue:
        tell("no jobs")
        return
    total = counts.by_state
    states = [state for state in JobState if state is not JobState.BLOCKED or total[state]]
    about = {state for _, state in counts.estimated}
    rows = [
        [
            queue,
            *(number(held.get(state, 0), (queue, state) in counts.estimated) for state in states),
            _waited(counts.oldest_ready.get(queue)),
        ]
        for queue, held in sorted(counts.by_queue.items())
    ]
    if len(rows) > 1:
        sums = [number(total[state], state in about) for state in states]
        rows.append(["all", *sums, _waited(max(counts.oldest_ready.values(), default=None))])
    write_table(["queue", *states, "oldest ready"], rows, right=[*states, "oldest ready"], apart=("queue",))


def as_document(job: Job, payload: bool) -> dict[str, object]:
    """A job as JSON values, its own JSON texts exactly as they are stored."""
    document: dict[str, object] = {}
    for field in fields(Job):
        name, value = _RENAMED.get(field.name, field.name), getattr(job, field.name)
        if field.name.endswith("_json"):
            value = None if value is None else orjson.Fragment(value)
        document[name] = value
    document["planned_at"] = job.planned_at
    document["errors"] = [_error_document(error, payload) for error in job.errors]
    return {name: value for name, value in document.items() if payload or name not in _PAYLOAD}


def _error_document(error: AttemptError, payload: bool) -> dict[str, object]:
    document: dict[str, object] = {
        "attempt": error.attempt,
        "began": error.began,
        "at": error.at,
        "class": error.error_class,
        "message": error.message,
        "traceback": error.traceback,
        "worker": error.worker,
        "phase": error.phase,
        "place": error.place,
        "code_place": error.code_place,
    }
    return document | ({"data": error.data} if payload else {})


async def _told(place: Place, id: UUID, payload: bool) -> Story:
    async with place.database() as (_, database):
        await database.check()
        story = await read_story(database, id, payload=payload)
    if story is None:
        raise JobNotFound(id)
    return story


async def _ended(place: Place, id: UUID, limit: float | None) -> Job:
    async with place.resolved_dsn() as dsn, place.reached(dsn, connections=2) as database:  # one of them listens
        await database.check()
        waiters = Waiters(database, listens=place.settings.listens)
        try:
            with anyio.move_on_after(limit):
                return await waiters.final(id)
        finally:
            await waiters.close()
        job = await find_job(database, id)  # it may have ended while the first look was on its way
        if job is not None and job.state.final:
            return job
    raise WaitedInVain


def _cells(job: Job) -> list[object]:
    return [
        job.id,
        job.state,
        job.task,
        job.queue,
        job.attempt,
        ago(_latest_event(job)),
        waits_at(job) or _last_failure(job),
    ]


def _last_failure(job: Job) -> str:
    """Why a job is dead, or how its last attempt failed, on one short line."""
    error, why = job.error, f"{job.reason}: " if job.state is JobState.DEAD and job.reason else ""
    if error is None or job.state in (JobState.COMPLETED, JobState.CANCELLED):
        return why.removesuffix(": ")
    text = f"{why}{error.error_class.rpartition('.')[2]}: {error.message.partition(chr(10))[0]}"
    return text if len(text) <= _FAILURE_LENGTH else f"{text[: _FAILURE_LENGTH - 1]}…"


def _latest_event(job: Job) -> datetime:
    if job.state is JobState.RUNNING:
        return job.claimed_at or job.due_at
    return job.finished_at or job.due_at


def _by_name(held: Mapping[JobState, int]) -> dict[str, int]:
    return {str(state): jobs for state, jobs in held.items()}


def _waited(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
