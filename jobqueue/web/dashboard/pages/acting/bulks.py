"""Bulk actions: all of them, and one while it goes on."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.errors import InvalidOption
from jobqueue.tasks.options import check_id
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.acting.bulks import read_bulk, read_bulks
from jobqueue.web.dashboard.site import Site


async def bulks(site: Site, request: Request) -> Response:
    """The newest first."""
    seen = await read_bulks(view_of(site, request), before=_before(request))
    first = "before" not in request.query_params
    return sheet(site, request, "bulks.html", active="audit", title="Bulk actions", seen=seen, first=first)


async def bulk(site: Site, request: Request) -> Response:
    """One: what it does, how far it is. `more`: nobody had asked for the background, there were too many jobs."""
    seen = await read_bulk(view_of(site, request), check_id(request.path_params["id"]))
    more = "more" in request.query_params
    return sheet(site, request, "bulk.html", active="audit", title="Bulk action", seen=seen, more=more)


def _before(request: Request) -> UUID | None:
    text = request.query_params.get("before")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise InvalidOption("before", "must be the id of a bulk action, as the link to go on has it") from None
