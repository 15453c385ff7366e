"""The list of jobs."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.errors import InvalidOption, JobNotFound
from jobqueue.base.job import JobState
from jobqueue.web.dashboard.acting.form import id_of
from jobqueue.web.dashboard.pages.sheet import led_to, sheet, view_of
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
_WHOLE = 32
"""Digits of an id."""


async def jobs(site: Site, request: Request) -> Response:
    """50 jobs a page, newest first, by the filters in the URL; an id in the search box leads to its job."""
    view, filters = view_of(site, request), filters_of(request.query_params)
    seen, refused, status = None, None, 200
    try:
        if (part := filters.search().id) is not None:
            id = await _resolved(view, part)
            return led_to(request, f"/jobs/{id}")
        seen = await read_jobs(
            view, filters.which(), before=id_of(request.query_params, "before"), renews="part" in request.query_params
        )
    except MayNotSearch as error:
        refused, status = str(error), 403
    except InvalidOption as error:
        refused, status = str(error), 400
    return sheet(
        site,
        request,
        "jobs.html",
        active="jobs",
        title="Jobs",
        status=status,
        seen=seen,
        refused=refused,
        filters=filters,
        chips=_chips(filters),
        states=list(JobState),
        verbs=VERBS,
        short=_SHORT,
        long=_LONG,
        more=any(getattr(filters, name) for name in _LONG),
        first="before" not in request.query_params,
    )


async def _resolved(view: View, part: str) -> UUID:
    """The job whose id this is, or a part of it. Raises InvalidOption, in words that suit a search."""
    try:
        if len(part.replace("-", "")) == _WHOLE:
            return UUID(part)
        id = await view.jobs.resolve(part)
        if view.access.queues is not None and not view.access.sees((await view.jobs.get(id)).queue):
            raise JobNotFound(id)  # its whole id would tell that it is there
    except (ValueError, InvalidOption, JobNotFound):
        raise InvalidOption(
            "q",
            f'no single job has an id that begins or ends with {part}; to look for a text, put it in quotes: "{part}"',
        ) from None
    return id


def _chips(filters: Filters) -> list[tuple[str, str, str]]:
    """Of each filter: its name, its value, and the query without it."""
    return [(name, value, filters.query((name, value))) for name, value in filters.pairs()]
