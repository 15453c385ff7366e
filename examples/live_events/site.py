"""The site: a page, a button, and the events. A worker runs beside it, so that one command shows all."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route

from examples.live_events.app import app, bake
from jobqueue.web import events

PAGE = Path(__file__).with_name("page.html")
JOBS = 5
numbers = count(1)


@asynccontextmanager
async def lifespan(site: Starlette) -> AsyncIterator[None]:
    """Make the tables if they are missing, and run a worker as long as the site."""
    await app.migrate()
    async with app, app.worker(concurrency=3):
        yield


async def show_page(request: Request) -> FileResponse:
    """The page; all that it shows later comes from the events."""
    return FileResponse(PAGE, headers={"cache-control": "no-cache"})


async def defer_jobs(request: Request) -> JSONResponse:
    """Defer some jobs. Only the page may: what another site's page can send has no such header."""
    if request.headers.get("x-from") != "page":
        return JSONResponse({"error": "only the page may"}, status_code=403)
    handles = await bake.defer_many([next(numbers) for _ in range(JOBS)])
    return JSONResponse({"jobs": [str(handle.id) for handle in handles]}, status_code=201)


async def may_see(scope: Any, choice: Any) -> bool:
    """Who may have which events: a real site looks at its session here, and at `choice.queue` or `choice.origin`."""
    return bool(scope["client"] and scope["client"][0] == "127.0.0.1")


site = Starlette(
    lifespan=lifespan,
    middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    routes=[
        Route("/", show_page),
        Route("/jobs", defer_jobs, methods=["POST"]),
        Mount("/events", events(app, authorize=may_see)),
    ],
)
