"""The one reader of a loop: who pays for it, what it keeps, and what it does when the database is away."""

import asyncio
import time
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.errors import AppClosed
from jobqueue.events import feed
from jobqueue.store.flows import events as store
from tests.support.jobs.store import connect
from tests.support.jobs.told import cancelled, jobs, lock_of_the_log, looks, taken
from tests.support.jobs.working import new_app
from tests.support.postgres.backends import LISTENS, becomes, terminate
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until


async def test_many_streams_are_one_reader(database: str) -> None:
    """S2-42: twenty streams have one listening connection and the looks of one; each gets every event."""
    app = new_app(database)
    async with app:
        streams = [app.events() for _ in range(20)]
        for stream in streams:
            await stream.begin()
        await becomes(database, 1, LISTENS)
        with looks() as seen:
            began = time.monotonic()
            made = await cancelled(app, 3)
            told = await asyncio.gather(*(taken(stream, 3) for stream in streams))
            most = (time.monotonic() - began) / feed._SOON + 2
        assert 20 * [sorted(made)] == [sorted(jobs(each)) for each in told]
        assert len(seen) <= most, "no stream looks for itself"
        for stream in streams[1:]:
            stream.close()
        await becomes(database, 1, LISTENS)
        streams[0].close()
        await becomes(database, 0, LISTENS)


async def test_nobody_listens_nothing_is_read(database: str) -> None:
    """Before the first stream and behind the last one there is no reader: a `break` out of the loop is enough."""
    app = new_app(database)
    async with app:
        with looks() as seen:
            await cancelled(app)
            assert [] == seen
            async for _ in app.events("0"):
                break
            await becomes(database, 0, LISTENS)
            looked = len(seen)
            await cancelled(app)
            await becomes(database, 0, LISTENS)
            assert looked == len(seen)
        async with app.events() as events:
            (made,) = await cancelled(app)
            assert [made] == jobs(await taken(events, 1)), "and it begins anew for the next"


async def test_a_cancelled_beginning_leaves_no_reader(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while it fixes where it begins, a stream is ended, though its block was never entered."""
    app = new_app(database)
    stuck = asyncio.Event()

    async def hangs(*given: object) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async with app:
        with monkeypatch.context() as patch:
            patch.setattr(feed, "look_at_edge", hangs)
            stream = app.events()
            entering = asyncio.create_task(stream.__aenter__())
            await stuck.wait()
            entering.cancel()
            assert [True] == [
                isinstance(it, asyncio.CancelledError) for it in await asyncio.gather(entering, return_exceptions=True)
            ]
        await becomes(database, 0, LISTENS)


@pytest.mark.parametrize("place", [None, "0"])
async def test_one_who_is_slow_reads_the_log(database: str, monkeypatch: pytest.MonkeyPatch, place: str | None) -> None:
    """Behind the ring a stream pages the log by itself, until it has caught up: nothing is missed, doubled or moved."""
    monkeypatch.setattr(feed, "RING", 3)
    monkeypatch.setattr(store, "PAGE", 2)
    app = new_app(database)
    async with app, app.events(place) as slow, app.events() as quick:
        made = []
        for count in (1, 5, 2, 1, 1, 4, 2):
            made += sorted(await cancelled(app, count))
            told = await taken(quick, count)
            assert sorted(made[-count:]) == sorted(jobs(told))
        behind = await taken(slow, len(made))
        assert len(set(jobs(behind))) == len(made)
        assert set(made) == set(jobs(behind))
        places = [tuple(map(int, event.id.split("."))) for event in behind]
        assert sorted(places) == places
        (last,) = await cancelled(app)
        assert [[last], [last]] == [jobs(await taken(slow, 1)), jobs(await taken(quick, 1))]


async def test_what_is_being_read_is_not_thrown_away(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that waits for a short time only still gets a page that takes longer: else it would never get on."""
    app = new_app(database)
    made = await cancelled(app, 2)
    reading, let_go = asyncio.Event(), asyncio.Event()

    async def slow(*given: Any) -> Any:
        reading.set()
        await let_go.wait()
        return await store.read_events(*given)

    async with app, app.events("0") as events:
        assert events.choice.types == frozenset()
        await (await events.begin()).now()
        monkeypatch.setattr(feed, "read_events", slow)
        ends = time.monotonic() + 0.01
        rows = asyncio.create_task(events.rows(0.01))
        await reading.wait()
        await wait_until(lambda: time.monotonic() > ends + 0.02, "its time is over")
        let_go.set()
        assert [sorted(made)] == [sorted(entry.jobs) for entry, _ in await rows]
        assert [] == await events.rows(0.0)


async def test_cut_off_it_goes_on_where_it_was(database: str) -> None:
    """S2-33: connections are cut, refused, and end; once the database is back all that happened meanwhile is told."""
    beside = new_app(database)
    async with proxied(database) as line, beside:
        app = new_app(line.dsn)
        async with app, app.events() as events:
            made = await cancelled(beside, 2)
            told = await taken(events, 2)
            for cut in (line.cut, line.break_all, line.stall):
                cut()
                made += await cancelled(beside, 2)
                if cut == line.stall:
                    line.cut()  # else it is the statement's limit that ends the silence
                line.let_pass()
                told += await taken(events, 2)
                await terminate(database, "query ilike '%event%' or " + LISTENS)
                made += await cancelled(beside)
                told += await taken(events, 1)
        assert sorted(made) == sorted(jobs(told))


async def test_a_reader_that_dies_leaves_nobody_waiting(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own in the reader is raised to whoever waits, instead of a silence without an end."""
    app = new_app(database)

    async def fails(*given: object) -> None:
        raise ValueError("a fault of ours")

    async with app:
        events = app.events()
        await events.begin()
        waiting = asyncio.create_task(taken(events, 1))
        with monkeypatch.context() as patch:
            patch.setattr(feed, "look_at_edge", fails)
            with pytest.raises(ExceptionGroup) as raised:
                await waiting
        assert raised.group_contains(ValueError, match="a fault of ours")
        events.close()
        async with app.events() as anew:
            (made,) = await cancelled(app)
            assert [made] == jobs(await taken(anew, 1))


async def test_closing_the_app_ends_its_streams(database: str) -> None:
    """Whoever waits for an event gets AppClosed, and so does who asks later; opened anew, a new stream works."""
    app = new_app(database)
    await app.open()
    waiting, idle = app.events(), app.events("0")
    await waiting.begin()
    await idle.begin()
    asking = asyncio.create_task(taken(waiting, 1))
    await app.close()
    for events in (asking, taken(idle, 1), taken(app.events(), 1)):
        with pytest.raises(AppClosed):
            await events
    async with app, app.events() as anew:
        (made,) = await cancelled(app)
        assert [made] == jobs(await taken(anew, 1))


async def test_a_long_writer_delays_and_loses_nothing(database: str) -> None:
    """While somebody who has drawn a number has not committed, later events wait; then all come, in their order."""
    app = new_app(database)
    lock = await lock_of_the_log(database)
    async with app, app.events() as events, connect(database) as writer:
        writing = writer.transaction()
        await writing.start()
        await writer.execute(lock)
        await writer.execute(
            "insert into jobqueue.event (type, task, queue, jobs, attempts)"
            " values ('job.dead', 'early', 'default', array[gen_random_uuid()], array[1])"
        )
        (later,) = await cancelled(app)
        with looks() as seen:
            await wait_until(lambda: len(seen) > 3, "it looks, and waits")
        assert [] == await events.rows(0.0)
        await writing.commit()
        told = await taken(events, 2)
        assert ["early", "task"] == [event.task for event in told]
        assert later == told[1].job_id


async def test_it_polls_where_nobody_can_listen(database: str) -> None:
    """With `listens` off, as behind a pooler, events come all the same, over no connection that is kept."""
    app = App(database, settings=new_app(database, pooler="transaction").settings)
    async with app, app.events() as events:
        (made,) = await cancelled(app)
        assert [made] == jobs(await taken(events, 1))
        await becomes(database, 0, LISTENS)
