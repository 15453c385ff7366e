"""`jobqueue.web.events` inside sites of FastAPI, Starlette, Litestar, and Django behind its asgi.py."""

import importlib.util
from collections.abc import Callable
from typing import Any, cast

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from jobqueue.web import events
from tests.support.jobs.joining import configure_django
from tests.support.jobs.told import cancelled
from tests.support.jobs.working import new_app
from tests.web.streams import asked, everybody, site, streaming


def in_starlette(streams: ASGIApp) -> ASGIApp:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/jobs/events", streams)])


def in_fastapi(streams: ASGIApp) -> ASGIApp:
    from fastapi import FastAPI

    site = FastAPI()
    site.mount("/jobs/events", streams)
    return cast(ASGIApp, site)


def in_litestar(streams: ASGIApp) -> ASGIApp:
    from litestar import Litestar, asgi

    handler = asgi("/jobs/events", is_mount=True, copy_scope=True)(streams)
    return cast(ASGIApp, Litestar([handler], openapi_config=None, logging_config=None))


def in_django(streams: ASGIApp) -> ASGIApp:
    """As one writes it into asgi.py: Django has no mounts, so a path is taken off before it."""
    configure_django()
    from django.core.asgi import get_asgi_application

    django: Any = get_asgi_application()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope["type"] == "http" and scope["path"].startswith("/jobs/events")
        await (streams if inside else django)(scope, receive, send)

    return application


MOUNTS = {"starlette": in_starlette, "fastapi": in_fastapi, "litestar": in_litestar, "django": in_django}


@pytest.mark.parametrize("framework", MOUNTS)
async def test_it_streams_from_inside_a_site(database: str, framework: str) -> None:
    """S2-10: mounted at a path it streams, goes on by Last-Event-ID, refuses; all other paths are the site's."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    mount: Callable[[ASGIApp], ASGIApp] = MOUNTS[framework]
    app = new_app(database)
    async with app, site(mount(events(app, authorize=everybody))) as url:
        path = f"{url}jobs/events"
        async with streaming(path, "types=job.cancelled") as client:
            made = await cancelled(app, 3)
            told = await client.take(3)
        assert sorted(made) == sorted(message.job for message in told)
        async with streaming(path, after=told[0].id) as client:
            assert [told[1].id, told[2].id] == [message.id for message in await client.take(2)]
        assert 400 == (await asked(f"{path}/", "types=job.daed")).status_code
        assert 404 == (await asked(f"{url}elsewhere")).status_code
