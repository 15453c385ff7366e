"""Stands before everything: asks who sends a request, refuses what may not be, and puts the headers on each answer."""

import inspect

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobqueue.web.dashboard.access.access import Access, Authorize
from jobqueue.web.dashboard.access.loopback import why_not_local

ACCESS = "jobqueue.access"
"""Where, in a request's scope, stands what its sender may do."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """ASGI middleware around the dashboard."""

    def __init__(self, app: ASGIApp, authorize: Authorize | None, read_only: bool) -> None:
        """Without `authorize` only somebody at this very machine is answered, and may do everything."""
        self._app = app
        self._authorize = authorize
        self._read_only = read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            with_headers = _with_headers(send)
            request = Request(scope)
            refusal = await self._refusal(request)
            await (refusal or self._app)(scope, receive, with_headers)

    async def _refusal(self, request: Request) -> Response | None:
        found = await self._ask(request)
        if isinstance(found, Response):
            return found
        if found is None:
            return PlainTextResponse("not allowed\n", 403)
        if self._read_only and found.operate:
            found = Access(found.user, False, found.payloads, found.queues)
        if request.method not in _SAFE:
            if not _from_our_page(request):
                return PlainTextResponse("this request did not come from a page of this dashboard\n", 403)
            if not found.operate:
                return PlainTextResponse("you may look, but not change anything\n", 403)
        request.scope[ACCESS] = found
        return None

    async def _ask(self, request: Request) -> Access | Response | None:
        if self._authorize is None:
            why_not = why_not_local(request)
            return PlainTextResponse(f"{why_not}\n", 403) if why_not else Access("local", True, True)
        found = self._authorize(request)
        return await found if inspect.isawaitable(found) else found


def access_of(request: Request) -> Access:
    """What the sender of this request may do."""
    access: Access = request.scope[ACCESS]
    return access


def _from_our_page(request: Request) -> bool:
    """Whether what changes something comes from a page of ours: browsers say so, other programs send a header."""
    headers = request.headers
    if (site := headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    if (origin := headers.get("origin")) is not None:
        return origin.partition("://")[2] == headers.get("host")
    return "authorization" in headers


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
            message["headers"] = headers.raw
        await send(message)

    return sending
