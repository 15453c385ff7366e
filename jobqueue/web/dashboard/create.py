"""Puts the dashboard together: the routes, and what stands before them."""

from collections.abc import Awaitable, Callable

from jobqueue.app import App
from jobqueue.base.errors import ConfigurationError

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

from jobqueue.web.dashboard.access.access import Authorize
from jobqueue.web.dashboard.access.guard import Guard
from jobqueue.web.dashboard.api.routes import api_routes
from jobqueue.web.dashboard.entrance.faults import Faults
from jobqueue.web.dashboard.live.looker import Looker
from jobqueue.web.dashboard.pages.acting.act import act, ask
from jobqueue.web.dashboard.pages.acting.audit import audit
from jobqueue.web.dashboard.pages.acting.bulks import bulk, bulks
from jobqueue.web.dashboard.pages.errors import error, errors
from jobqueue.web.dashboard.pages.flows.bundles import bundle, bundles
from jobqueue.web.dashboard.pages.flows.limits import limit, limits
from jobqueue.web.dashboard.pages.flows.schedules import schedule, schedules
from jobqueue.web.dashboard.pages.flows.webhooks import webhook, webhooks
from jobqueue.web.dashboard.pages.job import job, payload
from jobqueue.web.dashboard.pages.jobs import jobs
from jobqueue.web.dashboard.pages.live import Live
from jobqueue.web.dashboard.pages.overview import overview
from jobqueue.web.dashboard.pages.queues import queue, queues
from jobqueue.web.dashboard.pages.sheet import Page, note_what_was_done
from jobqueue.web.dashboard.pages.tasks import defer, task, tasks
from jobqueue.web.dashboard.pages.workers import worker, workers
from jobqueue.web.dashboard.showing.redacting import Redact
from jobqueue.web.dashboard.showing.static import static_file
from jobqueue.web.dashboard.site import Site

_PAGES: tuple[tuple[str, Page], ...] = (
    ("/", overview),
    ("/jobs", jobs),
    ("/jobs/{id}", job),
    ("/errors", errors),
    ("/errors/{fingerprint}", error),
    ("/bundles", bundles),
    ("/bundles/{id}", bundle),
    ("/webhooks", webhooks),
    ("/webhooks/{id}", webhook),
    ("/audit", audit),
    ("/bulk", bulks),
    ("/bulk/{id}", bulk),
    ("/queues", queues),
    ("/queues/{name:path}", queue),
    ("/tasks", tasks),
    ("/tasks/{name:path}", task),
    ("/workers", workers),
    ("/workers/{id}", worker),
    ("/schedules", schedules),
    ("/limits", limits),
    ("/limits/{name:path}", limit),
)
_LOOKS: tuple[tuple[str, Page], ...] = (
    ("/jobs/{id}/payload", payload),
    ("/schedules/{name:path}", schedule),
)
"""Pages that show what is hidden once they are sent by POST: see `is_look`."""


def create_app(
    app: App,
    *,
    authorize: Authorize | None = None,
    read_only: bool = False,
    title: str | None = None,
    redact: Redact | None = None,
) -> ASGIApp:
    """The dashboard of this app, an ASGI app to mount: `site.mount("/jobs", create_app(app, authorize=who))`.

    `authorize(request)`, `def` or `async def`, gives an `Access`, a Response to send instead, such as a redirect to a
    login, or None, which is 403; it is asked on each request. Without it only somebody at this very machine is
    answered, at a loopback address and name and through no proxy, and may do everything. `read_only`: nobody may
    change anything. `redact(job, path, value)` gives what is shown of a value in a payload. Raises ConfigurationError.
    """
    if authorize is not None and not callable(authorize):
        raise ConfigurationError("authorize: must be a function of a request that gives an Access, a Response or None")
    site = Site(app, title or app.name, read_only, redact, Looker(app))
    live = Live(site)
    pages = Starlette(
        routes=[
            Route("/static/{mark}/{name:path}", static_file),
            Route("/live", live.stream),
            Route("/live/now", live.now),
            Route("/preview/{subject}/{verb}", _on(site, ask)),
            Route("/act/tasks/defer", _on(site, defer), methods=["POST"]),
            Route("/act/{subject}/{verb}", _on(site, act), methods=["POST"]),
            *api_routes(site),
            *(Route(path, _on(site, page)) for path, page in _PAGES),
            *(Route(path, _on(site, page), methods=["GET", "POST"]) for path, page in _LOOKS),
        ],
        middleware=[
            Middleware(GZipMiddleware, minimum_size=1_000),
            Middleware(Faults, site),
        ],  # it leaves streams alone
        exception_handlers={HTTPException: _leave_it},
    )
    pages.router.redirect_slashes = False  # it would lead to what Host says
    return Guard(pages, authorize, read_only)


def _leave_it(request: Request, error: Exception) -> Response:
    """`Faults` answers, with a page."""
    raise error


def _on(site: Site, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        await note_what_was_done(site, request)
        return await page(site, request)

    return answer
