"""A visitor of the dashboard with a real browser, who notes whatever it complains of."""

import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from jobqueue.web import Access
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until
from tests.web.dashboard.visiting import OPERATOR
from tests.web.streams import site

VIEWS = {"light": ("light", 1440), "dark": ("dark", 1440), "phone": ("light", 390)}
"""Colours, and how wide the window is."""
MILLISECONDS = 1000 * PATIENCE


def letting_ada(request: Request) -> Access:
    """Everybody is ada, who may do everything."""
    return OPERATOR


class Served:
    """A dashboard on a port that stays the same when it is served again; it counts the streams of live pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._port = 0
        self.url = ""
        self.streams = 0
        """Those that are open."""
        self.begun = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        live = scope["type"] == "http" and scope["path"] == "/live"
        self.streams += live
        self.begun += live
        try:
            await self._app(scope, receive, send)
        finally:
            self.streams -= live

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve it."""
        self._stack = contextlib.AsyncExitStack()
        await self.back()
        try:
            yield
        finally:
            await self.away()

    async def back(self) -> None:
        """Serve it from now on."""
        self.url = (await self._stack.enter_async_context(site(self, self._port))).rstrip("/")
        self._port = int(self.url.rpartition(":")[2])

    async def away(self) -> None:
        """Serve it no more, until `back`."""
        await self._stack.aclose()


@dataclass
class Look:
    """An open page, and what was noticed meanwhile."""

    page: Any
    url: str
    shot: Path
    """Where pictures of it are kept."""
    complaints: list[str] = field(default_factory=list)
    """Of the browser: messages in its console, errors, requests to somebody else."""
    view: str = ""

    async def goto(self, path: str, *, live: bool = True) -> int:
        """Open this page of the dashboard; gives the answer's status. Its scripts have run then."""
        answer = await self.page.goto(self.url + path, timeout=MILLISECONDS)
        if live:
            await self.page.locator("#live[data-state=on]").wait_for(timeout=MILLISECONDS)
        return int(answer.status)

    async def turn(self, view: str) -> None:
        """Show the same page like this."""
        if view == self.view:
            return
        self.view, (scheme, width) = view, VIEWS[view]
        await self.page.emulate_media(color_scheme=scheme)
        await self.page.set_viewport_size({"width": width, "height": 900})

    async def picture(self, view: str = "") -> None:
        """Keep one of the page."""
        await self.page.screenshot(path=self.shot.with_stem(f"{self.shot.stem}-{view}".rstrip("-")), full_page=True)

    async def becomes(self, script: str, what: str) -> None:
        """Return once this is true in the page."""
        await wait_until(lambda: self.page.evaluate(script), what)

    async def text(self, selector: str) -> str:
        """What is written there."""
        return str(await self.page.locator(selector).first.inner_text(timeout=MILLISECONDS)).strip()


class Visitor:
    """One browser, with two profiles: one in which scripts run, and one in which they do not.

    A page that was left well is used again: to make another one is half of what it costs to load it.
    """

    def __init__(self, browser: Any, served: Served) -> None:
        self._browser = browser
        self._served = served
        self._profiles: dict[bool, Any] = {}
        self._empty: dict[bool, list[Any]] = {True: [], False: []}
        self._looks: dict[Any, Look] = {}

    @asynccontextmanager
    async def looks(self, shot: Path, *, scripts: bool = True, view: str = "light") -> AsyncIterator[Look]:
        """An empty page; a picture of it is kept if the block fails, or whenever JOBQUEUE_SHOTS is set."""
        page = self._empty[scripts].pop() if self._empty[scripts] else await self._open(scripts)
        look = self._looks[page] = Look(page, self._served.url, shot)
        await look.turn(view)
        failed = True
        try:
            yield look
            failed = False
        finally:
            if failed or os.environ.get("JOBQUEUE_SHOTS"):
                await look.picture()
            del self._looks[page]
            if failed:
                await page.close()
            else:
                await page.goto("about:blank")
                self._empty[scripts].append(page)

    async def _open(self, scripts: bool) -> Any:
        if scripts not in self._profiles:
            self._profiles[scripts] = await self._browser.new_context(java_script_enabled=scripts)
        page = await self._profiles[scripts].new_page()
        page.on("console", lambda message: self._note(page, message.text))
        page.on("pageerror", lambda error: self._note(page, str(error)))
        page.on("dialog", lambda dialog: self._note(page, f"a dialog: {dialog.message}"))
        page.on("request", lambda request: self._note_request(page, request.url))
        return page

    def _note(self, page: Any, complaint: str) -> None:
        if page in self._looks:  # else it is being left
            self._looks[page].complaints.append(complaint)

    def _note_request(self, page: Any, url: str) -> None:
        if not url.startswith(self._served.url + "/"):
            self._note(page, f"a request to {url}")


def axe() -> str:
    """The script of axe-core, or a skip."""
    axe = pytest.importorskip("axe_playwright_python", reason="no axe-core: `make browser` installs it")
    return (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
