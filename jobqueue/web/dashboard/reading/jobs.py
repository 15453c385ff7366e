"""Lists of jobs: a page, newest first, and how far it has searched."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from jobqueue.base.flows.limit import without_key
from jobqueue.base.job import Job, JobState
from jobqueue.store.looking.listing import JobPage
from jobqueue.telling.lines import waits_at
from jobqueue.telling.story import reason_told
from jobqueue.web.dashboard.reading.filters import check_may_search, queues_of
from jobqueue.web.dashboard.reading.view import Model, View

SIZE = 50
_MOST = 100
_ROOM = 200
"""Jobs that are read at a time where those of other queues are left out."""
QUICK, _PATIENT = 0.1, 3.0
"""Seconds after which a page ends with what it has: a first one, so that each opens at once, and one that goes on."""
_RENEWED = 2.0
"""Seconds for which a first page that renews itself serves all: browsers ask each three."""


class JobRow(Model):
    """A job in a list."""

    id: UUID
    task: str
    queue: str
    state: JobState
    priority: int
    attempt: int
    max_attempts: int
    created_at: datetime
    due_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None
    cancel_asked: datetime | None
    origin: str | None
    key: str | None
    bundle_id: UUID | None
    reason: str | None
    """Why it ended. A task's own words are None without `payloads`."""
    error: str | None
    """The class of the last error."""
    waits: str
    """At which limit it waits, in words; empty if it waits at none."""


class JobList(Model):
    """A page of jobs, the newest first."""

    jobs: list[JobRow]
    next: UUID | None
    """`before=` this goes on; None once everything was searched."""
    reached: datetime | None
    """How far back it has searched; None if that is everything."""
    searched: int
    """At least so many jobs were looked at."""
    at: datetime | None
    """When they were read, by the database's clock; None without any."""


async def read_jobs(
    view: View, which: Mapping[str, Any], *, before: UUID | None = None, limit: int = SIZE, renews: bool = False
) -> JobList:
    """A page of the jobs for which all of `which` holds, see `Filters.which`.

    It soon ends with what it has; one that goes on `before` a job searches for longer. `renews`: a page that shows it
    already asks again: then one reading is for all. Raises MayNotSearch, InvalidOption, DatabaseError.
    """
    check_may_search(view.access, which)
    limit = max(1, min(limit, _MOST))
    queues = queues_of(view.access, which)

    async def read() -> JobPage:
        return await _page(view, which, queues, before, limit)

    if renews and before is None:
        key = "jobs", repr(sorted(which.items(), key=str)), None if queues is None else tuple(queues), limit
        page = await view.site.looker.renewed(key, _RENEWED, read)
    else:
        page = await read()
    return JobList.of(
        page,
        jobs=[row_of(view, job) for job in page],
        at=max((job.read_at for job in page if job.read_at is not None), default=None),
    )


async def _page(
    view: View, which: Mapping[str, Any], queues: Sequence[str] | None, before: UUID | None, limit: int
) -> JobPage:
    async with searching(view, goes_on=before is not None) as patience:
        if queues is None or len(queues) == 1:
            meant = dict(which) if queues is None else {**which, "queue": queues[0]}
            return await view.jobs.list(**meant, after=before, limit=limit, patience=patience)
        return await _of_some_queues(view, which, before, limit, patience) if queues else JobPage()


@asynccontextmanager
async def searching(view: View, *, goes_on: bool) -> AsyncIterator[float]:
    """For so many seconds a page of a list is searched for; one that goes on waits for its turn."""
    if not goes_on:
        yield QUICK
        return
    async with view.site.looker.turn():
        yield _PATIENT


async def _of_some_queues(
    view: View, which: Mapping[str, Any], before: UUID | None, limit: int, patience: float
) -> JobPage:
    """The store can look for one queue: all are read, and those of others left out, for as long as patience lasts."""
    kept, give_up = JobPage(), time.monotonic() + patience
    while (left := give_up - time.monotonic()) > 0:
        page = await view.jobs.list(**which, after=before, limit=_ROOM, patience=left)
        kept.searched += page.searched
        for job in page:
            if view.access.sees(job.queue):
                kept.append(job)
            if len(kept) == limit:
                kept.next, kept.reached = job.id, job.created_at
                return kept
        kept.next, kept.reached = page.next, page.reached
        if page.next is None:
            break
        before = page.next
    return kept


def row_of(view: View, job: Job) -> JobRow:
    """A job in a list, as this user may see it."""
    gate = job.waits_for
    return JobRow.of(
        job,
        key=None if job.key is None else job.key.removeprefix(f"{job.task}\n"),
        reason=reason_told(job) if not view.access.payloads else job.reason,
        error=None if job.error is None else job.error.error_class,
        waits=waits_at(job if view.access.payloads or gate is None else replace(job, waits_for=without_key(gate))),
    )
