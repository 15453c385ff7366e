"""The page that shows what becomes of jobs: over HTTP, and in a real browser."""

import importlib.util
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.examples.programs import Program, running
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until
from tests.web.streams import streaming

SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
ENDS = {"completed", "dead"}


@pytest_asyncio.fixture
async def url(database: str, tmp_path: Path) -> AsyncIterator[str]:
    """The site's address, while it runs."""
    async with running("-m", "examples.live_events", "--port", "0", dsn=database, log=tmp_path / "site.log") as site:
        yield await address(site)
        await site.stop()
    assert "Traceback" not in site.said


async def address(site: Program) -> str:
    await site.says("Uvicorn running on")
    found = re.search(r"http://127\.0\.0\.1:\d+", site.said)
    assert found is not None
    return found[0]


async def test_jobs_are_told_as_they_run(url: str) -> None:
    """Ten jobs by the button: each is told of from its start to its end, the two that fail too; nobody else may."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE) as client:
        assert "EventSource" in (await client.get("/")).text
        assert 403 == (await client.post("/jobs")).status_code
        assert 400 == (await client.get("/", headers={"host": "elsewhere.example"})).status_code
        async with streaming(f"{url}/events/") as stream:
            made = [job for _ in range(2) for job in await defer(client)]
            told: list[tuple[str, str]] = []
            while len([kind for kind, _ in told if kind in ("job.completed", "job.dead")]) < 10:
                (message,) = await stream.take(1)
                told.append((str(message.event), str(message.job)))
    kinds = Counter(kind for kind, _ in told)
    assert (9, 1, 2) == (kinds["job.completed"], kinds["job.dead"], kinds["job.retried"])
    assert set(made) == {job for kind, job in told if kind == "job.started"}


async def defer(client: httpx.AsyncClient) -> list[str]:
    answer = await client.post("/jobs", headers={"x-from": "page"})
    assert 201 == answer.status_code
    return list(answer.json()["jobs"])


@pytest_asyncio.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Any]:
    """Debian's chromium with an empty profile, or a skip that says what is missing."""
    chromium = shutil.which("chromium")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("no browser: `make browser` says how to get chromium and playwright")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        profile = str(tmp_path / "profile")
        browser = await playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, args=list(SWITCHES)
        )
        yield browser
        await browser.close()


async def test_a_browser_shows_them(url: str, browser: Any) -> None:
    """S2-10: a click on the button, and its five jobs come by themselves, each event once, the newest first."""
    page = await browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(url)
    await page.locator("#state.live").wait_for(timeout=1000 * PATIENCE)
    await page.get_by_role("button", name="Defer five jobs").click()

    async def all_ended() -> bool:
        return 5 == len([kind for kind in await kinds_on(page) if kind in ENDS])

    await wait_until(all_ended, "five jobs have ended on the page")
    ids = [await row.get_attribute("data-id") for row in await page.locator("#events tr").all()]
    places = [tuple(map(int, str(id).split("."))) for id in ids]
    assert sorted(set(places), reverse=True) == places
    assert {"started": 6, "retried": 1, "completed": 5} == dict(Counter(await kinds_on(page)))
    assert "completed 5" in await page.locator("#counts").inner_text()
    assert await page.locator("#none").is_hidden()
    await page.set_viewport_size({"width": 390, "height": 800})
    assert 390 >= await page.evaluate("document.documentElement.scrollWidth"), "a telephone need not scroll sideways"
    assert [] == complaints


async def kinds_on(page: Any) -> list[str]:
    return [str(text) for text in await page.locator("#events td.type").all_inner_texts()]


async def test_a_page_goes_on_after_a_restart(database: str, tmp_path: Path, browser: Any) -> None:
    """S2-35: the server is killed and started anew: the page goes on by itself, and shows what happened meanwhile."""
    command = ("-m", "examples.live_events", "--port")
    async with running(*command, "0", dsn=database, log=tmp_path / "one.log") as site:
        url = await address(site)
        page = await browser.new_page()
        await page.goto(url)
        await page.locator("#state.live").wait_for(timeout=1000 * PATIENCE)
        await page.get_by_role("button").click()
        await page.locator("#events tr").first.wait_for(timeout=1000 * PATIENCE)
        await site.stop(SIGKILL)
    async with running(*command, url.rpartition(":")[2], dsn=database, log=tmp_path / "two.log") as site:
        await site.says("Uvicorn running on")

        async def all_ended() -> bool:
            return 5 <= len([kind for kind in await kinds_on(page) if kind in ENDS])

        await wait_until(all_ended, "all five have ended on the page", 2 * PATIENCE)
        ids = [await row.get_attribute("data-id") for row in await page.locator("#events tr").all()]
        assert len(ids) == len(set(ids)), "none is shown twice"
        await page.close()
        await site.stop()
