"""Jobs for programs: lists of them by filters, and what is done to those named or to all that match."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.datastructures import QueryParams

from jobqueue.base.acting.bulk import Bulk
from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import JobState
from jobqueue.web.dashboard.acting import jobs
from jobqueue.web.dashboard.reading.filters import Filters, filters_of
from jobqueue.web.dashboard.reading.jobs import SIZE, JobList, read_jobs
from jobqueue.web.dashboard.reading.view import Model, View

_FIRST = 100
"""Ids that an answer names."""


async def list_jobs(
    view: View,
    *,
    state: list[JobState] | None = None,
    q: str | None = None,
    queue: str | None = None,
    task: str | None = None,
    origin: str | None = None,
    error: str | None = None,
    fingerprint: str | None = None,
    bundle: str | None = None,
    key: str | None = None,
    reason: str | None = None,
    args: list[str] | None = None,
    before: UUID | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = SIZE,
) -> JobList:
    """A page of jobs, the newest first, by filters as in the URL of the page. Raises InvalidOption, DatabaseError."""
    texts = {
        "q": q, "queue": queue, "task": task, "origin": origin, "error": error, "fingerprint": fingerprint,
        "bundle": bundle, "key": key, "reason": reason,
    }  # fmt: skip
    said = [(name, text) for name, text in texts.items() if text]
    said += [("state", each.value) for each in state or ()] + [("args", each) for each in args or ()]
    return await read_jobs(view, filters_of(QueryParams(said)).which(), before=before, limit=limit)


class JobsMeant(Model):
    """Which jobs, and what is to become of them. By `ids`, or by a `filter`."""

    ids: Annotated[tuple[UUID, ...], Field(max_length=jobs.NAMED)] = ()
    filter: Filters | None = None
    dry_run: bool = False
    """Only say what would be done."""
    to: str | None = None
    """`move`: the queue."""
    priority: int | None = None
    """`priority`: the new one."""
    delay: float | None = None
    """`reschedule`: seconds from now; or else `at`."""
    at: AwareDatetime | None = None
    from_start: bool = False
    """`retry`: phases are forgotten."""
    agreed: Annotated[int, Field(ge=0)] | None = None
    """So many a dry run has said: it is a conflict if there are many more by now. None: as many as there are."""
    background: bool = False
    """By a filter: workers do it, page by page, see `bulks`. So they do if it is more than 10,000 jobs."""


class JobsChanged(Model):
    """What was done, or would be."""

    dry_run: bool
    changed: int
    """To so many jobs it happened."""
    outcomes: dict[str, int]
    """How many jobs came to each end."""
    refused: dict[str, int]
    """Of those the ones to which it did not happen."""
    first: list[UUID]
    """The first hundred to which it happened; fewer of a dry run."""
    more: bool
    """A dry run has counted no further, or workers go on with it: there are more."""
    bulk: UUID | None = None
    """The bulk action that goes on in the background: `bulks/{id}` tells of it."""


async def change_jobs(
    view: View, action: Literal["retry", "cancel", "reschedule", "move", "priority", "delete"], meant: JobsMeant
) -> JobsChanged:
    """Do this to jobs. Raises InvalidOption, JobNotFound, ManyMore, DatabaseError."""
    if bool(meant.ids) == (meant.filter is not None):
        raise InvalidOption("ids", "give ids, or else a filter")
    verb = jobs.action_of(action)
    words = {"to": meant.to, "priority": meant.priority, "delay": meant.delay, "at": meant.at and meant.at.isoformat()}
    said = {name: str(value) for name, value in words.items() if value is not None}
    to = jobs.target_of(verb, QueryParams(said | ({"from_start": "1"} if meant.from_start else {})))
    which = jobs.Meant(tuple(dict.fromkeys(meant.ids))) if meant.filter is None else by_filter(view, meant.filter)
    if meant.dry_run:
        would = await jobs.preview(view, verb, which)
        counts = {change.value: number for change, number in would.outcomes.items()}
        refused = {change.value: number for change, number in would.refused.items()}
        return JobsChanged(
            dry_run=True, changed=would.changed, outcomes=counts, refused=refused, first=list(would.first),
            more=would.more,
        )  # fmt: skip
    done = await jobs.act(view, verb, which, to, agreed=meant.agreed, background=meant.background)
    if isinstance(done, Bulk):
        return JobsChanged(dry_run=False, changed=0, outcomes={}, refused={}, first=[], more=True, bulk=done.id)
    ended = [change.value for change in done.each.values()]
    kept = [change.value for change in done.refused.values()]
    return JobsChanged(
        dry_run=False,
        changed=len(done),
        outcomes={each: ended.count(each) for each in dict.fromkeys(ended)},
        refused={each: kept.count(each) for each in dict.fromkeys(kept)},
        first=done.changed[:_FIRST],
        more=False,
    )


def by_filter(view: View, filter: Filters) -> jobs.Meant:
    """The jobs of a filter, which is checked as one in a URL is. Raises InvalidOption."""
    return jobs.by_filter(view, filters_of(QueryParams(list(filter.pairs()))).which())
