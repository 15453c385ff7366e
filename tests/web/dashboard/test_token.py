"""The log-in with a token: what `web --token-file` puts before the dashboard."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from jobqueue import App
from jobqueue.web import create_app
from jobqueue.web.dashboard.access.token import (
    LIFE,
    MINUTE,
    WRONG,
    Sessions,
    Token,
)
from jobqueue.web.dashboard.entrance.login import COOKIE, TokenGate

SECRET = "correct-horse-battery-staple"
FORM = {"sec-fetch-site": "same-origin"}
PAGE = "/nowhere"
LET_IN = 404
APP = App("postgresql://nowhere.invalid/none")


@asynccontextmanager
async def somebody(
    host: str = "http://localhost", peer: str = "127.0.0.1", root: str = ""
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser before a dashboard with a token."""
    site = create_app(APP, authorize=TokenGate(SECRET, "shop"))
    transport = httpx.ASGITransport(site, client=(peer, 4711), root_path=root)
    async with httpx.AsyncClient(transport=transport, base_url=host, headers={"accept": "text/html"}) as client:
        yield client


async def log_in(client: httpx.AsyncClient, token: str = SECRET, to: str = "/", at: str = "/login") -> httpx.Response:
    return await client.post(at, data={"token": token, "next": to}, headers=FORM)


async def test_one_logs_in_and_out() -> None:
    """From a page to the log-in and back to that page; after the log-out the old cookie lets nobody in."""
    async with somebody() as client:
        answer = await client.get(f"{PAGE}?state=dead&q=a%26b")
        assert (303, "no-store") == (answer.status_code, answer.headers["cache-control"])
        form = await client.get(answer.headers["location"])
        assert f'name="next" value="{PAGE}?state=dead&amp;q=a%26b"' in form.text
        answer = await log_in(client, to=f"{PAGE}?state=dead&q=a%26b")
        assert (303, f"{PAGE}?state=dead&q=a%26b") == (answer.status_code, answer.headers["location"])
        page = await client.get(PAGE)
        assert (LET_IN, True) == (page.status_code, 'action="/logout"' in page.text)
        assert (303, "/") == (
            (await client.get("/login")).status_code,
            (await client.get("/login")).headers["location"],
        )
        kept = client.cookies[COOKIE]
        assert "/login" == (await client.post("/logout", headers=FORM)).headers["location"]
        assert COOKIE not in client.cookies
        assert 303 == (await client.get(PAGE, headers={"cookie": f"{COOKIE}={kept}"})).status_code


async def test_the_log_in_has_its_looks_without_a_token() -> None:
    """Its style sheets are served to all, and nothing else is."""
    async with somebody() as client:
        page = (await client.get("/login")).text
        sheet = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
        assert "text/css" in (await client.get(sheet)).headers["content-type"]
        assert "<script" not in page
        for path in ("/static/../", "/static/0/../../nowhere", "/static/0/nowhere", "/static"):
            assert (await client.get(path)).status_code in (303, 404)


@pytest.mark.parametrize(
    ("host", "secure"),
    [("http://localhost:8080", False), ("http://127.0.0.1", False), ("http://[::1]", False),
     ("https://jobs.example", True), ("http://jobs.example", True)],
)  # fmt: skip
async def test_the_cookie_is_kept_from_others(host: str, secure: bool) -> None:
    """Scripts do not see it, other sites do not send it, only TLS carries it, and nothing of the secret is in it."""
    async with somebody(host) as client:
        cookie = (await log_in(client)).headers["set-cookie"]
    parts = {part.strip().lower() for part in cookie.split(";")}
    assert {"httponly", "samesite=strict", "path=/"} <= parts
    assert secure == ("secure" in parts)
    assert SECRET not in cookie


async def test_without_tls_the_page_says_why_the_log_in_will_not_hold() -> None:
    """The browser would throw the cookie away, and show the log-in again and again."""
    async with somebody("http://jobs.example") as client:
        assert "without TLS" in (await client.get("/login")).text
        behind_proxy = await client.get("/login", headers={"x-forwarded-proto": "https"})
        assert "without TLS" not in behind_proxy.text
    async with somebody() as client:
        assert "without TLS" not in (await client.get("/login")).text


async def test_a_link_from_another_site_finds_whoever_is_logged_in() -> None:
    """SameSite=Strict keeps the cookie from a click in a mail: the log-in loads itself once more, then has it."""
    async with somebody() as client:
        assert 'http-equiv="refresh"' in (await client.get("/login", headers={"sec-fetch-site": "cross-site"})).text
        assert 'http-equiv="refresh"' not in (await client.get("/login", headers=FORM)).text


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "",
     "/%2e%2e/x", "/a/../../x", "/a\nSet-Cookie: x=1", "evil.example", "/\t/evil.example"],
)  # fmt: skip
@pytest.mark.parametrize("root", ["", "/jobs"])
async def test_one_is_led_to_own_pages_only(to: str, root: str) -> None:
    """Whatever a link to the log-in says."""
    async with somebody(root=root) as client:
        answer = await log_in(client, to=to, at=f"{root}/login")
        again = await client.get(f"{root}/login", params={"next": to})
    assert f"{root}/" == answer.headers["location"]
    assert f"{root}/" == again.headers["location"]


@pytest.mark.parametrize(
    ("to", "led"), [("/jobs/queues", "/jobs/queues"), ("/jobs", "/jobs"), ("/jobsy", "/jobs/jobsy")]
)
async def test_below_a_mount_pages_are_below_it(to: str, led: str) -> None:
    """A path of the site around it is none of the dashboard's."""
    async with somebody(root="/jobs") as client:
        assert led == (await log_in(client, to=to, at="/jobs/login")).headers["location"]


@pytest.mark.parametrize("headers", [{}, {"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}])
async def test_nobody_is_logged_in_or_out_by_another_site(headers: dict[str, str]) -> None:
    """Such a form is refused, with the right token too."""
    async with somebody() as client:
        for path in ("/login", "/logout"):
            answer = await client.post(path, data={"token": SECRET}, headers=headers)
            assert (403, None) == (answer.status_code, answer.headers.get("set-cookie"))


async def test_programs_send_the_token() -> None:
    """As a Bearer; without it 401, in JSON below /api; what changes something needs nothing else."""
    right = {"authorization": f"Bearer {SECRET}"}
    async with somebody() as client:
        for headers in ({}, {"authorization": f"Basic {SECRET}"}, {"authorization": "Bearer x"}, {"authorization": ""}):
            answer = await client.get("/api/v1/nothing", headers=headers)
            assert (401, "Bearer") == (answer.status_code, answer.headers["www-authenticate"])
            assert "application/problem+json" == answer.headers["content-type"]
        assert LET_IN == (await client.get("/api/v1/nothing", headers=right)).status_code
        assert LET_IN == (await client.post("/api/v1/nothing", headers=right)).status_code
        assert 401 == (await client.get(PAGE, headers={"accept": "*/*"})).status_code
        assert 401 == (await client.get(PAGE, headers={"hx-request": "true"})).status_code
        assert 401 == (await client.post(PAGE, headers=FORM)).status_code


async def test_a_wrong_token_is_told_and_counted() -> None:
    """Ten in a minute, then 429 with the time to wait, for the right one too, and for programs as well."""
    async with somebody() as client:
        for _ in range(WRONG - 1):
            answer = await log_in(client, "wrong")
            assert (403, True) == (answer.status_code, "That is not the token" in answer.text)
            assert "wrong" not in answer.text.replace("That is not the token", "").replace("note bad", "")
        assert 401 == (await client.get("/api/v1/x", headers={"authorization": "Bearer wrong"})).status_code
        for answer in (
            await log_in(client),
            await client.get("/api/v1/x", headers={"authorization": f"Bearer {SECRET}"}),
        ):
            assert 429 == answer.status_code
            assert 50 <= int(answer.headers["retry-after"]) <= MINUTE
            assert "set-cookie" not in answer.headers


async def test_whoever_is_in_stays_in_while_somebody_guesses() -> None:
    """Only the log-in is closed."""
    async with somebody() as client:
        await log_in(client)
        for _ in range(WRONG):
            await log_in(client, "wrong")
        assert 429 == (await log_in(client, "wrong")).status_code
        assert LET_IN == (await client.get(PAGE)).status_code


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [("application/json", b"{}", 415), ("application/x-www-form-urlencoded", b"token=" + b"x" * 9_000, 413),
     ("application/x-www-form-urlencoded", b"token=\xff", 400), ("application/x-www-form-urlencoded", b"", 403),
     ("application/x-www-form-urlencoded", b"token=%ff%fe", 400)],
)  # fmt: skip
async def test_a_form_that_is_none_is_refused(kind: str, body: bytes, status: int) -> None:
    """Each is one answer, none an error."""
    async with somebody() as client:
        answer = await client.post("/login", content=body, headers=FORM | {"content-type": kind})
    assert status == answer.status_code


class Clock:
    """Goes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_after_a_minute_one_may_try_again() -> None:
    """Peers are counted apart, an IPv6 network as one."""
    clock = Clock()
    token = Token(SECRET, clock)
    for each in range(WRONG):
        assert 0 == token.wait("2001:db8::1")
        assert not token.is_right("wrong", f"2001:db8::{each:x}")
    assert MINUTE == token.wait("2001:db8::ffff")
    assert 0 == token.wait("2001:db9::1")
    clock.now += MINUTE - 1
    assert 1 == token.wait("2001:db8::1")
    clock.now += 1
    assert 0 == token.wait("2001:db8::1")


def test_whoever_guesses_from_many_addresses_keeps_nobody_out() -> None:
    """Nor does he fill the memory: of those who were wrong the oldest is forgotten."""
    clock = Clock()
    token = Token(SECRET, clock)
    for _ in range(WRONG):
        token.is_right("wrong", "10.0.0.0")
    for each in range(1, 20_000):
        token.is_right("wrong", f"10.0.{each // 256}.{each % 256}")
    assert 0 == token.wait("192.0.2.1")
    assert token.is_right(SECRET, "192.0.2.1")
    assert 0 == token.wait("10.0.0.0"), "it was forgotten"


def test_a_log_in_ends_by_itself() -> None:
    """After half a day; and of a thousand the oldest makes room for the next."""
    clock = Clock()
    sessions = Sessions(clock)
    first = sessions.begin()
    clock.now += LIFE - 1
    assert sessions.has(first)
    clock.now += 1
    assert not sessions.has(first)
    many = [sessions.begin() for _ in range(1_001)]
    assert not sessions.has(many[0])
    assert sessions.has(many[1])
    assert not sessions.has(None)
