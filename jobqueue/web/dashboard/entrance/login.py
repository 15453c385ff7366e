"""Lets in whoever knows a token: programs send it with each request, people log in with it once.

For `python -m jobqueue web --token-file`. Works without JavaScript.
"""

import math
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from jobqueue.web.dashboard.access.access import Access
from jobqueue.web.dashboard.access.loopback import is_local_name
from jobqueue.web.dashboard.access.mounted import base, below, is_api, own_path
from jobqueue.web.dashboard.access.origin import from_our_page
from jobqueue.web.dashboard.access.problem import refusal
from jobqueue.web.dashboard.access.token import LIFE, Sessions, Token
from jobqueue.web.dashboard.acting.form import read_form
from jobqueue.web.dashboard.pages.sheet import LEAVES
from jobqueue.web.dashboard.showing.rendering import render
from jobqueue.web.dashboard.showing.static import static_path

COOKIE = "jobqueue_login"
_FORM_LIMIT = 8 << 10
_WRONG = "That is not the token."
_SLOWLY = "Too many wrong ones."


class TokenGate:
    """An `authorize` that asks for a token. Whoever has it may do everything."""

    def __init__(self, token: str, title: str) -> None:
        self._token = Token(token)
        self._sessions = Sessions()
        self._title = title

    async def __call__(self, request: Request) -> Access | Response:
        path = below(request.scope)
        if path == "/login":
            return await self._login(request)
        if path == "/logout" and request.method == "POST":
            return self._logout(request)
        if path.startswith("/static/") and request.method in ("GET", "HEAD"):
            return Access("nobody", queues=())  # what the log-in looks like; there is no secret in it
        if (said := request.headers.get("authorization")) is not None:
            return self._program(request, said)
        if self._sessions.has(request.cookies.get(COOKIE)):
            request.scope[LEAVES] = True
            return Access("token", operate=True, payloads=True)
        return self._unknown(request)

    def _program(self, request: Request, said: str) -> Access | Response:
        kind, _, token = said.partition(" ")
        if kind.lower() != "bearer":
            return _unauthorized(request, "send the token as Authorization: Bearer ...")
        peer = _peer(request)
        if wait := math.ceil(self._token.wait(peer)):
            return refusal(request, 429, _SLOWLY, {"retry-after": str(wait)})
        if not self._token.is_right(token.strip(), peer):
            return _unauthorized(request, _WRONG)
        return Access("token", operate=True, payloads=True)

    async def _login(self, request: Request) -> Response:
        if request.method == "POST":
            return await self._enter(request)
        if request.method not in ("GET", "HEAD"):
            return refusal(request, 405, "only GET and POST", {"allow": "GET, HEAD, POST"})
        wanted = request.query_params.get("next")
        if self._sessions.has(request.cookies.get(COOKIE)):
            return _go(own_path(request.scope, wanted))
        return self._page(request, wanted)

    async def _enter(self, request: Request) -> Response:
        if not from_our_page(request):
            return refusal(request, 403, "this did not come from a page of this dashboard")
        form = await read_form(request, _FORM_LIMIT)
        wanted, said, peer = form.get("next"), form.get("token", ""), _peer(request)
        if wait := math.ceil(self._token.wait(peer)):
            page = self._page(request, wanted, 429, f"{_SLOWLY} Try again in {wait} seconds.")
            page.headers["retry-after"] = str(wait)
            return page
        if not self._token.is_right(said.strip(), peer):
            return self._page(request, wanted, 403, _WRONG)
        answer = _go(own_path(request.scope, wanted))
        _set_cookie(answer, request, self._sessions.begin(), LIFE)
        return answer

    def _logout(self, request: Request) -> Response:
        if not from_our_page(request):
            return refusal(request, 403, "this did not come from a page of this dashboard")
        self._sessions.end(request.cookies.get(COOKIE))
        answer = _go(f"{base(request.scope)}/login")
        _set_cookie(answer, request, "", 0)
        return answer

    def _unknown(self, request: Request) -> Response:
        asks_for_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if is_api(request.scope) or not asks_for_page or "hx-request" in request.headers:
            return _unauthorized(request, "log in first, or send the token as Authorization: Bearer ...")
        query = f"?{request.url.query}" if request.url.query else ""
        wanted = own_path(request.scope, request.url.path + query)
        return _go(f"{base(request.scope)}/login?{urlencode({'next': wanted})}")

    def _page(self, request: Request, wanted: str | None, status: int = 200, wrong: str | None = None) -> HTMLResponse:
        values = {
            "base": base(request.scope),
            "title": self._title,
            "static": static_path,
            "next": own_path(request.scope, wanted),
            "wrong": wrong,
            "again": status == 200 and request.headers.get("sec-fetch-site") == "cross-site",
            "unkept": _is_secure(request) and _is_plain(request),
        }
        return HTMLResponse(render("login.html", values), status)


def _set_cookie(answer: Response, request: Request, value: str, age: int) -> None:
    path, secure = f"{base(request.scope)}/", _is_secure(request)
    answer.set_cookie(COOKIE, value, age, path=path, secure=secure, httponly=True, samesite="strict")


def _is_secure(request: Request) -> bool:
    """The browser sends the cookie only over TLS; but to its own machine, where there is none."""
    return not is_local_name(request.headers.get("host", ""))


def _is_plain(request: Request) -> bool:
    """It seems that nobody has spoken TLS with the browser: then it keeps no secure cookie."""
    return "https" not in (request.url.scheme, request.headers.get("x-forwarded-proto", "").lower())


def _unauthorized(request: Request, sentence: str) -> Response:
    return refusal(request, 401, sentence, {"www-authenticate": "Bearer"})


def _go(path: str) -> Response:
    return RedirectResponse(path, 303)


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""
