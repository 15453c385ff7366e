"""Who is let in by the dashboard, who may change something, and what each answer says to browsers."""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse

from jobqueue import App
from jobqueue.web import Access, create_app
from tests.support.patience import PATIENCE
from tests.web.dashboard.knocking import knock
from tests.web.dashboard.visiting import OPERATOR, READER

APP = App("postgresql://nowhere.invalid/none")
"""Nobody comes so far that the database is asked."""
PAGE = "/nowhere"
"""404 for those who are let in: no database is needed for that."""
LET_IN = 404


def letting(access: Any) -> Callable[[Request], Any]:
    """Gives an `authorize` that says this of everybody."""

    def authorize(request: Request) -> Any:
        return access

    return authorize


async def knowing(request: Request) -> Access:
    """Knows everybody."""
    return READER


# the rule without `authorize`


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
async def test_somebody_at_this_machine_is_let_in(host: str, peer: str) -> None:
    """A loopback peer, a loopback name, no proxy."""
    answer = await knock(create_app(APP), PAGE, headers={"host": host}, client=(peer, 1))
    assert LET_IN == answer.status


@pytest.mark.parametrize("path", ["/", PAGE, "/static/0/site.css", "/api/v1/overview", "/api/v1/openapi.json"])
@pytest.mark.parametrize(
    ("headers", "scope", "sentence"),
    [
        ({"host": "localhost"}, {"client": ("10.0.0.8", 1)}, "only on the machine"),
        ({"host": "localhost"}, {"client": ("fe80::1%eth0", 1)}, "only on the machine"),
        ({"host": "localhost"}, {"client": None}, "only on the machine"),
        ({"host": "localhost"}, {"client": ("localhost", 1)}, "only on the machine"),
        ({"host": "evil.example"}, {}, "as localhost"),
        ({"host": "localhost.evil.example"}, {}, "as localhost"),
        ({"host": "127.0.0.1.evil.example:8080"}, {}, "as localhost"),
        ({"host": "[::1].evil.example"}, {}, "as localhost"),
        ({"host": "::1"}, {}, "as localhost"),
        ({"host": ""}, {}, "as localhost"),
        ({}, {}, "as localhost"),
        ([("host", "localhost"), ("host", "evil.example")], {}, "as localhost"),
        ({"host": "localhost", "forwarded": "for=10.0.0.8"}, {}, "through a proxy"),
        ({"host": "localhost", "x-forwarded-for": "127.0.0.1"}, {}, "through a proxy"),
        ({"host": "localhost", "x-forwarded-anything": ""}, {}, "through a proxy"),
        ({"host": "localhost", "x-real-ip": "127.0.0.1"}, {}, "through a proxy"),
        ({"host": "localhost", "via": "1.1 cache"}, {}, "through a proxy"),
        ({"host": "127.0.0.1:8080"}, {"http_version": "1.0"}, "through a proxy"),  # nginx as it comes
    ],
)
async def test_nobody_else_is(path: str, headers: Any, scope: Any, sentence: str) -> None:
    """S2-18: 403 for pages, files and JSON, with the sentence that says what to set."""
    answer = await knock(create_app(APP), path, headers=headers, **scope)
    assert 403 == answer.status
    assert sentence in answer.text
    assert "create_app(app, authorize=...)" in answer.text


# the hook


@pytest.mark.parametrize(
    "authorize",
    [letting(READER), lambda request: knowing(request), functools.partial(knowing), knowing],
    ids=["def", "lambda that gives a coroutine", "partial", "async def"],
)
async def test_the_hook_is_asked_instead(authorize: Any) -> None:
    """With it the rule of loopback does not hold: a peer from elsewhere, through a proxy, is let in."""
    far = {"host": "jobs.example", "x-forwarded-for": "10.0.0.8"}
    answer = await knock(create_app(APP, authorize=authorize), PAGE, headers=far, client=("10.0.0.8", 1))
    assert LET_IN == answer.status


class Hook:
    """An object that counts how often it was asked."""

    asked = 0

    async def __call__(self, request: Request) -> Access:
        self.asked += 1
        return READER


async def test_it_is_asked_on_each_request() -> None:
    """Nothing is remembered: what was taken from somebody is gone at the next request. Files are no exception."""
    hook = Hook()
    site = create_app(APP, authorize=hook)
    for path in (PAGE, PAGE, "/api/v1/nothing", "/static/0/site.css"):
        assert LET_IN == (await knock(site, path)).status
    assert 4 == hook.asked


async def test_a_hook_that_knows_nobody_is_403() -> None:
    """None lets nobody in, to pages and files; programs are told in JSON."""
    site = create_app(APP, authorize=letting(None))
    for path in (PAGE, "/", "/static/0/site.css"):
        answer = await knock(site, path)
        assert (403, "not allowed\n") == (answer.status, answer.text)
    answer = await knock(site, "/api/v1/overview")
    assert (403, "application/problem+json") == (answer.status, answer.headers["content-type"])


async def test_a_hook_may_send_something_else() -> None:
    """A response is sent as it is, such as a redirect to a log-in, and so is an HTTPException."""

    async def leave(request: Request) -> Any:
        raise HTTPException(401, "log in at /enter", {"www-authenticate": "Bearer"})

    answer = await knock(create_app(APP, authorize=letting(RedirectResponse("/enter", 303))), PAGE)
    assert (303, "/enter") == (answer.status, answer.headers["location"])
    answer = await knock(create_app(APP, authorize=leave), PAGE)
    assert (401, "Bearer", "log in at /enter\n") == (answer.status, answer.headers["www-authenticate"], answer.text)


async def test_a_hook_that_fails_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    """500 without its text; the log has the class alone: the text may quote a password."""

    def fail(request: Request) -> Any:
        raise RuntimeError("password of the directory: hunter2")

    answer = await knock(create_app(APP, authorize=fail), PAGE)
    assert 500 == answer.status
    assert "hunter2" not in answer.text
    assert "hunter2" not in caplog.text
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize("given", [True, "ada", {"user": "ada"}, Access, 1])
async def test_a_hook_that_gives_something_else_lets_nobody_in(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    """True is no Access: it does not say what may be done."""
    answer = await knock(create_app(APP, authorize=letting(given)), PAGE)
    assert 500 == answer.status
    assert "TypeError" in caplog.text


async def test_a_slow_hook_keeps_nobody_waiting() -> None:
    """A plain function runs in a thread: the event loop goes on, and answers others."""
    other_has_been_asked = threading.Event()

    def ask_somebody(request: Request) -> Access:
        if request.url.path == "/first":
            assert other_has_been_asked.wait(PATIENCE)
        else:
            other_has_been_asked.set()
        return READER

    site = create_app(APP, authorize=ask_somebody)
    answers = await asyncio.gather(knock(site, "/first"), knock(site, "/second"))
    assert [LET_IN, LET_IN] == [answer.status for answer in answers]


# what changes something


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),  # another program on a port of this host, too
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://jobs.example:8080"}, False),
        ({"sec-fetch-site": "cross-site", "authorization": "Bearer x"}, False),
        ({"origin": "http://jobs.example:8080"}, True),
        ({"origin": "https://jobs.example:8080"}, True),  # TLS ends at a proxy
        ({"origin": "http://jobs.example"}, False),
        ({"origin": "http://jobs.example:8081"}, False),
        ({"origin": "http://evil.example:8080"}, False),
        ({"origin": "http://evil.example/jobs.example:8080"}, False),
        ({"origin": "http://jobs.example:8080@evil.example"}, False),
        ({"origin": "http://evil.example", "authorization": "Basic eA=="}, False),
        ({"origin": "null"}, False),
        ({"origin": "null", "host": ""}, False),
        ({"origin": "https://", "host": ""}, False),
        ({"origin": ""}, False),
        ({"origin": "http://[::1"}, False),
        ({"origin": "http://jobs.example:port"}, False),
        ({"authorization": "Bearer x"}, True),
        ({}, False),
        ({"cookie": "jobqueue_login=x"}, False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "STRANGE"])
async def test_a_forged_request_changes_nothing(method: str, headers: dict[str, str], good: bool) -> None:
    """Browsers must say that a page of ours has sent it; programs must show that they are some."""
    site = create_app(APP, authorize=letting(OPERATOR))
    answer = await knock(site, PAGE, method, {"host": "jobs.example:8080"} | headers)
    assert (LET_IN if good else 403) == answer.status


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "good"),
    [
        ("https://jobs.example", "jobs.example", "http", True),
        ("https://jobs.example", "jobs.example:443", "http", True),
        ("http://jobs.example:80", "jobs.example", "http", True),
        ("http://jobs.example:443", "jobs.example", "http", False),
        ("http://jobs.example", "jobs.example", "https", False),  # a page that anybody on the way could have written
        ("http://JOBS.example", "jobs.EXAMPLE", "http", True),
        ("http://[::1]:8080", "[::1]:8080", "http", True),
    ],
)
async def test_an_origin_is_ours_by_host_and_port(origin: str, host: str, scheme: str, good: bool) -> None:
    """The ports that are not written are those of the scheme."""
    site = create_app(APP, authorize=letting(OPERATOR))
    answer = await knock(site, PAGE, "POST", {"host": host, "origin": origin}, scheme=scheme)
    assert (LET_IN if good else 403) == answer.status


@pytest.mark.parametrize(
    ("access", "read_only", "sentence"),
    [(READER, False, "you may look"), (READER, True, "looking only"), (OPERATOR, True, "looking only")],
)
async def test_whoever_may_only_look_changes_nothing(access: Access, read_only: bool, sentence: str) -> None:
    """403 before any page is asked; looking goes on."""
    site = create_app(APP, authorize=letting(access), read_only=read_only)
    answer = await knock(site, PAGE, "POST", {"host": "x", "sec-fetch-site": "same-origin"})
    assert 403 == answer.status
    assert sentence in answer.text
    assert LET_IN == (await knock(site, PAGE)).status


async def test_read_only_holds_without_a_hook_too() -> None:
    """Whoever sits at this machine may do everything, but not that."""
    same = {"host": "localhost", "sec-fetch-site": "same-origin"}
    assert 403 == (await knock(create_app(APP, read_only=True), PAGE, "POST", same)).status
    assert LET_IN == (await knock(create_app(APP), PAGE, "POST", same)).status


# headers, and other ways to knock


@pytest.mark.parametrize("path", ["/", PAGE, "/api/v1/nothing"])
@pytest.mark.parametrize("access", [READER, None])
async def test_each_answer_has_the_headers(path: str, access: Access | None) -> None:
    """Nothing from elsewhere, no script in the page, in no frame, kept nowhere; no other site may read it."""
    headers = (await knock(create_app(APP, authorize=letting(access)), path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "nosniff" == headers["x-content-type-options"]
    assert "same-origin" == headers["referrer-policy"]
    assert "no-store" == headers["cache-control"]
    assert not [name for name in headers if name.startswith("access-control")]


async def test_a_preflight_is_answered_without_cors() -> None:
    """Pages of other sites get no leave to send anything."""
    ask = {"host": "x", "origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await knock(create_app(APP, authorize=letting(OPERATOR)), "/", "OPTIONS", ask)
    assert 405 == answer.status
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_method_that_a_page_does_not_know_is_405() -> None:
    """With the methods that it knows."""
    site = create_app(APP, authorize=letting(OPERATOR))
    answer = await knock(site, "/", "DELETE", {"host": "x", "authorization": "Bearer x"})
    assert (405, {"GET", "HEAD"}) == (answer.status, set(answer.headers["allow"].split(", ")))
    answer = await knock(site, "/api/v1/overview", "POST", {"host": "x", "authorization": "Bearer x"})
    assert (405, "application/problem+json") == (answer.status, answer.headers["content-type"])


async def test_a_websocket_is_closed() -> None:
    """There is nothing for one."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await create_app(APP)({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert [{"type": "websocket.close", "code": 1000}] == sent


async def test_served_by_itself_it_starts_and_ends() -> None:
    """A server tells it of its life; mounted, it hears nothing of that, as in all other tests here."""
    sent: list[str] = []
    told = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any:
        return next(told)

    await create_app(APP)({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == sent


def test_a_hook_that_is_no_function_is_refused() -> None:
    """At once, by name."""
    from jobqueue.base.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="authorize: "):
        create_app(APP, authorize="shop:who")  # type: ignore[arg-type]
