"""Schedules fire: a job for each planned time, whatever was missed, and whatever stands in a row."""

import asyncio
from datetime import datetime, timedelta

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from jobqueue import JobContext, JobState, Unique, steps
from jobqueue.base.flows.schedule import Missed
from jobqueue.cron import firing
from tests.support.jobs.gate import Gate
from tests.support.jobs.planned import app_on, fire, firer_on, hourly, jobs_of, last_hour, move_back, put
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended, asked, new_app
from tests.support.patience import NEVER, PATIENCE
from tests.support.waiting import wait_until

DAYS = 3
HOURS = 24 * DAYS


async def test_a_schedule_of_every_second_runs(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put while a worker sleeps wakes it, and fires each second; the handler knows the planned time."""
    monkeypatch.setattr(firing, "_POLL", NEVER)
    planned: list[datetime | None] = []
    app = new_app(database)

    @app.task
    async def tick(ctx: JobContext) -> None:
        if ctx.job.origin == "schedule:tick":
            planned.append(ctx.job.planned_at)

    async def over() -> bool:
        return (await app.schedules.get("before")).state == "ended"

    async with app, app.worker():
        end = await asked(database, "select now() + interval '2 s'")
        await app.schedules.put("before", tick.job(), "* * * * * *", ends_at=end)
        await wait_until(over, "the worker has nothing more to fire")
        await app.schedules.put("tick", tick.job(), "* * * * * *")
        await wait_until(lambda: len(planned) >= 3, "three seconds have had their jobs")
        schedule = await app.schedules.get("tick")

    first = planned[0]
    assert first is not None
    assert [first + timedelta(seconds=n) for n in range(len(planned))] == planned
    assert ("active", "stored", "tick") == (schedule.state, schedule.source, schedule.task)


@pytest.mark.parametrize(("missed", "expected"), [("skip", 0), ("once", 1), ("all", HOURS)])
async def test_an_outage_of_three_days(database: str, missed: Missed, expected: int) -> None:
    """An hourly schedule after three days without a worker: nothing, one job for the last hour, or one for each."""
    async with app_on(database) as app:
        now = await asked(database, "select now()")
        await put(app, "note", hourly(), missed=missed)
        first = await move_back(database, timedelta(days=DAYS))
        await fire(database)
        await fire(database)
        hours = [first + timedelta(hours=n) for n in range(HOURS + 1)]
        passed = [hour for hour in hours if hour <= now]
        schedule = await app.schedules.get("note")
        count = "select (data->>'count')::integer from jobqueue.event where type = 'schedule.missed'"
        told = await asked(database, count)
        assert passed[-1:] * (expected == 1) + passed * (expected > 1) == [job.planned_at for job in await jobs_of(app)]
    assert passed[-1] + timedelta(hours=1) == schedule.next_at
    assert {"skip": len(passed), "once": len(passed) - 1, "all": None}[missed] == told


async def test_the_latest_thousand_of_very_many(database: str) -> None:
    """Of 4 320 minutes that were missed `all` makes up for the last thousand, in order; backfill stores the others."""
    async with app_on(database) as app:
        await put(app, "note", "* * * * *", missed="all")
        first = await move_back(database, timedelta(days=DAYS))
        await fire(database)
        planned = [job.planned_at for job in await jobs_of(app)]
        last = planned[-1]
        assert last is not None
        assert 1000 <= len(planned) <= 1010
        assert [last - timedelta(minutes=n) for n in reversed(range(len(planned)))] == planned

        done = await app.schedules.backfill("note", first, last)
        assert ((last - first) // timedelta(minutes=1), len(planned) - 1) == (done.stored + done.known, done.known)


async def test_one_that_overlaps_is_left_out(database: str) -> None:
    """While the job before has not ended no other one is stored, and the log says so; afterwards the next one is."""
    app = new_app(database)
    gate = Gate()

    @app.task
    async def long() -> None:
        await gate.step()

    async with app, app.worker():
        heard = app.events(types="schedule.missed")
        await app.schedules.put("long", long.job(), "* * * * * *", overlap="skip")
        event = await anext(heard)
        assert ("overlap", "schedule:long", "long") == (event.reason, event.origin, event.task)
        assert 1 == len(await jobs_of(app, "long"))
        gate.open.set()

        async def another() -> bool:
            return len(await jobs_of(app, "long")) > 1

        await wait_until(another, "the next planned time has its job")


async def test_those_that_are_made_up_for_do_not_overlap_either(database: str) -> None:
    """Of planned times that come to be fired together the first has its job; the others would overlap, as is told."""
    async with app_on(database) as app:
        await put(app, "note", hourly(), missed="all", overlap="skip")
        first = await move_back(database, timedelta(hours=3))
        await fire(database)
        told = await asked(
            database, "select reason || ' ' || (data->>'count') from jobqueue.event where reason = 'overlap'"
        )
        assert ([first], "overlap 3") == ([job.planned_at for job in await jobs_of(app)], told)


async def test_those_that_queue_come_one_after_the_other(database: str) -> None:
    """Each planned time has its job; one begins when that before has ended, its retries included, in their order."""
    app = new_app(database)
    began: list[tuple[int, datetime | None]] = []
    now: list[datetime | None] = []

    @app.task(retry=steps(0.01), max_attempts=2)
    async def step(ctx: JobContext) -> None:
        now.append(ctx.job.planned_at)
        began.append((len(now), ctx.job.planned_at))
        await asyncio.sleep(0)
        now.clear()
        if ctx.attempt == 1:
            raise OSError("once")

    async with app:
        await app.schedules.put("step", step.job(), hourly(), missed="all", overlap="queue")
        first = await move_back(database, timedelta(hours=5), "step")
        await fire(database)
        async with app.worker():
            await all_ended(database)
    assert [(1, first + timedelta(hours=n)) for n in range(6) for _ in range(2)] == began


@pytest.mark.parametrize(
    "harm",
    [
        "cron = 'nonsense'",
        "tz = 'Mars/Olympus'",
        "options = '[]'",
        'options = \'{"priority": "high"}\'',
        "options = '{\"priority\": 100000}'",
        'options = \'{"meta": {"a": 1}}\'',
        "options = '{\"timeout\": -7}'",
        'options = \'{"key": "k", "key_scope": "nonsense"}\'',
        "queue = repeat('q', 3000)",
    ],
)
async def test_a_row_that_nobody_can_fire_harms_no_other(database: str, harm: str) -> None:
    """Whatever plain SQL has written there: it is left and said so, the others fire, and putting it anew mends it."""
    async with app_on(database) as app:
        for name in ("note", "odd", "zero"):
            await put(app, name, hourly(), missed="once")
            await move_back(database, timedelta(hours=2), name)
        async with connect(database) as connection:
            await connection.execute(f"update jobqueue.schedule set {harm} where name = 'odd'")
        await fire(database)
        assert [1, 0, 1] == [len(await jobs_of(app, name)) for name in ("note", "odd", "zero")]
        assert "broken" == (await app.schedules.get("odd")).state

        await put(app, "odd", hourly(), missed="once")
        assert "active" == (await app.schedules.get("odd")).state


async def test_jitter_is_the_same_everywhere(database: str) -> None:
    """Each job of a planned time is late by its own share of the jitter, whoever fires it."""
    async with app_on(database) as app:
        for name in ("one", "two"):
            await put(app, name, hourly(), missed="once", jitter=3600)
            await move_back(database, timedelta(hours=2), name)
        await fire(database)
        (one,), (two,) = await jobs_of(app, "one"), await jobs_of(app, "two")
        schedule = await app.schedules.get("one")
    assert one.planned_at == two.planned_at == schedule.last_at
    late = [(job.due_at - job.planned_at).total_seconds() for job in (one, two) if job.planned_at]
    assert late[0] != late[1]
    assert all(0 <= seconds < 3600 for seconds in late)


async def test_what_begins_and_ends(database: str) -> None:
    """Planned times lie between `starts_at` and `ends_at`; after that the schedule has ended."""
    async with app_on(database) as app:
        last = await last_hour(database)
        hours = [last + timedelta(hours=n) for n in range(-4, 4)]
        await put(app, "later", hourly(), starts_at=hours[6], ends_at=hours[7])
        assert hours[6:] == await app.schedules.next("later", 9)

        await put(app, "note", hourly(), missed="all", ends_at=hours[2] + timedelta(seconds=1))
        assert "ended" == (await app.schedules.get("note")).state
        await move_back(database, timedelta(hours=4))
        await fire(database)
        assert hours[:3] == [job.planned_at for job in await jobs_of(app)]
        assert "ended" == (await app.schedules.get("note")).state


async def test_two_firers_share_the_work(database: str) -> None:
    """Several look at once: each planned time has one job."""
    async with app_on(database) as app, firer_on(database) as one, firer_on(database) as other:
        for n in range(150):
            await put(app, f"s{n}", hourly(), missed="all")
        async with connect(database) as connection:
            await connection.execute("update jobqueue.schedule set next_at = next_at - interval '4 h'")
        await asyncio.gather(one.look(), other.look())
        stored = await asked(database, "select count(distinct id) from jobqueue.job")
    assert 150 * 4 == one.fired + other.fired == stored


async def test_what_others_hold_is_waited_for(database: str) -> None:
    """While another worker has what is due, for long perhaps since it is frozen, nobody looks again at once."""
    async with app_on(database) as app, firer_on(database) as firer, connect(database) as other:
        await put(app, "note", hourly(), missed="once")
        await move_back(database, timedelta(hours=1))
        async with other.transaction():
            await other.execute("select from jobqueue.schedule for update")
            pauses = [await firer.look() for _ in range(6)]
        assert 0.005 < pauses[0] < 4 * pauses[0] < pauses[5]
        await firer.look()
        assert 1 == len(await jobs_of(app))


async def test_threads_that_are_busy_hold_up_nothing(database: str) -> None:
    """While the user's own work has all threads that there are for all, schedules fire."""
    threads = anyio.to_thread.current_default_thread_limiter()
    async with app_on(database) as app:
        await put(app, "note", hourly(), missed="once")
        await move_back(database, timedelta(hours=1))
        busy = [object() for _ in range(int(threads.available_tokens))]
        for each in busy:
            threads.acquire_on_behalf_of_nowait(each)
        try:
            with anyio.fail_after(PATIENCE):
                await fire(database)
        finally:
            for each in busy:
                threads.release_on_behalf_of(each)
        assert 1 == len(await jobs_of(app))


async def test_a_long_look_is_cut(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of expressions that take long a transaction deals with few, one at least; all are fired in the same look."""
    monkeypatch.setattr(firing, "_LONGEST_LOOK", 0.0)
    async with app_on(database) as app:
        for name in ("a", "b", "c"):
            await put(app, name, hourly(), missed="once")
            await move_back(database, timedelta(hours=1), name)
        await fire(database)
        changes = await asked(database, "select count(distinct xmin::text) from jobqueue.schedule")
        assert [1, 1, 1] == [len(await jobs_of(app, name)) for name in ("a", "b", "c")]
    assert 3 == changes


async def test_a_unique_key_holds_for_planned_jobs_too(database: str) -> None:
    """A job whose key another one holds is not stored, nor counted; `raise` has nobody to raise to."""
    async with app_on(database) as app:
        task = app.registry.find("note")
        assert task is not None
        job = task.options(unique=Unique("one", on_conflict="raise")).job()
        await app.schedules.put("note", job, hourly(), missed="all")
        await move_back(database, timedelta(hours=2))
        firer = await fire(database)
        stored = await jobs_of(app)
    assert ([JobState.READY], 1) == ([job.state for job in stored], firer.fired)


async def test_one_that_is_held_up_holds_up_no_other(database: str) -> None:
    """While an open transaction has the unique key of its job it is passed over; the others fire; then it is fired."""
    async with app_on(database) as app, firer_on(database) as firer, connect(database) as other:
        task = app.registry.find("note")
        assert task is not None
        keyed = task.options(unique=Unique("one"))
        for name, job in (("a", task.job()), ("held", keyed.job()), ("z", task.job())):
            await app.schedules.put(name, job, hourly(), missed="once")
            await move_back(database, timedelta(hours=2), name)
        transaction = other.transaction()
        await transaction.start()
        await keyed.options(connection=other).defer()
        with capture_logs() as events:
            await firer.look()
            assert [1, 0, 1] == [len(await jobs_of(app, name)) for name in ("a", "held", "z")]
            assert await firer.look() > 0
        assert ["held"] == [each["schedule"] for each in events if each["event"] == "schedule.held_up"]
        await transaction.rollback()
        assert "active" == (await app.schedules.get("held")).state
        await fire(database)
        assert 1 == len(await jobs_of(app, "held"))


async def test_a_schedule_belongs_to_the_callers_transaction(database: str) -> None:
    """What is put in a transaction that is rolled back is not there."""
    async with app_on(database) as app, connect(database) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await put(app, "note", hourly(), connection=connection)
        assert "note" == (await app.schedules.get("note", connection=connection)).name
        await transaction.rollback()
        assert [] == list(await app.schedules.list())
