"""docs/dashboard.md: its blocks for sites run as they stand, and do what they say."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest

from jobqueue import App
from jobqueue.web import Access, create_app
from tests.support.jobs.joining import configure_django

PAGE = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ADA = SimpleNamespace(name="ada", is_admin=True)


def block(word: str) -> str:
    """The block that has this word."""
    (found,) = [str(each) for each in BLOCKS if word in each]
    return found


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the page takes for granted: the modules of a shop, with one user."""

    async def user_of(cookie: str | None) -> object:
        return ADA if cookie == "ada's" else None

    modules: dict[str, dict[str, object]] = {
        "shop": {},
        "shop.tasks": {"app": App("postgresql://127.0.0.1:1/x")},
        "shop.users": {"user_of": user_of},
    }
    for name, values in modules.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    yield


async def pages(site: Any, path: str = "/jobs/nowhere") -> tuple[int, int]:
    """What somebody unknown gets there, and what Ada does."""
    transport = httpx.ASGITransport(site, client=("10.0.0.8", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        unknown = await client.get(path)
        ada = await client.get(path, headers={"cookie": "session=ada's"})
    assert 'href="/jobs/queues"' in ada.text
    assert "<bdi>ada</bdi> · may operate" in ada.text
    return unknown.status_code, ada.status_code


async def test_in_fastapi() -> None:
    """Mounted, and asked for who it is."""
    pytest.importorskip("fastapi")
    names: dict[str, Any] = {}
    exec(block("FastAPI()"), names)  # noqa: S102 - it is our own page
    assert (403, 404) == await pages(names["site"])


async def test_in_litestar_and_django() -> None:
    """The same, with what the first block has defined."""
    pytest.importorskip("fastapi")
    names: dict[str, Any] = {}
    exec(block("FastAPI()"), names)  # noqa: S102 - it is our own page
    if pytest.importorskip("litestar"):
        exec(block("is_mount"), names)  # noqa: S102 - it is our own page
        assert (403, 404) == await pages(names["site"])
    pytest.importorskip("django")
    configure_django()
    from django.core.asgi import get_asgi_application

    names["get_asgi_application"] = get_asgi_application
    exec(block("django = get_asgi_application()"), names)  # noqa: S102 - it is our own page
    assert (403, 404) == await pages(names["application"])


def test_redaction_takes_out_what_it_says() -> None:
    """A function of a job, a path and a value."""
    names: dict[str, Any] = {"create_app": create_app, "app": App("postgresql://127.0.0.1:1/x"), "who": lambda _: None}
    exec(block("def redact"), names)  # noqa: S102 - it is our own page
    assert "(hidden)" == names["redact"](None, "args.card", "4711")
    assert "ada" == names["redact"](None, "args.to", "ada")


def test_the_page_names_what_an_access_has() -> None:
    """With its defaults."""
    assert Access("ada", operate=False, payloads=False, queues=None) == Access("ada")
    assert "Access(user, operate=False, payloads=False, queues=None)" in PAGE
