"""The first page."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.errors import DatabaseError
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.errors import ErrorRow, read_errors
from jobqueue.web.dashboard.reading.overview import overview_of, read_overview
from jobqueue.web.dashboard.reading.recent import NOTHING, Recent, read_recent
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.site import Site

_GROUPS = 3
"""Of failures."""


async def overview(site: Site, request: Request) -> Response:
    """What needs attention, rates, queues, workers, what runs longest. While the database is away: as it was last."""
    view, age = view_of(site, request), None
    try:
        seen = await read_overview(view)
    except DatabaseError:
        if site.looker.last is None:
            raise
        seen, age = overview_of(view, site.looker.last), site.looker.age
    recent, failures = await _lately(view) if age is None else (NOTHING, None)
    return sheet(
        site, request, "overview.html", active="overview", title="Overview", status=200 if age is None else 503,
        seen=seen, recent=recent, age=age, failures=failures,
    )  # fmt: skip


async def _lately(view: View) -> tuple[Recent, list[ErrorRow] | None]:
    """What is under way is worth more than charts, and these more than errors: what cannot be read is left out."""
    try:
        recent = await read_recent(view)
    except DatabaseError:
        recent = NOTHING
    try:
        return recent, (await read_errors(view)).groups[:_GROUPS]
    except DatabaseError:
        return recent, None
