"""The webhooks, and one with its deliveries."""

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.job import JobState
from jobqueue.tasks.options import check_id
from jobqueue.web.dashboard.acting.form import id_of
from jobqueue.web.dashboard.pages.sheet import sheet, view_of
from jobqueue.web.dashboard.reading.flows.webhooks import read_webhook, read_webhooks
from jobqueue.web.dashboard.site import Site

_STATES = (JobState.DEAD, JobState.SCHEDULED, JobState.COMPLETED)


async def webhooks(site: Site, request: Request) -> Response:
    """All of them."""
    seen = await read_webhooks(view_of(site, request))
    return sheet(site, request, "webhooks.html", active="webhooks", title="Webhooks", seen=seen)


async def webhook(site: Site, request: Request) -> Response:
    """One, and its deliveries by state."""
    params = request.query_params
    after = id_of(params, "after")
    state = next((state for state in _STATES if state == params.get("state")), None)
    seen = await read_webhook(view_of(site, request), check_id(request.path_params["id"]), state=state, after=after)
    return sheet(
        site, request, "webhook.html", active="webhooks", title=seen.webhook.host, seen=seen, state=state,
        states=_STATES, first=after is None,
    )  # fmt: skip
