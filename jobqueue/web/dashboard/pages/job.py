"""One job."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio.to_thread
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.flows.phase import PhaseState
from jobqueue.base.job import JobState
from jobqueue.tasks.options import check_id
from jobqueue.web.dashboard.acting.form import read_form
from jobqueue.web.dashboard.pages.sheet import led_to, sheet, view_of
from jobqueue.web.dashboard.reading.job import PARTS, AttemptRow, JobSeen, read_job, read_payload
from jobqueue.web.dashboard.showing.shown import ROOM, shown
from jobqueue.web.dashboard.showing.timeline import Run, Step, Timeline, timeline
from jobqueue.web.dashboard.showing.tracebacks import LINES, Line, lines_of
from jobqueue.web.dashboard.showing.words import span
from jobqueue.web.dashboard.site import Site

_TITLES = {
    "args": "Arguments", "result": "Result", "meta": "Meta", "progress": "Progress", "data": "Data of the last error",
}  # fmt: skip
_STEPS = 30
_EVENTS = 30
_LINES = 200
"""Of the traceback of an attempt before the last: there are 25 of them, and all are drawn at once."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt as it is drawn."""

    row: AttemptRow
    lines: Sequence[Line]
    length: str


@dataclass(frozen=True, slots=True)
class _Part:
    """Something that is in a job: hidden, or shown."""

    name: str
    title: str
    size: int
    html: Markup | None
    whole: bool


async def job(site: Site, request: Request) -> Response:
    """How it stands and why, its attempts, facts, who did what. What is in it is hidden until somebody asks."""
    seen = await read_job(view_of(site, request), check_id(request.path_params["id"]))
    return _drawn(site, request, seen, [_Part(name, _TITLES[name], size, None, True) for name, size in _sizes(seen)])


async def payload(site: Site, request: Request) -> Response:
    """The same page with parts of what is in the job. Each look is in the audit, and so it is a POST."""
    id = check_id(request.path_params["id"])
    if request.method != "POST":  # somebody has opened the address of an earlier answer
        return led_to(request, f"/jobs/{id}")
    form = await read_form(request)
    view, whole, names = view_of(site, request), form.get("whole"), list(dict.fromkeys(form.getlist("show")))
    seen = await read_job(view, id)
    texts = (await read_payload(view, id, names)).parts
    parts = [await _part(name, size, texts.get(name), whole == name) for name, size in _sizes(seen)]
    return _drawn(site, request, seen, parts)


def _sizes(seen: JobSeen) -> list[tuple[str, int]]:
    return [(name, seen.sizes[name]) for name in PARTS if name in seen.sizes]


async def _part(name: str, size: int, text: str | None, whole: bool) -> _Part:
    if text is None:
        return _Part(name, _TITLES[name], size, None, True)
    room = None if whole else ROOM
    drawn = shown(text, room) if len(text) <= ROOM else await anyio.to_thread.run_sync(shown, text, room)
    return _Part(name, _TITLES[name], size, drawn.html, drawn.whole)


def _drawn(site: Site, request: Request, seen: JobSeen, parts: list[_Part]) -> Response:
    return sheet(
        site,
        request,
        "job.html",
        active="jobs",
        title=f"{seen.job.task} {seen.job.id}",
        seen=seen,
        job=seen.job,
        said=_said(seen),
        drawn=_timeline(seen),
        attempts=[_attempt(row, _LINES if place else LINES) for place, row in enumerate(seen.attempts)],
        events=seen.events[:_EVENTS],
        parts=parts,
        shown=[part.name for part in parts if part.html is not None],
        room=ROOM,
        ended=seen.job.state.final,
        waits=not seen.job.state.final and seen.job.state is not JobState.RUNNING,
    )


def _said(seen: JobSeen) -> list[str]:
    """How it stands, on one line."""
    job = seen.job
    said = [*seen.sentences, f"attempt {job.attempt} of {job.max_attempts}" if job.attempt else "no attempt yet"]
    if job.finished_at is not None:
        said.append(f"ended {span((seen.at - job.finished_at).total_seconds())} ago")
    return said


def _attempt(row: AttemptRow, lines: int) -> _Attempt:
    length = "" if row.began is None or row.at is None else span((row.at - row.began).total_seconds())
    return _Attempt(row, lines_of(row.traceback or "", lines), length)


def _timeline(seen: JobSeen) -> Timeline:
    job = seen.job
    steps = [
        Step(each.name, each.began_at, each.ended_at, each.kind != "phase")
        for each in seen.phases[-_STEPS:]
        if each.ended_at is not None or each.state in (PhaseState.RUNNING, PhaseState.SLEEPING, PhaseState.WAITING)
    ]
    return timeline(_runs(seen), steps, job.created_at, job.finished_at or seen.at)


def _runs(seen: JobSeen) -> list[Run]:
    """The attempts in order: those that failed, and then how it ended, runs or waits."""
    job, runs = seen.job, list[Run]()
    end, number = job.created_at, 0
    for row in reversed(seen.attempts):
        if row.at is None:
            continue
        known = row.attempt <= number + 1  # of many failures those in the middle are not kept
        runs.append(Run(f"attempt {row.attempt}", end if known else None, row.began, row.at, "failed"))
        end, number = row.at, row.attempt
    runs_now = job.state is JobState.RUNNING
    if job.claimed_at is not None and job.claimed_at >= end and (runs_now or job.finished_at is not None):
        how = "runs" if runs_now else str(job.state)
        runs.append(Run(f"attempt {job.attempt}", end, job.claimed_at, job.finished_at, how))
    elif job.finished_at is None or job.finished_at > end:
        runs.append(Run("waits" if job.finished_at is None else "waited", end, None, job.finished_at, str(job.state)))
    return runs
