"""Bulk actions: all of them, and one while it goes on."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.tasks.options import check_id
from jobqueue.web.dashboard.acting.form import id_of
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.acting.bulks import read_bulk, read_bulks
from jobqueue.web.dashboard.site import Site


async def bulks(site: Site, request: Request) -> Response:
    """The newest first."""
    seen = await read_bulks(view_of(site, request), before=id_of(request.query_params, "before"))
    first = "before" not in request.query_params
    return sheet(site, request, "bulks.html", active="audit", title="Bulk actions", seen=seen, first=first)


async def bulk(site: Site, request: Request) -> Response:
    """One: what it does, how far it is. `more`: nobody had asked for the background, there were too many jobs."""
    seen = await read_bulk(view_of(site, request), check_id(request.path_params["id"]))
    more = "more" in request.query_params
    return sheet(site, request, "bulk.html", active="audit", title="Bulk action", seen=seen, more=more)
