"""All limits, and one of them."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.web.dashboard.pages.sheet import missing, sheet, view_of
from jobqueue.web.dashboard.reading.flows.limits import read_limit, read_limits
from jobqueue.web.dashboard.site import Site


async def limits(site: Site, request: Request) -> Response:
    """All limits by name."""
    seen = await read_limits(view_of(site, request))
    return sheet(site, request, "limits.html", active="limits", title="Limits", seen=seen)


async def limit(site: Site, request: Request) -> Response:
    """One limit; `key` shows the line of one key in full."""
    name = request.path_params["name"]
    seen = await read_limit(view_of(site, request), name, request.query_params.get("key"))
    if seen is None:
        return missing(site, request, "limits", "limit", name)
    return sheet(site, request, "limit.html", active="limits", title=name, seen=seen)
