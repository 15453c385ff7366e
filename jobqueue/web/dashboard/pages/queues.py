"""All queues, and one of them."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.errors import DatabaseError
from jobqueue.web.dashboard.pages.sheet import missing, sheet, view_of
from jobqueue.web.dashboard.reading.queues import read_past, read_queue, read_queues
from jobqueue.web.dashboard.reading.recent import NOTHING, read_recent
from jobqueue.web.dashboard.site import Site

_MINUTES = 5


async def queues(site: Site, request: Request) -> Response:
    """All queues by name, those without jobs only if they are asked for."""
    view = view_of(site, request)
    find, everything = request.query_params.get("find", "").strip(), request.query_params.get("empty") == "show"
    seen = await read_queues(view, find, everything)
    try:
        recent = await read_recent(view)
    except DatabaseError:  # it has answered just now: what is under way is worth more than rates
        recent = NOTHING
    rates = {name: sum(by_minute[-_MINUTES - 1 : -1]) / 60 / _MINUTES for name, by_minute in recent.completed.items()}
    return sheet(
        site, request, "queues.html", active="queues", title="Queues", seen=seen, recent=recent, rates=rates, find=find,
        everything=everything,
    )  # fmt: skip


async def queue(site: Site, request: Request) -> Response:
    """One queue: depth, times, what serves and limits it, what runs."""
    name = request.path_params["name"]
    view = view_of(site, request)
    seen = await read_queue(view, name)
    if seen is None:
        return missing(site, request, "queues", "queue", name)
    try:
        past = await read_past(view, name)
    except DatabaseError:
        past = None
    return sheet(site, request, "queue.html", active="queues", title=name, seen=seen, past=past)
