"""Server-sent events: what becomes of jobs, streamed to browsers and other programs.

Each stream takes what lies behind its own place from the one reader of its event loop (`events/feed.py`): a slow client
falls back to the log, and costs nobody else anything. No stream is endless: it ends after some seconds, or at once when
the server is told to stop, and the browser goes on by itself where it was.
"""

import asyncio
import contextlib
import inspect
import random
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import anyio
import anyio.lowlevel
import orjson

from jobqueue.app import App
from jobqueue.base.errors import AppClosed, ConfigurationError, EventsLost, InvalidOption, JobQueueError
from jobqueue.base.flows.event import Choice, Entry, Event, Place, event_document
from jobqueue.base.log import get_logger
from jobqueue.events.stream import EventStream
from jobqueue.store.connection.faults import DATABASE_ERRORS

try:
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

Authorize: TypeAlias = Callable[[Scope, Choice], Awaitable[bool] | bool]

_FILTERS = ("types", "task", "queue", "origin", "job", "bundle")
_LIFE = 15.0
"""Seconds after which a stream ends, ± 20 %; whoever may read is asked anew then."""
_HEARTBEAT = 5.0
"""Seconds of silence after which the client is told where it stands, which also finds out whether it is there."""
_SEND_LIMIT = 30.0
_BEGIN_LIMIT = 5.0
"""Seconds after which a new client is sent away while the log cannot be read."""
_LOOK = 0.5
"""Seconds between two looks whether the server is to stop."""
_PIECE = 64 << 10
_RETRY = 500
"""Milliseconds after which a browser comes back."""
_MOST = 1_000

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]

log = get_logger(__name__)


def events(app: App, *, authorize: Authorize, most: int = _MOST) -> ASGIApp:
    """An ASGI app that streams what becomes of this app's jobs: `site.mount("/jobs/events", events(app, ...))`.

    `authorize(scope, choice)`, `def` or `async def`, says whether this client may have these events; it is asked at
    each connect, and a stream lives for 15 s before the client connects again. `choice` has the filters, from the
    query: `types` (with commas), `task`, `queue`, `origin`, `job`, `bundle`. A client begins behind the id in
    `Last-Event-ID`, or `?after=`, else with what happens from now on. If retention was quicker it gets `event: reset`,
    and then all that is left.

    At most `most` streams at once, then 503. No CORS header is sent: pages of other sites cannot read it. No event has
    arguments, results, progress or the text of an error.
    """
    if not callable(authorize):
        raise ConfigurationError("authorize: must be a function (scope, choice) -> bool")
    return _Streams(app, authorize, most)


class _Streams:
    def __init__(self, app: App, authorize: Authorize, most: int) -> None:
        self._app = app
        self._authorize = authorize
        self._most = most
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] != "http":  # a websocket
            await send({"type": "websocket.close", "code": 1000})
        elif (answer := await self._answer(Request(scope), receive, send)) is not None:
            await answer(scope, receive, send)

    async def _answer(self, request: Request, receive: Receive, send: Send) -> Response | None:
        """Serve a stream; or give the answer to a client who gets none."""
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("only GET\n", 405, {"allow": "GET, HEAD"})
        try:
            stream = _wanted(self._app, request)
        except InvalidOption as error:
            return PlainTextResponse(f"{error}\n", 400)
        allowed = self._authorize(request.scope, stream.choice)
        if not (await allowed if inspect.isawaitable(allowed) else allowed):
            return PlainTextResponse("not allowed\n", 403)
        if request.method == "HEAD":
            return Response(None, 200, dict(_plain_headers()))
        if self._open >= self._most:
            return _later("too many streams")
        return await self._stream(stream, receive, send)

    async def _stream(self, stream: EventStream, receive: Receive, send: Send) -> Response | None:
        """Serve one stream; or say why it cannot begin."""
        self._open += 1
        try:
            try:
                with anyio.fail_after(_BEGIN_LIMIT):
                    await stream.begin()
            except (JobQueueError, *DATABASE_ERRORS) as error:
                log.warning("sse.refused", error=type(error).__name__)
                return _later("the queue is not reachable")
            await _serve(stream, receive, send)
            return None
        finally:
            self._open -= 1
            stream.close()


def _later(reason: str) -> Response:
    return PlainTextResponse(f"{reason}\n", 503, {"retry-after": "5"})


def _wanted(app: App, request: Request) -> EventStream:
    """What a client asks for. Raises InvalidOption."""
    query = request.query_params
    if unknown := sorted(set(query) - {*_FILTERS, "after"}):
        raise InvalidOption(unknown[0][:50], f"there is no such filter; these are: {', '.join(_FILTERS)}, after")
    types = [name for text in query.getlist("types") for name in text.split(",") if name]
    named: dict[str, Any] = {name: query[name] for name in _FILTERS[1:] if query.get(name)}
    return app.events(
        request.headers.get("last-event-id") or query.get("after") or None, types=cast(Any, types), **named
    )


async def _serve(stream: EventStream, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    async with anyio.create_task_group() as group:
        group.start_soon(_until_gone, receive, group.cancel_scope)
        try:
            async with contextlib.aclosing(_pieces(stream)) as pieces:
                async for piece in pieces:
                    with _send_limit():
                        await send(_body(piece, more=True))
                    await anyio.lowlevel.checkpoint()  # one who reads days of the log is not alone on this loop
            with _send_limit():
                await send(_body(b"", more=False))
        except (TimeoutError, OSError):
            _cut(receive)  # it takes nothing any more; what it had, it knows
        group.cancel_scope.cancel()


@contextlib.contextmanager
def _send_limit() -> Iterator[None]:
    """What is sent inside is taken in time, else a TimeoutError; at once if the server is to stop meanwhile."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + _SEND_LIMIT
    scope = anyio.CancelScope()
    next_look = loop.call_later(_LOOK, lambda: look())

    def look() -> None:
        nonlocal next_look
        if loop.time() >= ends or _is_stopping():
            scope.cancel()
        else:
            next_look = loop.call_later(_LOOK, look)

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


async def _pieces(stream: EventStream) -> AsyncGenerator[bytes, None]:
    """The text of one stream, until its time is over or the server stops."""
    yield f"retry: {_RETRY}\nid: {stream.place}\n\n".encode()
    now = time.monotonic()
    ends, told = now + _LIFE * random.uniform(0.8, 1.2), now  # noqa: S311 - spreads load, guards nothing
    while (now := time.monotonic()) < ends and not _is_stopping():
        try:
            rows = await stream.rows(min(_LOOK, ends - now))
        except EventsLost as lost:
            stream.jump(Place.read(lost.oldest))
            yield _message(lost.oldest, "reset", orjson.dumps({"oldest": lost.oldest}))
            continue
        except (AppClosed, *DATABASE_ERRORS):
            return
        for piece in _texts(rows):
            told = now
            yield piece
        if now - told > _HEARTBEAT:
            told = now
            yield f"id: {stream.place}\n\n".encode()  # no event: it only moves the client's place


def _texts(rows: Sequence[tuple[Entry, Sequence[int]]]) -> Iterator[bytes]:
    """The events of these rows as text, in pieces of a size to send. Made once for all streams."""
    piece = b""
    for entry, indexes in rows:
        texts = entry.kept.setdefault("sse", {})
        for index in indexes:
            piece += texts.get(index) or texts.setdefault(index, _text(entry.event(index)))
            if len(piece) > _PIECE:
                yield piece
                piece = b""
    if piece:
        yield piece


def _text(event: Event) -> bytes:
    return _message(event.id, event.type, orjson.dumps(event_document(event)))


def _message(id: str, kind: str, data: bytes) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (id.encode(), kind.encode(), data)


def _body(piece: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": more}


def _plain_headers() -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in _HEADERS]


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _is_stopping() -> bool:
    """Whether uvicorn was told to stop: it waits for every answer under way, and says nothing to them."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


async def _live(receive: Receive, send: Send) -> None:
    """Served by itself, not mounted."""
    while True:
        kind = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return
