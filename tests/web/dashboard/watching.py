"""Open pages: streams of the dashboard over ASGI, without a server."""

from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import orjson
from starlette.requests import Request
from starlette.types import ASGIApp

from jobqueue.web import Access


def who(request: Request) -> Access:
    """Everybody is whom he says."""
    return Access(request.headers["who"])


class Viewer:
    """Somebody who has a page open."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.status = 0
        self.headers: dict[str, str] = {}
        self.text = b""
        self._here = anyio.Event()
        self._sent = False

    @property
    def looks(self) -> list[dict[str, Any]]:
        """What was told so far."""
        pieces = [piece for piece in self.text.split(b"\n\n") if b"event: look" in piece]
        return [orjson.loads(piece.partition(b"data: ")[2]) for piece in pieces]

    def leave(self) -> None:
        """Close the page."""
        self._here.set()

    async def watch(self, site: ASGIApp) -> None:
        """Until he leaves, or the stream ends."""
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/live", "raw_path": b"/live", "query_string": b"", "root_path": "", "client": ("127.0.0.1", 4711),
            "server": ("localhost", 80), "headers": [(b"host", b"localhost"), (b"who", self.user.encode())],
        }  # fmt: skip
        await site(scope, self._receive, self._send)

    async def _receive(self) -> MutableMapping[str, Any]:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._here.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self.status = message["status"]
        else:
            self.text += message.get("body", b"")


@asynccontextmanager
async def watching(site: ASGIApp, users: Sequence[str]) -> AsyncIterator[list[Viewer]]:
    """So many open pages; all are closed at the end of the block."""
    viewers = [Viewer(user) for user in users]
    async with anyio.create_task_group() as group:
        for viewer in viewers:
            group.start_soon(viewer.watch, site)
        yield viewers
        for viewer in viewers:
            viewer.leave()
