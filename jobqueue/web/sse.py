"""Serves server-sent events: an answer ends when its client is gone, takes nothing, or the server stops.

No stream is endless: an endless one keeps its server from stopping, and whoever may read is asked anew at each connect.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncGenerator, Iterator

import anyio
import anyio.lowlevel

from jobqueue.base.errors import ConfigurationError

try:
    from starlette.types import Message, Receive, Send
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

LIFE = 15.0
"""Seconds after which a stream ends, ± 20 %."""
LOOK = 0.5
"""Seconds between two looks whether the server is to stop."""
RETRY = 500
"""Milliseconds after which a browser comes back."""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
_SEND_LIMIT = 30.0


def life() -> float:
    """When a stream that begins now ends, as time.monotonic()."""
    return time.monotonic() + LIFE * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing


def message(id: str, kind: str, data: bytes) -> bytes:
    """One event as text; `data` is one line."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (id.encode(), kind.encode(), data)


async def serve(pieces: AsyncGenerator[bytes, None], receive: Receive, send: Send) -> None:
    """Send these pieces as they come, and close them."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    async with anyio.create_task_group() as group:
        group.start_soon(_until_gone, receive, group.cancel_scope)
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    with _send_limit():
                        await send(_body(piece, more=True))
                    await anyio.lowlevel.checkpoint()  # one who reads days of the log is not alone on this loop
            with _send_limit():
                await send(_body(b"", more=False))
        except (TimeoutError, OSError):
            _cut(receive)  # it takes nothing any more; what it had, it knows
        group.cancel_scope.cancel()


def is_stopping() -> bool:
    """Whether uvicorn was told to stop: it waits for every answer under way, and says nothing to them."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


@contextlib.contextmanager
def _send_limit() -> Iterator[None]:
    """What is sent inside is taken in time, else a TimeoutError; at once if the server is to stop meanwhile."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + _SEND_LIMIT
    scope = anyio.CancelScope()
    next_look = loop.call_later(LOOK, lambda: look())

    def look() -> None:
        nonlocal next_look
        if loop.time() >= ends or is_stopping():
            scope.cancel()
        else:
            next_look = loop.call_later(LOOK, look)

    try:
        with scope:
            yield
    finally:
        next_look.cancel()
    if scope.cancelled_caught:
        raise TimeoutError


def _cut(receive: Receive) -> None:
    """End the connection, where that can be had: uvicorn would wait for its client to take the rest, for ever."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if abort := getattr(transport, "abort", None):  # uvloop's is no asyncio.Transport
        abort()


def _body(piece: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": more}


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
