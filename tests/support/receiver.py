"""A receiver of webhooks on a real socket, and an app whose events it hears."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, TypeAlias

from jobqueue.app import App
from jobqueue.base.flows.webhook import Delivery, Webhook
from jobqueue.base.job import JobState
from jobqueue.base.settings import Settings
from tests.support.patience import NEVER, PATIENCE
from tests.support.waiting import wait_until

HERE = ("127.0.0.1/32",)
KEY = "a key of the tests, long enough to be one"
Answer: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Post:
    """One request as it arrived."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value

    def is_signed_by(self, secret: str) -> bool:
        """What the libraries of Standard Webhooks check, written down once more."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        mark = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return mark in self.headers["webhook-signature"].split(" ")


def status(code: int, *headers: str, body: bytes = b"") -> Answer:
    """Answer so."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} Word", f"content-length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return answer


def raw(data: bytes) -> Answer:
    """Answer with these bytes, and hang up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """No answer at all."""
    await asyncio.sleep(NEVER)


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A header that never ends, a letter at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def informs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Only ever an answer that says that one will come."""
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def ends_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A status at once, and never the body that it promises."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(NEVER)


@dataclass
class Receiver:
    """Remembers what is posted; answers one after the other, the last again and again."""

    answers: Iterator[Answer] = field(default_factory=lambda: repeat(status(200)))
    posts: list[Post] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=SECRETMARKER"

    def answers_with(self, *answers: Answer) -> None:
        self.answers = chain(answers, repeat(answers[-1]))

    async def has(self, count: int) -> list[Post]:
        """Wait for so many posts."""
        await wait_until(lambda: len(self.posts) >= count, f"{count} posts came")
        return self.posts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.posts.append(Post(head[0].split(" ")[1], headers, body))
            await next(self.answers)(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(*answers: Answer) -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    if answers:
        receiver.answers_with(*answers)
    running: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(receiver.serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def hooked_app(dsn: str, **knobs: Any) -> App:
    """An app whose webhooks may lead here, with two tasks."""
    app = App(dsn, settings=Settings(**{"webhook_networks": HERE, "poll": 0.5, **knobs}))

    @app.task
    async def note(text: str) -> str:
        return text

    @app.task(queue="mail", max_attempts=1)
    async def fail(text: str) -> None:
        raise RuntimeError(text)

    return app


def defer(app: App, task: str, text: str = "text") -> Awaitable[Any]:
    found = app.registry.find(task)
    assert found is not None
    return found.defer(text)


async def delivered(app: App, hook: Webhook, count: int = 1, state: JobState = JobState.COMPLETED) -> list[Delivery]:
    """Wait until so many deliveries have ended like this."""
    found: list[Delivery] = []

    async def there() -> bool:
        found[:] = await app.webhooks.deliveries(hook.id, state=state, limit=1_000)
        return len(found) >= count

    await wait_until(there, f"{count} deliveries are {state}", PATIENCE)
    return found


async def hurry(app: App, hook: Webhook) -> None:
    """Make what waits for its next try due now, once there is something: where tries do not come by themselves."""

    async def moved() -> bool:
        return await _made_due(app, hook)

    await wait_until(moved, "a delivery waits for its next try")


async def delivered_soon(app: App, hook: Webhook, count: int) -> list[Delivery]:
    """As `delivered`, and what waits for its next try meanwhile need not wait."""

    async def there() -> bool:
        await _made_due(app, hook)
        return len(await app.webhooks.deliveries(hook.id, state=JobState.COMPLETED, limit=1_000)) >= count

    await wait_until(there, f"{count} deliveries are completed", PATIENCE)
    return await delivered(app, hook, count)


async def _made_due(app: App, hook: Webhook) -> bool:
    changes = await app.jobs.reschedule(delay=0, queue="webhooks", origin=f"webhook:{hook.id}", state="scheduled")
    return bool(changes.each)
