"""Somebody who opens the dashboard: over ASGI, without a server."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from starlette.requests import Request
from starlette.types import ASGIApp

from jobqueue import App
from jobqueue.web import Access, create_app

OPERATOR = Access("ada", operate=True, payloads=True)
READER = Access("bob")
SAME_SITE = {"sec-fetch-site": "same-origin"}
"""What a browser says of a form that one of our own pages has sent."""


@asynccontextmanager
async def visiting(app: App, access: Access | None = OPERATOR, **options: object) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the dashboard of this app, as a user with this access; None: without any `authorize`."""

    def authorize(request: Request) -> Access | None:
        return access

    async with _client(create_app(app, authorize=None if access is None else authorize, **options)) as client:  # type: ignore[arg-type]
        yield client


@asynccontextmanager
async def together(app: App, *accesses: Access, **options: object) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of one dashboard, each of another user: what was read for one is kept for all."""

    def authorize(request: Request) -> Access:
        return accesses[int(request.headers["who"])]

    site = create_app(app, authorize=authorize, **options)  # type: ignore[arg-type]
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_client(site, who=str(place))) for place in range(len(accesses))]


def _client(site: ASGIApp, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(site, client=("127.0.0.1", 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=SAME_SITE | headers)
