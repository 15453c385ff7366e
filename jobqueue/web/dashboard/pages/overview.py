"""The first page."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.overview import read_overview
from jobqueue.web.dashboard.site import Site


async def overview(site: Site, request: Request) -> Response:
    """What needs attention, rates, queues, workers, what runs longest."""
    seen = await read_overview(view_of(site, request))
    return sheet(site, request, "overview.html", active="overview", title="Overview", seen=seen)
