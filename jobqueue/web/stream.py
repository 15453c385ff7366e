"""Server-sent events: what becomes of jobs, streamed to browsers and other programs.

Each stream takes what lies behind its own place from the one reader of its event loop (`events/feed.py`): a slow client
falls back to the log, and costs nobody else anything. A stream ends after some seconds, or at once when the server is
told to stop, and the browser goes on by itself where it was.
"""

import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias, cast

import anyio
import orjson

from jobqueue.app import App
from jobqueue.base.errors import AppClosed, ConfigurationError, EventsLost, InvalidOption, JobQueueError
from jobqueue.base.flows.event import Choice, Entry, Event, Place, event_document
from jobqueue.base.log import get_logger
from jobqueue.events.stream import EventStream
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.web.sse import HEADERS, LOOK, RETRY, is_stopping, life, message, serve

try:
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.types import ASGIApp, Receive, Scope, Send
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

Authorize: TypeAlias = Callable[[Scope, Choice], Awaitable[bool] | bool]

_FILTERS = ("types", "task", "queue", "origin", "job", "bundle")
_HEARTBEAT = 5.0
"""Seconds of silence after which the client is told where it stands, which also finds out whether it is there."""
_BEGIN_LIMIT = 5.0
"""Seconds after which a new client is sent away while the log cannot be read."""
_PIECE = 64 << 10
_MOST = 1_000

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
            await serve(_pieces(stream), receive, send)
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


async def _pieces(stream: EventStream) -> AsyncGenerator[bytes, None]:
    """The text of one stream, until its time is over or the server stops."""
    yield f"retry: {RETRY}\nid: {stream.place}\n\n".encode()
    ends, told = life(), time.monotonic()
    while (now := time.monotonic()) < ends and not is_stopping():
        try:
            rows = await stream.rows(min(LOOK, ends - now))
        except EventsLost as lost:
            stream.jump(Place.read(lost.oldest))
            yield message(lost.oldest, "reset", orjson.dumps({"oldest": lost.oldest}))
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
    return message(event.id, event.type, orjson.dumps(event_document(event)))


def _plain_headers() -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in HEADERS]


async def _live(receive: Receive, send: Send) -> None:
    """Served by itself, not mounted."""
    while True:
        kind = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return
