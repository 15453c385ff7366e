"""The list of jobs."""

import re
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import JobState
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.filters import Filters, MayNotSearch, filters_of
from jobqueue.web.dashboard.reading.jobs import read_jobs
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.site import Site

VERBS = (
    ("retry", "Retry…", ""), ("cancel", "Cancel…", ""), ("reschedule", "Reschedule…", ""), ("move", "Move…", ""),
    ("priority", "Priority…", ""), ("delete", "Delete…", "danger"),
)  # fmt: skip
"""What is done to jobs that are selected, and to all that match: verb, word, class of the button."""
_SHORT = ("queue", "task", "error")
_LONG = ("origin", "key", "bundle", "fingerprint", "reason")
_PART = re.compile("…?([0-9A-Fa-f-]{8,36})")


async def jobs(site: Site, request: Request) -> Response:
    """50 jobs a page, newest first, by the filters in the URL; an id in the search box leads to its job."""
    view, filters = view_of(site, request), filters_of(request.query_params)
    if filters.q and (id := await _named(view, filters.q)) is not None:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/jobs/{id}", 303)
    seen, refused = None, None
    try:
        seen = await read_jobs(view, filters.which(), before=_before(request))
    except (MayNotSearch, InvalidOption) as error:
        refused = str(error)
    return sheet(
        site,
        request,
        "jobs.html",
        active="jobs",
        title="Jobs",
        status=200 if refused is None else 400,
        seen=seen,
        refused=refused,
        filters=filters,
        chips=_chips(filters),
        states=list(JobState),
        verbs=VERBS,
        short=_SHORT,
        long=_LONG,
        first="before" not in request.query_params,
    )


async def _named(view: View, text: str) -> UUID | None:
    """The job whose id this is, or a part of it; None if it is something else."""
    part = _PART.fullmatch(text)
    if part is None:
        return None
    try:
        return UUID(part[1]) if len(part[1]) in (32, 36) else await view.jobs.resolve(part[1])
    except (ValueError, InvalidOption):
        return None


def _before(request: Request) -> UUID | None:
    text = request.query_params.get("before")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise InvalidOption("before", "must be the id of a job, as the link to go on has it") from None


def _chips(filters: Filters) -> list[tuple[str, str, str]]:
    """Of each filter: its name, its value, and the query without it."""
    return [(name, value, filters.query((name, value))) for name, value in filters.pairs()]
