"""The first page."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.errors import DatabaseError
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.overview import overview_of, read_overview
from jobqueue.web.dashboard.reading.recent import NOTHING, read_recent
from jobqueue.web.dashboard.site import Site


async def overview(site: Site, request: Request) -> Response:
    """What needs attention, rates, queues, workers, what runs longest. While the database is away: as it was last."""
    view, age = view_of(site, request), None
    try:
        seen = await read_overview(view)
    except DatabaseError:
        if site.looker.last is None:
            raise
        seen, age = overview_of(view, site.looker.last), site.looker.age
    try:
        recent = await read_recent(view)
    except DatabaseError:  # what is under way is worth more than charts
        recent = NOTHING
    return sheet(
        site, request, "overview.html", active="overview", title="Overview", status=200 if age is None else 503,
        seen=seen, recent=recent, age=age,
    )  # fmt: skip
