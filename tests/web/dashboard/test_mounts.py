"""The dashboard inside sites of FastAPI, Starlette, Litestar and Django, as docs/dashboard.md says it is put there."""

import importlib.util
import re
from typing import Any, cast

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from jobqueue.web import create_app
from jobqueue.web.dashboard.access.mounted import base, below, own_path, placed
from jobqueue.web.dashboard.entrance.login import TokenGate
from tests.support.jobs.joining import configure_django
from tests.support.jobs.working import asked, new_app
from tests.web.dashboard.visiting import SAME_SITE
from tests.web.streams import site


def in_starlette(dashboard: ASGIApp) -> ASGIApp:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/ops/jobs", dashboard)])


def in_fastapi(dashboard: ASGIApp) -> ASGIApp:
    from fastapi import FastAPI

    inside = FastAPI()
    inside.mount("/ops/jobs", dashboard)
    return cast(ASGIApp, inside)


def in_litestar(dashboard: ASGIApp) -> ASGIApp:
    from litestar import Litestar, asgi

    handler = asgi("/ops/jobs", is_mount=True, copy_scope=True)(dashboard)
    return cast(ASGIApp, Litestar([handler], openapi_config=None, logging_config=None))


def in_django(dashboard: ASGIApp) -> ASGIApp:
    """As one writes it into asgi.py: Django has no mounts."""
    configure_django()
    from django.core.asgi import get_asgi_application

    django: Any = get_asgi_application()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and f"{scope['path']}/".startswith("/ops/jobs/"):
            await dashboard({**scope, "root_path": "/ops/jobs"}, receive, send)
        else:
            await django(scope, receive, send)

    return application


SECRET = "correct-horse-battery-staple"
LINK = re.compile(r'(?:href|src|action)="([^"]*)"')
MOUNTS = {"starlette": in_starlette, "fastapi": in_fastapi, "litestar": in_litestar, "django": in_django}


@pytest.mark.parametrize("framework", MOUNTS)
async def test_it_works_below_a_prefix(database: str, framework: str) -> None:
    """Over a real server: links and files are below the prefix, forms and JSON arrive, other paths are the site's."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    await asked(database, "select jobqueue.defer('note', '{}', 'a/b ?c')")
    app, browser = new_app(database), {"accept": "text/html", **SAME_SITE}
    dashboard = create_app(app, authorize=TokenGate(SECRET, "shop"))
    async with (
        app,
        site(MOUNTS[framework](dashboard)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, follow_redirects=True, headers=browser) as client,
    ):
        form = await client.get("/ops/jobs/?part=queues")
        assert "/ops/jobs/login" == form.url.path
        page = await client.post("/ops/jobs/login", data={"token": SECRET, "next": "/ops/jobs/"})
        assert (200, "/ops/jobs/") == (page.status_code, page.url.path), page.text
        links = {link for link in LINK.findall(page.text) if link[0] != "#"}
        assert set() == {link for link in links if not link.startswith("/ops/jobs/")}
        assert "/ops/jobs/queues/a%2Fb%20%3Fc" in links
        for link in [link for link in [*links, *LINK.findall(form.text)] if "/static/" in link]:
            assert 200 == (await client.get(link)).status_code, link
        assert page.text.count("<h2>") == (await client.get("/ops/jobs")).text.count("<h2>")
        assert ["a/b ?c"] == [
            each["queue"] for each in (await client.get("/ops/jobs/api/v1/overview")).json()["queues"]
        ]
        assert "Not here" in (await client.get("/ops/jobs/ops/jobs")).text
        for verb, filled, leads in (
            ("queues/pause", {"queue": "mail", "back": "/queues"}, "/ops/jobs/queues"),
            ("jobs/cancel", {"queue": "mail", "background": "1"}, "/ops/jobs/bulk/"),
        ):
            done = await client.post(f"/ops/jobs/act/{verb}", data=filled)
            assert (200, True) == (done.status_code, done.url.path.startswith(leads)), done.url
        elsewhere = await client.get("/elsewhere")
        assert (404, False) == (elsewhere.status_code, "jobqueue" in elsewhere.text)


def scope(path: str, root: str = "", raw: str | None = None, outer: str | None = None) -> dict[str, object]:
    found: dict[str, object] = {"type": "http", "path": path, "root_path": root, "headers": []}
    if raw is not None:
        found["raw_path"] = raw.encode()
    return found if outer is None else found | {"app_root_path": outer}


@pytest.mark.parametrize(
    ("given", "root", "rest"),
    [
        (scope("/queues/x"), "", "/queues/x"),
        (scope("/"), "", "/"),
        (scope(""), "", "/"),
        (scope("/jobs/jobs", "/jobs", "/jobs/jobs"), "/jobs", "/jobs"),
        (scope("/jobs", "/jobs", "/jobs"), "/jobs", "/"),
        (scope("/jobs/", "/jobs/", "/jobs/"), "/jobs", "/"),
        (scope("/jobs/queues/a/b", "/jobs", "/jobs/queues/a%2Fb"), "/jobs", "/queues/a/b"),
        (scope("/jobs/x", "/api/jobs", "/jobs/x", outer="/api"), "/api/jobs", "/x"),  # FastAPI(root_path="/api")
        (scope("/api/jobs/x", "/api/jobs", "/api/jobs/x", outer="/api"), "/api/jobs", "/x"),
        (scope("/jobs/1/", "", "/jobs/jobs/1"), "/jobs", "/jobs/1"),  # Litestar
        (scope("/", "", "/jobs"), "/jobs", "/"),
        (scope("/", "/pre", "/pre/jobs/"), "/pre/jobs", "/"),
        (scope("/queues/", "", "//evil.example//queues"), "/evil.example", "/queues"),
        (scope("/caf\u00e9/x", "/caf\u00e9", "/caf%C3%A9/x"), "/caf%C3%A9", "/x"),
    ],
)
def test_where_it_is_mounted_is_found(given: dict[str, object], root: str, rest: str) -> None:
    """Whatever the site around it makes of path and root_path; never a root that names another host."""
    found = placed(given)
    assert (root, rest) == (base(found), below(found))
    assert found["path"] == found["root_path"] + rest


def test_own_paths_of_a_whole_site() -> None:
    """What is ours stays as it is, with its query."""
    found = placed(scope("/login"))
    assert "/jobs?q=//x&state=dead" == own_path(found, "/jobs?q=//x&state=dead")
    assert "/" == own_path(found, None)
