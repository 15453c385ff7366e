"""`jobqueue.web.events`: server-sent events over real connections."""

import asyncio
import re
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from jobqueue.app import App
from jobqueue.base.errors import ConfigurationError
from jobqueue.base.flows.event import Choice
from jobqueue.store.upkeep import Ages, sweep
from jobqueue.web import events, sse, stream
from tests.examples.programs import running
from tests.support.jobs.store import connect, open_database
from tests.support.jobs.told import cancelled, make_old
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import LISTENS, becomes
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until
from tests.web.streams import Message, asked, everybody, site, streaming

SITE = """
from jobqueue import App
from jobqueue.web import events, sse
from starlette.applications import Starlette
from starlette.routing import Mount

sse.LIFE = sse._SEND_LIMIT = 1e6  # no stream ends by its age, or because it is slow
app = App()
site = Starlette(routes=[Mount("/events", events(app, authorize=lambda scope, choice: True))])
"""


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    app = new_app(database, name="shop")
    async with app:
        yield app


@pytest_asyncio.fixture
async def url(app: App) -> AsyncIterator[str]:
    async with site(events(app, authorize=everybody)) as url:
        yield url


def jobs(messages: list[Message]) -> list[Any]:
    return [message.job for message in messages]


async def test_events_come_as_they_happen(app: App, url: str) -> None:
    """S2-10: each event is a message with its id, its type and plain facts; no page of another site may read it."""
    async with streaming(url) as client:
        made = await cancelled(app, 2, task="mail", origin="till")
        one, two = await client.take(2)
        headers = client.answer.headers

    assert sorted(made) == sorted([one.job, two.job])
    assert (one.id, one.event) == (one.data["id"], "job.cancelled")
    assert {
        "id": one.id, "type": "job.cancelled", "at": one.data["at"], "job_id": str(one.job), "task": "mail",
        "queue": "default", "origin": "till", "attempt": 0, "will_retry": False, "error": None, "reason": "requested",
        "bundle_id": None,
    } == one.data  # fmt: skip
    assert "text/event-stream; charset=utf-8" == headers["content-type"]
    assert ("no-store", "no") == (headers["cache-control"], headers["x-accel-buffering"])
    assert [] == [name for name in headers if name.startswith("access-control")]


async def test_a_browser_goes_on_where_it_was(app: App, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S2-35: streams end all the time, and clients leave in the middle; by Last-Event-ID none is missed or doubled."""
    life = sse.LIFE
    monkeypatch.setattr(sse, "LIFE", 0.05)
    made = [id for count in (7, 1, 30, 2) for id in await cancelled(app, count)]
    heard: list[Message] = []
    place, takes = "0", [3, 1, 50, 2, 9, 50]
    while len(heard) < len(made):
        async with streaming(url, after=place) as client:
            most = takes.pop(0) if takes else 50
            async for message in client.messages():
                heard += [message] if message.event else []
                if len(heard) >= len(made) or not (most := most - 1):
                    break
            place = client.place
    assert Counter(made) == Counter(jobs(heard))
    places = [tuple(map(int, message.id.split("."))) for message in heard]
    assert sorted(places) == places

    monkeypatch.setattr(sse, "LIFE", life)
    async with streaming(url, after=heard[4].id) as client, streaming(url, f"after={heard[4].id}") as other:
        assert [jobs(heard[5:8])] * 2 == [jobs(await client.take(3)), jobs(await other.take(3))]


async def test_filters_in_the_query(app: App, url: str) -> None:
    """S2-12: types with commas, task, queue, origin and job, also together, say what a client gets."""
    (mail,) = await cancelled(app, task="mail", origin="till")
    (other,) = await cancelled(app, queue="slow")
    await app.jobs.delete(mail)
    for query, expected in {
        "types=job.deleted": [mail],
        "types=job.deleted,job.cancelled&task=mail": [mail, mail],
        "types=job.deleted&types=job.cancelled&origin=till": [mail, mail],
        "queue=slow": [other],
        f"job={mail}&types=job.cancelled": [mail],
        "": [mail, other, mail],
    }.items():
        async with streaming(url, query, after="0") as client:
            assert expected == jobs(await client.take(len(expected))), query


async def test_what_is_wrong_is_refused(app: App, url: str) -> None:
    """An unknown filter, a type that there is not, and a place that is none are a 400 that says so; others a 405."""
    for query, words in {
        "taks=mail": "taks: there is no such filter; these are: types, task",
        "types=job.daed": "did you mean job.dead?",
        "job=7": "job: ",
        "after=x": "must be the id of an event",
    }.items():
        answer = await asked(url, query)
        assert (400, True) == (answer.status_code, words in answer.text), answer.text
    assert 400 == (await asked(url, **{"Last-Event-ID": "x"})).status_code
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = await asked(url, method=method)
        assert (405, "GET, HEAD") == (answer.status_code, answer.headers["allow"])
    head = await asked(url, method="HEAD")
    assert (200, b"", True) == (head.status_code, head.content, head.headers["content-type"].startswith("text/event"))
    with pytest.raises(ConfigurationError, match="authorize"):
        events(app, authorize=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_nobody_gets_in_unasked(app: App, database: str, kind: str) -> None:
    """S2-16: `authorize` is asked at each connect, with request and filters; False, None and an error refuse."""
    seen: list[Choice] = []

    def by_cookie(scope: Any, choice: Choice) -> Any:
        seen.append(choice)
        cookie = dict(scope["headers"]).get(b"cookie")
        if cookie == b"broken":
            raise KeyError(cookie)
        return True if cookie == b"user" and choice.queue == "mine" else None

    async def by_question(scope: Any, choice: Choice) -> Any:
        return by_cookie(scope, choice)

    async with site(events(app, authorize=by_cookie if kind == "def" else by_question)) as url:
        for method in ("GET", "HEAD"):
            assert 403 == (await asked(url, "queue=mine", method)).status_code
            assert 403 == (await asked(url, "queue=theirs", method, Cookie="user")).status_code
            assert 500 == (await asked(url, "queue=mine", method, Cookie="broken")).status_code
        assert 200 == (await asked(url, "queue=mine", "HEAD", Cookie="user")).status_code
    assert {"mine", "theirs"} == {choice.queue for choice in seen}
    await becomes(database, 0, LISTENS)


async def test_a_silent_stream_says_where_it_stands(app: App, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat has an id and no event: who waits for a rare one goes on from there, not from long ago."""
    monkeypatch.setattr(stream, "_HEARTBEAT", 0.0)
    monkeypatch.setattr(stream, "LOOK", 0.01)
    async with streaming(url, "task=rare", after="0") as client:
        await cancelled(app, 3)
        async with asyncio.timeout(PATIENCE):
            async for message in client.messages():
                assert message.event is None
                if message.id != "0":
                    break
        place = client.place
        (rare,) = await cancelled(app, task="rare")
        assert [rare] == jobs(await client.take(1))
    async with streaming(url, after=place) as client:
        assert [rare] == jobs(await client.take(1))


async def test_who_comes_too_late_begins_anew(app: App, url: str, database: str) -> None:
    """S2-35: if retention was quicker a client gets `reset`, with the place from which it has all that is left."""
    await cancelled(app, 3)
    async with streaming(url, after="0") as client:
        early = (await client.take(3))[0].id
    await make_old(database, 5)
    async with open_database(database) as db:
        assert 1 == (await sweep(db, Ages(events=2 * 86_400.0))).days
    left = await cancelled(app, 2)
    async with streaming(url, after=early) as client:
        reset, *others = await client.take(3)
    assert ("reset", {"oldest": reset.id}) == (reset.event, reset.data)
    assert sorted(left) == sorted(jobs(others))


async def test_nothing_of_a_payload_is_sent(database: str) -> None:
    """S2-16: arguments, results, progress and texts of errors stay where they are, whatever becomes of the job."""
    app = new_app(database)

    @app.task(max_attempts=2, retry=lambda job, error: 0.0, follow=True)
    async def fails(word: str) -> None:
        raise ValueError(word)

    @app.task(follow=True)
    async def works(word: str) -> str:
        return word

    async with app, site(events(app, authorize=everybody)) as url:
        await works.defer("marker-93ad")
        await fails.defer("marker-93ad")
        await app.run_until_idle()
        async with streaming(url, after="0") as client:
            messages = await client.take(6)
    kinds = ["job.completed", "job.dead", "job.retried", "job.started", "job.started", "job.started"]
    assert kinds == sorted(str(message.event) for message in messages)
    assert "marker-93ad" not in str(messages)


async def test_one_that_takes_nothing_harms_nobody(app: App, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S2-42: a client that reads nothing is ended after the limit of a send; others have all events meanwhile."""
    monkeypatch.setattr(sse, "_SEND_LIMIT", 0.3)
    await much_happened(database)
    streams = events(app, authorize=everybody)
    async with site(streams) as url:
        async with deaf_client(url):
            await wait_until(lambda: open_in(streams) == 1, "it streams")
            async with streaming(url, after="0") as client:
                assert 20_000 == len({message.id for message in await client.take(20_000)})
                (made,) = await cancelled(app)
                assert [made] == jobs(await client.take(1))
                await wait_until(lambda: open_in(streams) == 1, "the deaf one is ended")
        await wait_until(lambda: open_in(streams) == 0, "the other has left")


async def much_happened(dsn: str) -> None:
    """More than fits into all buffers between a server and its client."""
    async with connect(dsn) as connection:
        await connection.execute(
            "insert into jobqueue.event (type, task, queue, jobs, attempts)"
            " select 'job.dead', 't', 'default', array_agg(gen_random_uuid()), array_agg(1)"
            " from generate_series(1, 20000) n group by n % 50"
        )


@asynccontextmanager
async def deaf_client(url: str) -> AsyncIterator[None]:
    """One who asks for all that there is, and reads nothing of it."""
    place = httpx.URL(url)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(deaf.connect, (place.host, place.port))
        deaf.sendall(f"GET {place.path}?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        yield


def open_in(streams: Any) -> int:
    """How many streams there are."""
    return int(streams._open)


async def test_a_client_that_leaves_leaves_nothing(app: App, database: str) -> None:
    """S2-42: five clients are one listening connection; once the last has gone, nothing is read any more."""
    streams = events(app, authorize=everybody)
    async with site(streams) as url:
        async with AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(streaming(url))
            assert 5 == open_in(streams)
            await becomes(database, 1, LISTENS)
        await wait_until(lambda: open_in(streams) == 0, "all have gone")
        await becomes(database, 0, LISTENS)


async def test_there_is_a_limit(app: App) -> None:
    """Of many who come at the same moment as many get in as may; the others are told to come later."""
    async with site(events(app, authorize=everybody, most=2)) as url, AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=PATIENCE))
        opening = [client.stream("GET", url) for _ in range(8)]
        answers = await asyncio.gather(*(stack.enter_async_context(each) for each in opening))
        assert {200: 2, 503: 6} == Counter(answer.status_code for answer in answers)
        assert {"5"} == {answer.headers["retry-after"] for answer in answers if answer.status_code == 503}


async def test_while_the_database_is_away(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who streams keeps the connection and misses nothing; who comes anew without a place is told to come later."""
    monkeypatch.setattr(stream, "_BEGIN_LIMIT", 0.3)
    monkeypatch.setattr(sse, "LIFE", 1e6)
    beside = new_app(database)
    async with beside, proxied(database) as line:
        app = new_app(line.dsn)
        async with app, site(events(app, authorize=everybody)) as url:
            assert 200 == (await asked(url, method="HEAD")).status_code
            async with streaming(url) as client:
                await cancelled(beside)
                await client.take(1)
                line.break_all()
                (made,) = await cancelled(beside)
                line.let_pass()
                assert [made] == jobs(await client.take(1))
            line.break_all()

            async def is_refused() -> bool:
                return 503 == (await asked(url)).status_code

            await wait_until(is_refused, "a new one is refused")
            line.let_pass()
        assert 503 == await status_of_a_closed(app)


async def status_of_a_closed(app: App) -> int:
    async with site(events(app, authorize=everybody)) as url:
        return (await asked(url)).status_code


async def test_a_server_that_is_told_to_stop_stops(database: str, tmp_path: Path) -> None:
    """S2-40: open streams, however young, do not keep uvicorn from its end; each of them ends as an answer should."""
    app = new_app(database)
    (tmp_path / "shop.py").write_text(SITE)
    command = ("-m", "uvicorn", "shop:site", "--port", "0")
    async with app, running(*command, dsn=database, log=tmp_path / "log", cwd=tmp_path) as server:
        await server.says("Uvicorn running on")
        address = re.search(r"http://127\.0\.0\.1:\d+", server.said)
        assert address is not None
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(streaming(f"{address[0]}/events")) for _ in range(3)]
            await cancelled(app)
            for client in clients:
                await client.take(1)
            server.process.send_signal(signal.SIGTERM)
            for client in clients:
                assert [] == [message.event async for message in client.messages() if message.event]
            await server.stop()
    assert "Finished server process" in server.said
    assert "Traceback" not in server.said


async def test_one_that_takes_nothing_keeps_no_server_from_its_end(database: str, tmp_path: Path) -> None:
    """S2-40: nor does the rest that uvicorn has for a client that reads nothing: its connection is cut."""
    await much_happened(database)
    (tmp_path / "shop.py").write_text(SITE)
    command = ("-m", "uvicorn", "shop:site", "--port", "0")
    async with running(*command, dsn=database, log=tmp_path / "log", cwd=tmp_path) as server:
        await server.says("Uvicorn running on")
        address = re.search(r"http://127\.0\.0\.1:\d+", server.said)
        assert address is not None
        async with deaf_client(f"{address[0]}/events/"):
            await server.says("GET /events/?after=0")
            await server.stop()
    assert "Finished server process" in server.said
