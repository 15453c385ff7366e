"""Puts the dashboard together: the routes, and what stands before them."""

from collections.abc import Awaitable, Callable

from jobqueue.app import App
from jobqueue.base.errors import ConfigurationError

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
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
from jobqueue.web.dashboard.pages.overview import overview
from jobqueue.web.dashboard.pages.sheet import Page
from jobqueue.web.dashboard.showing.redacting import Redact
from jobqueue.web.dashboard.showing.static import static_file
from jobqueue.web.dashboard.site import Site

_PAGES: tuple[tuple[str, Page], ...] = (("/", overview),)


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
    pages = Starlette(
        routes=[
            Route("/static/{mark}/{name:path}", static_file),
            *api_routes(site),
            *(Route(path, _on(site, page)) for path, page in _PAGES),
        ],
        middleware=[Middleware(Faults, site)],
        exception_handlers={HTTPException: _leave_it},
    )
    pages.router.redirect_slashes = False  # it would lead to what Host says
    return Guard(pages, authorize, read_only)


def _leave_it(request: Request, error: Exception) -> Response:
    """`Faults` answers, with a page."""
    raise error


def _on(site: Site, page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await page(site, request)

    return answer
