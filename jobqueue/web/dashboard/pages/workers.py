"""All workers, and one of them."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.web.dashboard.pages.sheet import missing, sheet, view_of
from jobqueue.web.dashboard.reading.workers import read_worker, read_workers
from jobqueue.web.dashboard.site import Site


async def workers(site: Site, request: Request) -> Response:
    """The workers, the living first, then those that were lost within a day."""
    seen = await read_workers(view_of(site, request))
    return sheet(site, request, "workers.html", active="workers", title="Workers", seen=seen)


async def worker(site: Site, request: Request) -> Response:
    """One worker: what it runs, and what is stuck in it."""
    text = request.path_params["id"]
    try:
        id = UUID(text)
    except ValueError:
        return missing(site, request, "workers", "worker", text)
    seen = await read_worker(view_of(site, request), id)
    if seen is None:
        return missing(site, request, "workers", "worker", text)
    title = f"{seen.worker.app} on {seen.worker.host}"
    return sheet(site, request, "worker.html", active="workers", title=title, seen=seen)
