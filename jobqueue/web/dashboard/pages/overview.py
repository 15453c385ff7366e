"""The first page."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.errors import DatabaseError
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.overview import read_overview
from jobqueue.web.dashboard.reading.recent import NOTHING, read_recent
from jobqueue.web.dashboard.site import Site


async def overview(site: Site, request: Request) -> Response:
    """What needs attention, rates, queues, workers, what runs longest."""
    view = view_of(site, request)
    seen = await read_overview(view)
    try:
        recent = await read_recent(view)
    except DatabaseError:  # it has answered just now: what is under way is worth more than charts
        recent = NOTHING
    return sheet(site, request, "overview.html", active="overview", title="Overview", seen=seen, recent=recent)
