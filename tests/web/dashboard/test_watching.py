"""Those who watch: how many may, what becomes of their places, and how a server ends under them."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import httpx
import pytest
import pytest_asyncio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from jobqueue.store.connection.edge import own_session
from jobqueue.store.looking import overview
from jobqueue.web import Access, create_app
from jobqueue.web.dashboard.live import looker
from jobqueue.web.dashboard.pages import live
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.site import Site
from tests.examples.programs import running
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE, scaled
from tests.support.waiting import wait_until
from tests.web.dashboard.watching import Viewer, watching, who

SITE = """
from jobqueue import App
from jobqueue.web import Access, create_app, sse
from jobqueue.web.dashboard.pages.live import Live

sse.LIFE = sse._SEND_LIMIT = 1e6  # no stream ends by its age, or because it is slow
told = Live.told


async def much(self, view):
    return b"x" * 10_000_000 if view.access.user == "deaf" else await told(self, view)


Live.told = much
site = create_app(App(), authorize=lambda request: Access(request.headers["who"]))
"""
SOON = 2.0


@pytest_asyncio.fixture
async def dashboard(database: str) -> AsyncIterator[ASGIApp]:
    app = new_app(database)
    async with app:
        yield create_app(app, authorize=who)


async def asked(dashboard: ASGIApp, user: str) -> Viewer:
    """One more, who leaves as soon as he is answered."""
    async with watching(dashboard, [user]) as (viewer,):
        await wait_until(lambda: viewer.status, "there is an answer")
    return viewer


async def test_two_hundred_may_watch(dashboard: ASGIApp) -> None:
    """Who comes then is told to come later; a page that was closed frees its place."""
    async with watching(dashboard, [f"user{n % 20}" for n in range(200)]) as many:
        await wait_until(lambda: all(each.status for each in many), "all are answered")
        assert {200} == {each.status for each in many}
        refused = await asked(dashboard, "late")
        assert (503, "5") == (refused.status, refused.headers["retry-after"])
        many[0].leave()

        async def is_let_in() -> bool:
            return 200 == (await asked(dashboard, "late")).status

        await wait_until(is_let_in, "there is room again")


async def test_ten_of_one_user_may_watch(dashboard: ASGIApp) -> None:
    """The eleventh is refused, whoever else watches is not; with one closed there is room for another."""
    async with watching(dashboard, ["ada"] * 10) as many:
        await wait_until(lambda: all(each.status for each in many), "all are answered")
        refused = await asked(dashboard, "ada")
        assert (503, "5") == (refused.status, refused.headers["retry-after"])
        assert 200 == (await asked(dashboard, "bob")).status
        many[0].leave()

        async def is_let_in() -> bool:
            return 200 == (await asked(dashboard, "ada")).status

        await wait_until(is_let_in, "there is room again")


async def test_a_slow_look_makes_the_next_wait(
    database: str, dashboard: ASGIApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs a twentieth of the time at most: after one of 0.2 s the next comes 4 s later; never more than 10."""
    clock = Clock()
    monkeypatch.setattr(looker, "time", clock)
    for cost, interval in ((0.01, 1.0), (0.2, 4.0), (3.0, 10.0)):
        app = new_app(database)
        read = overview.read_flow

        async def slow(*values: object, cost: float = cost, read: object = read) -> object:
            clock.now += cost
            return await read(*values)  # type: ignore[operator]

        async with app:
            looks = looker.Looker(app)
            with monkeypatch.context() as patch:
                patch.setattr(looker, "read_flow", slow)
                first = await looks.frame()
                assert interval == pytest.approx(looks.interval)
                clock.now += interval - 0.001
                assert first is await looks.frame()
                clock.now += 0.002
                assert first is not await looks.frame()


async def test_a_slow_reading_keeps_nobody_from_another(database: str) -> None:
    """Who asks for the same waits for it; what somebody has changed meanwhile is not hidden by what it finds."""
    begun, may_end, reads = anyio.Event(), anyio.Event(), list[str]()

    async def slow(session: object) -> str:
        reads.append("slow")
        begun.set()
        await may_end.wait()
        return "slow"

    async def quick(session: object) -> str:
        return "quick"

    async with new_app(database) as app, anyio.create_task_group() as group:
        looks = looker.Looker(app)
        for _ in range(3):
            group.start_soon(partial(looks.kept, "slow", 60.0, slow, within=PATIENCE))
        with anyio.fail_after(PATIENCE):
            await begun.wait()
            assert "quick" == await looks.kept("quick", 60.0, quick)
        assert ["slow"] == reads
        looks.look_anew()
        may_end.set()
    assert ["slow"] * 2 == reads


async def test_slow_searches_leave_connections_to_others(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once; a third waits for its turn, but not for ever. The look and what is quick go on."""
    monkeypatch.setattr(looker, "_LIMIT", 0.2)
    may_end, searching = anyio.Event(), list[int]()

    async def search(looks: looker.Looker) -> None:
        async with looks.turn(), own_session(app.looks) as session:
            await session.ready()
            searching.append(1)
            await may_end.wait()

    async def slow(session: object) -> None:
        await may_end.wait()

    async with new_app(database) as app, anyio.create_task_group() as group:
        looks = looker.Looker(app)
        for _ in range(2):
            group.start_soon(search, looks)
        await wait_until(lambda: len(searching) == 2, "two search")
        with pytest.raises(HTTPException, match="Others are searching"):
            await search(looks)
        group.start_soon(partial(looks.kept, "slow", 60.0, slow, within=PATIENCE))
        assert 0 == (await looks.frame()).number
        may_end.set()
    async with looks.turn():
        assert 2 == len(searching)


class Clock:
    """Time that passes when it is told to."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


async def test_what_renews_itself_is_read_once_for_all(dashboard: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at once; and what took long serves for twenty times as long."""
    clock, reads = Clock(), []
    monkeypatch.setattr(looker, "time", clock)

    async def read() -> int:
        reads.append(1)
        await anyio.lowlevel.checkpoint()
        clock.now += 0.2
        return len(reads)

    looks = looker.Looker(new_app("postgresql://nowhere.invalid/none"))
    assert [1] * 50 == await asyncio.gather(*(looks.renewed("list", 2.0, read) for _ in range(50)))
    clock.now += 3.7
    assert 1 == await looks.renewed("list", 2.0, read)
    assert 2 == await looks.renewed("another", 2.0, read)
    clock.now += 0.2
    assert 3 == await looks.renewed("list", 2.0, read)
    looks.look_anew()
    assert 4 == await looks.renewed("list", 2.0, read)
    clock.now += 60.0
    assert 5 == await looks.renewed("another", 2.0, read)
    assert None is looks.peek("list"), "what nobody asks for any more is forgotten"


async def test_what_is_told_to_very_many_kinds_of_users_is_not_kept(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may see queues of his own: then it is made anew, and does not fill the memory."""
    monkeypatch.setattr(live, "_MOST", 3)
    async with new_app(database) as app:
        site = Site(app, "shop", False, None, looker.Looker(app))
        streams = live.Live(site)
        for number in range(10):
            await streams.told(View(site, Access("ada", queues=[f"queue {number}"])))
        assert 1 <= len(streams._told) <= 4


async def test_a_server_with_fifty_open_pages_stops(database: str, tmp_path: Path) -> None:
    """It ends within two seconds, also if one of them reads nothing, and each stream ends as an answer should."""
    (tmp_path / "shop.py").write_text(SITE)
    command = ("-m", "uvicorn", "shop:site", "--port", "0")
    async with running(*command, dsn=database, log=tmp_path / "log", cwd=tmp_path) as server, AsyncExitStack() as stack:
        await server.says("Uvicorn running on")
        address = re.search(r"http://127\.0\.0\.1:(\d+)", server.said)
        assert address is not None
        await stack.enter_async_context(deaf_client(int(address[1])))
        client = httpx.AsyncClient(trust_env=False, timeout=PATIENCE, limits=httpx.Limits(max_connections=60))
        await stack.enter_async_context(client)
        for number in range(50):
            headers = {"who": f"user{number}"}
            opened = await stack.enter_async_context(client.stream("GET", f"{address[0]}/live", headers=headers))
            lines = opened.aiter_lines()
            while "event: look" != await anext(lines):
                pass
            stack.push_async_callback(ends, lines)
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began <= scaled(SOON)
    assert "Finished server process" in server.said
    assert "Traceback" not in server.said


async def ends(lines: AsyncIterator[str]) -> None:
    """Read what is left: it ends without an error."""
    async for _ in lines:
        pass


@asynccontextmanager
async def deaf_client(port: int) -> AsyncIterator[None]:
    """One who asks for more than fits into all buffers, and reads the first bytes only."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(deaf.connect, ("127.0.0.1", port))
        deaf.sendall(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nwho: deaf\r\n\r\n")
        answer = await asyncio.to_thread(deaf.recv, 1000)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        yield
