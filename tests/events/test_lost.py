"""The log is kept for some days; who comes later is told that something is missing, and from where it goes on."""

import asyncio

import pytest

from jobqueue.base.errors import EventsLost
from jobqueue.base.flows.event import WHOLE, Place
from jobqueue.events import feed
from jobqueue.store.connection.session import Session
from jobqueue.store.flows.events import read_events
from jobqueue.store.upkeep import Ages, sweep
from tests.support.jobs.store import connect, open_database
from tests.support.jobs.told import cancelled, ids, jobs, make_old, taken
from tests.support.jobs.working import asked, new_app
from tests.support.waiting import wait_until

DAY = 86_400.0


async def keep_two_days(dsn: str) -> int:
    async with open_database(dsn) as db:
        return (await sweep(db, Ages(events=2 * DAY))).days


async def test_who_comes_too_late_is_told(database: str) -> None:
    """S2-35: behind an id whose successors are dropped there is EventsLost; its `oldest` gives all that is left."""
    app = new_app(database)
    async with app:
        await cancelled(app, 3)
        async with app.events("0") as events:
            early = await taken(events, 3)
        await cancelled(app, 2)
        await make_old(database, 5)
        assert 1 == await keep_two_days(database)
        left = await cancelled(app, 2)

        for place in (early[0].id, early[2].id):
            with pytest.raises(EventsLost, match="dropped by retention") as lost:
                await taken(app.events(place), 1)
            async with app.events(lost.value.oldest) as events:
                assert sorted(left) == sorted(jobs(await taken(events, 2)))
        async with app.events("0") as events:
            assert sorted(left) == sorted(jobs(await taken(events, 2))), '"0" asks for all that there is'


async def test_the_rest_of_a_dropped_row_is_lost(database: str) -> None:
    """Who stands in the middle of the last row that was dropped has lost what the row told of further jobs."""
    app = new_app(database)
    async with app:
        await cancelled(app, 3)
        async with app.events("0") as events:
            first, _, last = ids(await taken(events, 3))
        await make_old(database, 5)
        assert 1 == await keep_two_days(database)

        with pytest.raises(EventsLost) as lost:
            await taken(app.events(first), 1)
        assert last.partition(".")[0] == lost.value.oldest
        (left,) = await cancelled(app)
        async with app.events(lost.value.oldest) as events:
            assert [left] == jobs(await taken(events, 1))


async def test_who_was_slow_is_told_too(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that has begun, and falls behind the ring and the log as well, gets EventsLost and not a gap."""
    monkeypatch.setattr(feed, "RING", 1)
    app = new_app(database)
    async with app:
        await cancelled(app)
        async with app.events() as slow, app.events() as quick:
            for _ in range(3):
                await cancelled(app)
                await taken(quick, 1)
            await make_old(database, 5)
            assert 1 == await keep_two_days(database)
            with pytest.raises(EventsLost):
                await taken(slow, 1)
            (left,) = await cancelled(app)
            assert [left] == jobs(await taken(quick, 1)), "who has read all has lost nothing"


async def test_days_that_are_kept_lose_nothing(database: str) -> None:
    """A sweep drops no day that is young enough, and no stream notices it."""
    app = new_app(database)
    async with app, app.events() as events:
        made = await cancelled(app)
        await make_old(database, 1)
        assert 0 == await keep_two_days(database)
        assert made == jobs(await taken(events, 1))


async def test_a_place_of_another_log_is_none_here(database: str) -> None:
    """Behind an id that this log has never drawn nothing would come for long: after a restore that must be told."""
    app = new_app(database)
    async with app:
        made = await cancelled(app, 2)
        async with app.events("0") as events, app.events("1000.3") as others:
            told = await taken(events, 2)
            with pytest.raises(EventsLost, match="not the one of before") as lost:
                await taken(others, 1)
            async with app.events(lost.value.oldest) as anew:
                assert sorted(made) == sorted(jobs(await taken(anew, 2)))
        (last,) = await cancelled(app)
        async with app.events(told[1].id) as events:
            assert [last] == jobs(await taken(events, 1))
        async with app.events("0") as events:
            (*_, newest) = ids(await taken(events, 3))
        async with app.events(newest) as events:
            (made_later,) = await cancelled(app)
            assert [made_later] == jobs(await taken(events, 1)), "the newest id is one of this log"


async def test_a_day_that_goes_while_it_is_read_is_told(database: str) -> None:
    """A page that waited for a day to be dropped has a snapshot older than its tables: the day is not passed over."""
    async with new_app(database) as app, open_database(database) as db, connect(database) as dropper:
        await cancelled(app)
        await make_old(database, days=5)
        await cancelled(app)
        session = Session(db)
        for _ in range(2):  # a connection that knows the table already
            await read_events(session, Place(0, WHOLE), 2)
        async with dropper.transaction():
            leaf = "select leaf from jobqueue.event_pieces() order by since limit 1"
            assert await dropper.fetchval(f"select jobqueue.drop_archive(({leaf}), false)")
            reading = asyncio.create_task(read_events(session, Place(0, WHOLE), 2))
            waits = "select exists (select from pg_locks where not granted and relation = 'jobqueue.event'::regclass)"
            await wait_until(lambda: asked(database, waits), "the page waits")
        with pytest.raises(EventsLost):
            await reading
        await session.close()
