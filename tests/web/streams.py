"""Server-sent events over a real uvicorn on this machine, and a client that understands them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import orjson
import uvicorn
from starlette.types import ASGIApp

from jobqueue.base.flows.event import Choice
from tests.support.patience import PATIENCE


def everybody(scope: Any, choice: Choice) -> bool:
    """May have all."""
    return True


@dataclass(frozen=True)
class Message:
    """One message; without an event it only moves the client's place."""

    id: str
    event: str | None
    data: dict[str, Any]

    @property
    def job(self) -> UUID:
        return UUID(self.data["job_id"])


class Stream:
    """What comes, as a browser's EventSource would read it."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.place = ""
        self._lines = answer.aiter_lines()

    async def messages(self) -> AsyncIterator[Message]:
        """Every message until the stream ends."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                self.place = fields.get("id", self.place)
                yield Message(self.place, fields.get("event"), orjson.loads(fields.get("data", "{}")))
                fields = {}

    async def take(self, count: int) -> list[Message]:
        """The next so many messages that are events."""
        taken: list[Message] = []
        async with asyncio.timeout(PATIENCE):
            while len(taken) < count:
                messages = self.messages()
                async for message in messages:
                    if message.event is not None:
                        taken.append(message)
                        if len(taken) == count:
                            break
                else:
                    raise AssertionError(f"the stream has ended after {len(taken)} of {count} events")
        return taken


@asynccontextmanager
async def streaming(url: str, query: str = "", after: str | None = None) -> AsyncIterator[Stream]:
    """A client that is connected inside the block, and has its first message."""
    headers = {} if after is None else {"Last-Event-ID": after}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE, follow_redirects=True) as client,
        client.stream("GET", f"{url}?{query}", headers=headers) as answer,
    ):
        assert answer.status_code == 200, (await answer.aread()).decode()
        stream = Stream(answer)
        async for _ in stream.messages():
            break
        yield stream


async def asked(url: str, query: str = "", method: str = "GET", **headers: str) -> httpx.Response:
    """The answer to one who gets no stream."""
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
        return await client.request(method, f"{url}?{query}", headers=headers)


@asynccontextmanager
async def site(app: ASGIApp, port: int = 0) -> AsyncIterator[str]:
    """Serve it on this event loop; gives its URL. Who still streams at the end of the block is cut off."""
    with contextlib.closing(socket.create_server(("127.0.0.1", port))) as listening:
        server = _Server(uvicorn.Config(app, lifespan="off", log_config=None, ws="none"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = server.force_exit = True
            await serving


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals are those of the tests."""
        yield
