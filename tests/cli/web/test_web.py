"""`web`: real processes that serve the dashboard, what they refuse, and how they end."""

import re
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobqueue.cli.terminal.failures import Refusal
from jobqueue.cli.web.run import Wish, run_web
from tests.cli.conftest import Shop
from tests.support.patience import PATIENCE
from tests.support.programs.processes import CommandLine, Process
from tests.support.waiting import wait_until

HERE = "127.0.0.1:0"
ANYWHERE = "0.0.0.0"  # noqa: S104 - what is served there asks for a token, or is refused
TOKEN = "a token of 32 characters or more".replace(" ", "-")
HOOKS = """
import asyncio, os, time
from jobqueue.web import Access

async def who(request):
    if request.url.path == "/slow":
        open("asked", "w").close()
        await asyncio.sleep(3600)
    return Access("ada")

def blocking(request):
    open("asked", "w").close()
    while not os.path.exists("let go"):
        time.sleep(0.01)

nobody = 3
"""


async def url_of(process: Process) -> str:
    """Where it is served, as it says itself."""
    await process.says("Ctrl-C")
    found = re.search(r"open +(http://\S+)", process.err)
    assert found is not None
    return found[1]


def client(url: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_this_machine_until_a_signal(cli: CommandLine, shop: Shop, number: int) -> None:
    """S2-18: a page with the queues, nothing for a foreign name; it ends cleanly while a client is connected."""
    shop.defer("note", '{"n": 1}', "mail")
    process = cli.start("web", "shop:app", "--http", HERE)
    url = await url_of(process)
    with client(url) as browser:
        page = browser.get("/")
        assert (200, True) == (page.status_code, "mail" in page.text)
        assert 403 == browser.get("/", headers={"Host": "evil.example"}).status_code
        assert 403 == browser.get("/", headers={"X-Forwarded-For": "127.0.0.1"}).status_code
        assert 200 == browser.get("/api/v1/overview").status_code
        process.signal(number)
        assert 0 == await process.ends()
    assert "Traceback" not in process.err
    assert "uvicorn" not in process.err


@pytest.mark.parametrize(("hook", "path"), [("who", "/slow"), ("blocking", "/")])
async def test_a_request_under_way_does_not_keep_it(cli: CommandLine, shop: Shop, hook: str, path: str) -> None:
    """An `authorize` that never answers, on the event loop or in a thread: the process ends all the same."""
    cli.module("hooks", HOOKS)
    process = cli.start("web", "shop:app", "--http", HERE, "--authorize", f"hooks:{hook}")
    url = httpx.URL(await url_of(process))
    with closing(socket.create_connection(("127.0.0.1", url.port or 0))) as slow:
        slow.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await until_there(cli.folder / "asked")
        process.signal(signal.SIGTERM)
        assert 0 == await process.ends()
    assert "Traceback" not in process.err


async def until_there(file: Path) -> None:
    await wait_until(file.exists, f"{file.name} is there")


async def test_a_stream_that_is_open_does_not_keep_it(cli: CommandLine, shop: Shop) -> None:
    """A page that is looked at lives on a stream: that ends when the process is to."""
    process = cli.start("web", "shop:app", "--http", HERE)
    url = httpx.URL(await url_of(process))
    with closing(socket.create_connection(("127.0.0.1", url.port or 0), PATIENCE)) as stream:
        stream.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seen = b""
        while b"data: " not in seen:
            seen += stream.recv(1 << 16)
        process.signal(signal.SIGTERM)
        assert 0 == await process.ends()
        while stream.recv(1 << 16):  # it ends in good order, not by a reset
            pass
    assert "Traceback" not in process.err


async def test_a_second_signal_waits_for_no_answer(cli: CommandLine, shop: Shop) -> None:
    """Whoever presses Ctrl-C twice means it."""
    cli.module("hooks", HOOKS)
    process = cli.start("web", "shop:app", "--http", HERE, "--authorize", "hooks:who")
    url = httpx.URL(await url_of(process))
    with closing(socket.create_connection(("127.0.0.1", url.port or 0))) as slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until_there(cli.folder / "asked")
        process.signal(signal.SIGINT)
        process.signal(signal.SIGINT)
        assert 0 == await process.ends()


async def test_a_token_lets_in(cli: CommandLine, shop: Shop) -> None:
    """At any address: programs send it, people log in with it; nobody else sees anything."""
    (cli.folder / "token").write_text(f"{TOKEN}\n")
    process = cli.start("web", "shop:app", "--http", f"{ANYWHERE}:0", "--token-file", "token", "--read-only")
    url = (await url_of(process)).replace(ANYWHERE, "127.0.0.1")
    with client(url) as program:
        assert 401 == program.get("/api/v1/overview").status_code
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert 200 == program.get("/api/v1/overview", headers=right).status_code
        assert "looking only" in program.post("/api/v1/overview", headers=right).text
    with client(url, Accept="text/html") as browser:
        page = browser.get("/", follow_redirects=True)
        assert "/login" == page.url.path
        sent = {"token": TOKEN, "next": "/"}
        page = browser.post("/login", data=sent, headers={"Sec-Fetch-Site": "same-origin"}, follow_redirects=True)
        assert (200, "/") == (page.status_code, page.url.path)
    assert TOKEN not in process.err


async def test_a_database_will_do_without_an_app(cli: CommandLine, shop: Shop) -> None:
    """--dsn, or JOBQUEUE_DSN: all is shown but what only code knows."""
    shop.defer("note", '{"n": 1}', "mail")
    process = cli.start("web", "--dsn", shop.dsn, "--http", HERE)
    with client(await url_of(process)) as browser:
        assert "mail" in browser.get("/").text
    process.signal(signal.SIGTERM)
    assert 0 == await process.ends()


async def test_a_dsn_goes_before_that_of_the_app(cli: CommandLine, shop: Shop) -> None:
    """As with all other verbs."""
    shop.defer("note", '{"n": 1}', "mail")
    process = cli.start("web", "shop:app", "--dsn", shop.dsn, "--http", HERE, SHOP_DSN="postgresql://nowhere.invalid/x")
    with client(await url_of(process)) as browser:
        assert "mail" in browser.get("/").text


async def test_it_serves_while_the_database_is_away(cli: CommandLine, shop: Shop) -> None:
    """Whoever opens it at 3 a.m. wants to be told so by a page."""
    process = cli.start("web", "--dsn", "postgresql://127.0.0.1:1/x", "--http", HERE)
    with client(await url_of(process)) as browser:
        page = browser.get("/")
    assert 503 == page.status_code
    assert "The database does not answer" in page.text


async def test_what_would_be_open_to_all_is_refused(cli: CommandLine) -> None:
    """Exit code 2, one line, before the user's own code is loaded: it says what helps."""
    answer = await cli.run("web", "nothing:app", "--http", f"{ANYWHERE}:0")
    assert (2, 1) == (answer.code, len(answer.err.splitlines()))
    assert "give --token-file or --authorize, or serve it at 127.0.0.1" in answer.err


@pytest.mark.parametrize(
    ("wishes", "code", "sentence"),
    [
        ({"http": "[::]:0"}, 2, "give --token-file or --authorize"),
        ({"http": "8080"}, 2, "--http: '8080' is no address"),
        ({"token_file": "token", "authorize": "web_hooks:who"}, 2, "give one of them"),
        ({"token_file": "nothing"}, 1, "cannot read nothing: No such file"),
        ({"token_file": "short"}, 1, "openssl rand -hex 32"),
        ({"token_file": "two"}, 1, "openssl rand -hex 32"),
        ({"token_file": "umlaut"}, 1, "ASCII"),
        ({"authorize": "web_hooks"}, 2, "write module:function"),
        ({"authorize": "web_hooks:nothing"}, 1, "web_hooks has no 'nothing'"),
        ({"authorize": "web_hooks:nobody"}, 1, "web_hooks:nobody is an int, not a function"),
        ({"schema": "other"}, 2, "--schema: that of the App is jobqueue"),
        ({"target": None}, 2, "which database?"),
    ],
)
def test_what_cannot_be_is_refused(
    wishes: dict[str, Any], code: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, before anything is served."""
    (tmp_path / "web_shop.py").write_text("from jobqueue import App\napp = App()\n")
    (tmp_path / "web_hooks.py").write_text(HOOKS)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "short").write_text("only 15 signs..")
    (tmp_path / "two").write_text(f"{TOKEN}\n{TOKEN}\n")
    (tmp_path / "umlaut").write_text(f"{TOKEN}ü", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("JOBQUEUE_DSN", raising=False)
    nothing: dict[str, Any] = dict.fromkeys(("dsn", "schema", "token_file", "authorize"))
    said: dict[str, Any] = {"target": "web_shop:app", "http": HERE, "read_only": False, **nothing, **wishes}
    wish = Wish(**said)
    try:
        with pytest.raises(Refusal, match=re.escape(sentence)) as refused:
            run_web(wish)
    finally:
        sys.modules.pop("web_shop", None)
        sys.modules.pop("web_hooks", None)
    assert code == refused.value.code


async def test_a_port_that_is_taken_is_one_line(cli: CommandLine) -> None:
    """Which address, and why."""
    cli.module("shop", "from jobqueue import App\napp = App()\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        answer = await cli.run("web", "shop:app", "--http", f"127.0.0.1:{port}")
    assert 1 == answer.code
    assert f"jobqueue: --http: cannot listen on 127.0.0.1:{port}: Address already in use\n" == answer.err


@pytest.mark.parametrize("missing", ["jinja2", "starlette", "uvicorn"])
async def test_a_missing_extra_says_how_to_install_it(cli: CommandLine, missing: str) -> None:
    """One line, whichever of its packages is not there."""
    cli.module(missing, f"raise ModuleNotFoundError(name={missing!r})")
    answer = await cli.run("web", "shop:app")
    assert (1, f'jobqueue: web: {missing} is not installed; pip install "jobqueue[web]"\n') == (answer.code, answer.err)
