"""The dashboard inside sites of FastAPI, Starlette, Litestar and Django, as docs/dashboard.md says it is put there."""

import importlib.util
import re
from typing import cast

import httpx
import pytest
from starlette.types import ASGIApp

from jobqueue.web import create_app
from jobqueue.web.dashboard.access.mounted import base, below, own_path, placed
from tests.support.jobs.joining import configure_django
from tests.support.jobs.working import asked, new_app
from tests.web.dashboard.visiting import OPERATOR, SAME_SITE
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
    configure_django()
    from django.core.asgi import get_asgi_application
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/ops/jobs", dashboard), Mount("/", get_asgi_application())])


MOUNTS = {"starlette": in_starlette, "fastapi": in_fastapi, "litestar": in_litestar, "django": in_django}


@pytest.mark.parametrize("framework", MOUNTS)
async def test_it_works_below_a_prefix(database: str, framework: str) -> None:
    """Over a real server: links and files are below the prefix, JSON and forms arrive, other paths are the site's."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    await asked(database, "select jobqueue.defer('note', '{}', 'a/b ?c')")
    app = new_app(database)
    async with app, site(MOUNTS[framework](create_app(app, authorize=lambda request: OPERATOR))) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False, follow_redirects=True, headers=SAME_SITE) as client:
            page = await client.get("/ops/jobs/")
            assert 200 == page.status_code, page.text
            links = set(re.findall(r'(?:href|src|action)="([^"]*)"', page.text))
            assert set() == {link for link in links if not link.startswith("/ops/jobs/")}
            assert "/ops/jobs/queues/a%2Fb%20%3Fc" in links
            for link in [link for link in links if "/static/" in link]:
                assert 200 == (await client.get(link)).status_code, link
            assert page.text.count("<h2>") == (await client.get("/ops/jobs")).text.count("<h2>")
            assert "mail" not in (await client.get("/ops/jobs/api/v1/overview")).json()
            assert 405 == (await client.post("/ops/jobs/", data={"x": "1"})).status_code  # past the guard, at the page
            assert 404 == (await client.get("/ops/jobs/nowhere")).status_code
            assert "Not here" in (await client.get("/ops/jobs/ops/jobs")).text
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
