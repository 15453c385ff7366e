"""Somebody who opens the dashboard: over ASGI, without a server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.requests import Request

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

    site = create_app(app, authorize=None if access is None else authorize, **options)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(site, client=("127.0.0.1", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=SAME_SITE) as client:
        yield client
