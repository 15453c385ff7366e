"""One request to the dashboard with every part of its scope as the test says, and what came back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp

HERE = ("127.0.0.1", 4711)
Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()


async def knock(
    site: ASGIApp, path: str = "/", method: str = "GET", headers: Headers = (("host", "localhost"),), **scope: Any
) -> Answer:
    """Send it; `scope` replaces what a server on this machine would say."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    whole = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": HERE,
        "server": ("127.0.0.1", 8080), "headers": [(name.encode(), value.encode()) for name, value in pairs],
    }  # fmt: skip
    answer = Answer()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    await site(whole | scope, receive, send)
    return answer
