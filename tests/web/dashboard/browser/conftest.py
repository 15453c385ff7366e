"""One shop, one server and one browser for all tests of a file; skipped, with a reason, where there is no browser."""

import importlib.util
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from jobqueue.web import create_app
from tests.support.postgres.database import Databases
from tests.support.receiver import KEY
from tests.web.dashboard.browser.shop import Shop, open_shop
from tests.web.dashboard.browser.visitor import Served, Visitor, letting_ada

SWITCHES = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(databases: Databases, pytestconfig: pytest.Config, template: str) -> AsyncIterator[Shop]:
    """The shop."""
    with pytest.MonkeyPatch.context() as patch, databases.temporary(template) as dsn:
        patch.setenv("JOBQUEUE_WEBHOOK_KEY", KEY)
        async with open_shop(dsn) as shop:
            yield shop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(shop: Shop) -> AsyncIterator[Served]:
    """Its dashboard, for an operator."""
    served = Served(create_app(shop.app, authorize=letting_ada))
    async with served.open():
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def visitor(served: Served, pytestconfig: pytest.Config) -> AsyncIterator[Visitor]:
    """Somebody with Debian's chromium, or a skip that says what is missing."""
    chromium = shutil.which("chromium")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("no browser: `make browser` says how to get chromium and playwright")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(SWITCHES))
        yield Visitor(browser, served)
        await browser.close()


@pytest.fixture
def shots(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Path:
    """Where the picture of a page goes if the test fails; JOBQUEUE_SHOTS names a folder for all of them."""
    folder = os.environ.get("JOBQUEUE_SHOTS")
    place = Path(folder) if folder else pytestconfig.cache.mkdir("browser")
    place.mkdir(parents=True, exist_ok=True)
    return place / f"{re.sub('[^a-z0-9]+', '-', request.node.name.removeprefix('test_')).strip('-')}.png"
