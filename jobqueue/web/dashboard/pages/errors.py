"""How jobs fail: groups of the latest dead jobs, and one of them."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.web.dashboard.acting.form import word_of
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.errors import ErrorRow, read_error, read_errors
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.showing.tracebacks import lines_of
from jobqueue.web.dashboard.site import Site


async def errors(site: Site, request: Request) -> Response:
    """The groups of the latest dead jobs, the largest first; of a queue, of a task."""
    said = {name: word_of(request.query_params, name) for name in ("queue", "task")}
    seen = await read_errors(view_of(site, request), queue=said["queue"], task=said["task"])
    return sheet(site, request, "errors.html", active="errors", title="Errors", seen=seen, said=said)


async def error(site: Site, request: Request) -> Response:
    """One group: how a job of it failed, its jobs, and what can be done to all of them."""
    view, fingerprint = view_of(site, request), request.path_params["fingerprint"]
    seen = await read_error(view, fingerprint)
    if seen is None:
        return sheet(
            site, request, "error_gone.html", active="errors", title="Not among the latest", status=404,
            fingerprint=fingerprint,
        )  # fmt: skip
    trace = None if seen.attempt is None else seen.attempt.traceback
    return sheet(
        site, request, "error_group.html", active="errors", title=_title(seen.group), name=_title(seen.group),
        seen=seen, lines=lines_of(trace) if trace else [], meant=_meant(view, seen.group),
    )  # fmt: skip


def _title(group: ErrorRow) -> str:
    return group.error.rpartition(".")[2] or "No error"


def _meant(view: View, group: ErrorRow) -> list[dict[str, str]]:
    """Filters that mean the jobs of this group: one, or for a user of some queues one of each."""
    which = {"state": "dead", "fingerprint": group.fingerprint, "task": group.task}
    if group.error:
        which["error"] = group.error
    if view.access.queues is None:
        return [which]
    return [{**which, "queue": queue} for queue in group.queues]
