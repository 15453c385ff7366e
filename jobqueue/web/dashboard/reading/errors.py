"""The latest dead jobs in groups of those that failed alike; and one group with a job of it."""

from datetime import datetime
from uuid import UUID

from jobqueue.base.errors import JobNotFound
from jobqueue.base.job import JobState
from jobqueue.store.connection.session import Session
from jobqueue.store.looking.errors import ErrorGroup, ErrorGroups, error_groups
from jobqueue.telling.story import REASONS
from jobqueue.web.dashboard.reading.job import AttemptRow, read_job
from jobqueue.web.dashboard.reading.jobs import JobList, read_jobs
from jobqueue.web.dashboard.reading.view import Model, View

_KEPT = 10.0
"""Seconds for which one reading serves all."""
_WITHIN, _PATIENCE = 2.0, 1.0
_READ = 200
"""Groups that are read; those of a user, of a queue, are among them."""
_JOBS = 10


class ErrorRow(Model):
    """Dead jobs of one task that failed alike."""

    fingerprint: str
    task: str
    error: str
    """The class of the error; empty if they ended without any."""
    place: str | None
    """The function in which the latest of them failed, `shop/billing.py:88 in charge`; None if that is not known."""
    count: int
    share: float
    """Of the dead jobs of the window that are meant."""
    first: datetime
    """When the first of them ended, in the window."""
    last: datetime
    queues: list[str]
    reasons: list[str]
    """Why they ended. A task's own words are left out without `payloads`."""
    sample: UUID
    trend: list[int]
    """How many ended in each twentieth of the window, the oldest first."""


class Errors(Model):
    """The groups of the window, the largest first."""

    groups: list[ErrorRow]
    jobs: int
    """Dead jobs of the window that are meant: of these queues, of this task."""
    since: datetime | None
    """When the oldest dead job of the window ended; None if there is none."""
    at: datetime
    """When it was read, by the database's clock."""
    whole: bool
    """There are no older dead jobs."""


class ErrorSeen(Model):
    """One group."""

    group: ErrorRow
    since: datetime | None
    at: datetime
    whole: bool
    attempt: AttemptRow | None
    """The last attempt of the sample; None if it is not there any more, or ended without an error."""
    jobs: JobList
    """The newest of its jobs, those that are found soon."""


async def read_errors(view: View, *, queue: str | None = None, task: str | None = None) -> Errors:
    """The groups of the latest dead jobs; of a queue, of a task. Raises DatabaseError."""
    read, meant = await _read(view), _meant(view, queue)
    if meant is not None:
        read = await _within(view, read, meant)
    groups = [group for group in read if task in (None, group.task)]
    everything = meant is None and task is None
    jobs = read.looked if everything else sum(group.count for group in groups)
    rows = [_row(view, group, jobs) for group in sorted(groups, key=lambda group: (-group.count, group.fingerprint))]
    return Errors(groups=rows, jobs=jobs, since=read.since, at=read.read_at, whole=read.whole)


async def read_error(view: View, fingerprint: str) -> ErrorSeen | None:
    """One group; None if nothing in the window has failed like this. Raises DatabaseError."""
    seen = await read_errors(view)
    group = next((each for each in seen.groups if each.fingerprint == fingerprint), None)
    if group is None:
        return None
    which = {"fingerprint": fingerprint, "task": group.task, "state": [JobState.DEAD]}
    return ErrorSeen(
        group=group, since=seen.since, at=seen.at, whole=seen.whole, attempt=await _attempt(view, group.sample),
        jobs=await read_jobs(view, which, limit=_JOBS),
    )  # fmt: skip


async def _attempt(view: View, sample: UUID) -> AttemptRow | None:
    try:
        attempts = (await read_job(view, sample)).attempts
    except JobNotFound:
        return None
    return attempts[0] if attempts else None


async def _read(view: View, queues: frozenset[str] | None = None) -> ErrorGroups:
    async def read(session: Session) -> ErrorGroups:
        return await error_groups(session, queues=queues, limit=_READ, patience=_PATIENCE)

    return await view.site.looker.kept(("errors", queues), _KEPT, read, within=_WITHIN)


def _meant(view: View, queue: str | None) -> frozenset[str] | None:
    """The queues that are meant, of those that may be seen; None for all there are."""
    if view.access.queues is None:
        return None if queue is None else frozenset({queue})
    return frozenset(each for each in view.access.queues if queue in (None, each))


async def _within(view: View, whole: ErrorGroups, meant: frozenset[str]) -> ErrorGroups:
    """The groups of these queues, so that no job of others is counted: where these cannot be told apart in what all
    share, in a reading of their own."""
    mixed = any(not meant.issuperset(group.queues) and not meant.isdisjoint(group.queues) for group in whole)
    if mixed or len(whole) == _READ:
        return await _read(view, meant)
    groups = ErrorGroups(group for group in whole if meant.issuperset(group.queues))
    groups.since, groups.read_at, groups.looked, groups.whole = whole.since, whole.read_at, whole.looked, whole.whole
    return groups


def _row(view: View, group: ErrorGroup, jobs: int) -> ErrorRow:
    return ErrorRow.of(
        group,
        error=group.error_class,
        share=group.count / jobs if jobs else 0.0,
        reasons=[each for each in group.reasons if view.access.payloads or each in REASONS],
    )
