"""Puts the dashboard together: the routes, and what stands before them."""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jobqueue.app import App
from jobqueue.base.errors import ConfigurationError
from jobqueue.web.dashboard.access.access import Authorize
from jobqueue.web.dashboard.access.guard import Guard
from jobqueue.web.dashboard.live.looker import Looker
from jobqueue.web.dashboard.pages.job import job, payload
from jobqueue.web.dashboard.pages.jobs import jobs
from jobqueue.web.dashboard.pages.live import Live
from jobqueue.web.dashboard.pages.overview import overview
from jobqueue.web.dashboard.pages.sheet import Page
from jobqueue.web.dashboard.showing.redacting import Redact
from jobqueue.web.dashboard.showing.static import static_file
from jobqueue.web.dashboard.site import Site

_PAGES: tuple[tuple[str, Page], ...] = (("/", overview), ("/jobs", jobs), ("/jobs/{id}", job))


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
            *(Route(path, _on(site, page)) for path, page in _PAGES),
            Route("/jobs/{id}/payload", _on(site, payload), methods=["GET", "POST"]),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=1_000)],  # it leaves streams alone
    )
    return Guard(pages, authorize, read_only)


def _on(site: Site, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await page(site, request)

    return answer
