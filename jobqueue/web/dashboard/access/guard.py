"""Stands before everything: asks who sends a request, refuses what may not be, and puts the headers on each answer."""

from dataclasses import replace

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobqueue.web.dashboard.access.access import Access, Authorize
from jobqueue.web.dashboard.access.asking import ask
from jobqueue.web.dashboard.access.loopback import why_not_local
from jobqueue.web.dashboard.access.mounted import is_look, placed
from jobqueue.web.dashboard.access.origin import from_our_page
from jobqueue.web.dashboard.access.problem import refusal

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
    "referrer-policy": "same-origin",  # `no-referrer` would make the Origin of our own forms `null`
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """ASGI middleware around the dashboard: its files and its JSON as well as its pages."""

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
            request = Request(placed(scope), receive)
            refused = await self._refusal(request)
            await (refused or self._app)(request.scope, receive, _with_headers(send))

    async def _refusal(self, request: Request) -> Response | None:
        found = await self._ask(request)
        if isinstance(found, Response):
            return found
        if self._read_only and found.operate:
            found = replace(found, operate=False)
        if request.method not in _SAFE:
            if not from_our_page(request):
                return refusal(
                    request, 403,
                    "this did not come from a page of this dashboard; programs send an Authorization header, "
                    "or Sec-Fetch-Site: same-origin",
                )  # fmt: skip
            if not found.operate and not is_look(request.scope):
                why = "you may look, but not change anything"
                why = "this dashboard is for looking only" if self._read_only else why
                return refusal(request, 403, why)
        request.scope[ACCESS] = found
        return None

    async def _ask(self, request: Request) -> Access | Response:
        if self._authorize is not None:
            return await ask(self._authorize, request)
        why_not = why_not_local(request)
        return refusal(request, 403, why_not) if why_not else Access("local", operate=True, payloads=True)


def access_of(request: Request) -> Access:
    """What the sender of this request may do."""
    access: Access = request.scope[ACCESS]
    return access


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
            message = {**message, "headers": headers.raw}
        await send(message)

    return sending
