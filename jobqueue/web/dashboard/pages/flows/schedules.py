"""All schedules, and one of them."""

from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.errors import InvalidOption
from jobqueue.base.flows.schedule import Source
from jobqueue.web.dashboard.acting.form import moment_of
from jobqueue.web.dashboard.pages.sheet import missing, sheet, view_of
from jobqueue.web.dashboard.reading.flows.schedules import read_arguments, read_schedule, read_schedules
from jobqueue.web.dashboard.site import Site


async def schedules(site: Site, request: Request) -> Response:
    """A page of schedules by name: `after` a name, of one `source` only."""
    after, source = request.query_params.get("after", ""), request.query_params.get("source") or None
    seen = await read_schedules(view_of(site, request), after, cast(Source | None, source))
    return sheet(
        site, request, "schedules.html", active="schedules", title="Schedules", seen=seen, after=after, source=source
    )


async def schedule(site: Site, request: Request) -> Response:
    """One schedule; with `since` and `until` what a backfill of that time would be about. A POST shows the arguments
    of its jobs: each look is in the audit."""
    name = request.path_params["name"]
    view, given = view_of(site, request), request.query_params
    wrong: str | None = None
    try:
        seen = await read_schedule(view, name, moment_of(given, "since"), moment_of(given, "until"))
    except InvalidOption as error:
        wrong = str(error)
        seen = await read_schedule(view, name)
    if seen is None:
        return missing(site, request, "schedules", "schedule", name)
    args = await read_arguments(view, name) if request.method == "POST" else None
    return sheet(
        site, request, "schedule.html", active="schedules", title=name, seen=seen, args=args, wrong=wrong,
        since=given.get("since", ""), until=given.get("until", ""),
    )  # fmt: skip
