"""`app.schedules`: put anew, paused, resumed, triggered, backfilled, deleted."""

from datetime import timedelta
from typing import Any

import pytest

from jobqueue import InvalidOption, JobState, ScheduleNotFound
from jobqueue.store.schema.statements import channel
from tests.support.jobs.planned import app_on, fire, half_an_hour_later, hourly, jobs_of, last_hour, move_back, put
from tests.support.jobs.store import connect
from tests.support.waiting import wait_until

HOUR = timedelta(hours=1)


async def test_what_is_put_anew_keeps_what_it_has_been_through(database: str) -> None:
    """Other words take the place of those before; only other times change when it is due next."""
    async with app_on(database) as app:
        await put(app, "note", hourly(), missed="once")
        due = await move_back(database, HOUR)
        await fire(database)
        before = await app.schedules.get("note")
        assert due + HOUR == before.last_at

        task = app.registry.find("note")
        assert task is not None
        after = await app.schedules.put("note", task.options(queue="mail").job("more"), hourly(), missed="all")
        assert (before.last_at, before.last_job, before.next_at) == (after.last_at, after.last_job, after.next_at)
        assert ("mail", "all", '{"what":"more"}') == (after.queue, after.timing.missed, after.args_json)

        daily = await put(app, "note", "@daily", tz="Asia/Kolkata")
        assert daily.next_at is not None
        assert (18, 30) == (daily.next_at.hour, daily.next_at.minute)


async def test_a_pause_misses_nothing(database: str) -> None:
    """While it is paused nothing is planned; resumed it goes on with the next planned time, and makes up for none."""
    async with app_on(database) as app:
        await put(app, "note", hourly(), missed="all")
        paused = await app.schedules.pause("note")
        assert ("paused", None) == (paused.state, paused.next_at)
        assert "paused" == (await put(app, "note", hourly(), missed="once")).state
        await fire(database)
        resumed = await app.schedules.resume("note")
        assert ("active", await last_hour(database) + HOUR) == (resumed.state, resumed.next_at)
        assert [] == await jobs_of(app)


async def test_a_pause_until_a_moment(database: str) -> None:
    """It is over by itself: the first planned time after that moment is fired."""
    async with app_on(database) as app:
        await put(app, "note", hourly(), missed="once")
        hour = await last_hour(database)
        paused = await app.schedules.pause("note", hour + 3 * HOUR)
        assert ("paused", hour + 4 * HOUR) == (paused.state, paused.next_at)
        async with connect(database) as connection:
            await connection.execute("update jobqueue.schedule set paused_until = now(), next_at = $1", hour)
        await fire(database)
        assert [hour] == [job.planned_at for job in await jobs_of(app)]
        assert "active" == (await app.schedules.get("note")).state


async def test_a_resume_of_what_is_not_paused_changes_nothing(database: str) -> None:
    """One that is due stays due: nothing is left out."""
    async with app_on(database) as app:
        await put(app, "note", hourly(), missed="all")
        due = await move_back(database, HOUR)
        assert due == (await app.schedules.resume("note")).next_at


async def test_other_times_do_not_end_a_pause(database: str) -> None:
    """Put anew with other times it stays paused, and is due next after the pause by these; or not at all."""
    async with app_on(database) as app:
        hour = await last_hour(database)
        for name, until in (("resting", hour + 3 * HOUR), ("off", None)):
            await put(app, name, hourly())
            await app.schedules.pause(name, until)
        resting, off = [await put(app, name, half_an_hour_later()) for name in ("resting", "off")]
        assert ("paused", hour + 3.5 * HOUR) == (resting.state, resting.next_at)
        assert ("paused", None) == (off.state, off.next_at)


async def test_only_what_is_near_wakes_the_workers(database: str) -> None:
    """Put, paused or resumed with a planned time far off, a schedule wakes nobody: 100 000 would be as many looks."""
    heard: list[str] = []
    async with app_on(database) as app, connect(database) as ear:
        await ear.add_listener(channel("jobqueue", "wake"), lambda *said: heard.append(str(said[-1])))
        for change in (put(app, "note", "0 0 29 2 *"), app.schedules.pause("note"), app.schedules.resume("note")):
            await change
        assert [] == heard
        await put(app, "note", "* * * * * *")
        await app.schedules.pause("note")
        await app.schedules.resume("note")
        await ear.execute("select pg_notify($1, 'all')", channel("jobqueue", "wake"))
        await wait_until(lambda: "all" in heard, "all have come, in their order")
    assert ["s:", "s:", "all"] == heard, "one is put near, and one resumed"


async def test_a_trigger_is_beside_what_is_planned(database: str) -> None:
    """A job now, paused or not; the next planned time stays, and what must not overlap knows of it."""
    async with app_on(database) as app:
        before = await put(app, "note", hourly(), overlap="skip", missed="once")
        id = await app.schedules.trigger("note")
        assert JobState.READY is (await app.jobs.get(id)).state
        after = await app.schedules.get("note")
        assert (before.next_at, id) == (after.next_at, after.last_job)
        await move_back(database, HOUR)
        await fire(database)
        assert [id] == [job.id for job in await jobs_of(app)]


async def test_a_backfill_stores_what_is_not_there(database: str) -> None:
    """Each planned time of a span has one job, however often it is asked for; what was fired has its own already."""
    async with app_on(database) as app:
        await put(app, "note", hourly(), missed="once")
        await move_back(database, 2 * HOUR)
        await fire(database)
        hour = await last_hour(database)
        since = hour - 9 * HOUR
        done = await app.schedules.backfill("note", since, hour)
        assert (9, 0) == (done.stored, done.known)
        await app.run_until_idle()  # those that have ended count as well
        again = await app.schedules.backfill("note", since - HOUR, hour)
        assert (1, 9) == (again.stored, again.known)
        planned = [job.planned_at for job in await jobs_of(app)]
    assert [hour - n * HOUR for n in reversed(range(11))] == planned


@pytest.mark.parametrize(
    ("since", "until", "option"),
    [(-2, 3, "until"), (-20_000, 0, "since"), (None, 0, "since"), (-2, None, "until")],
)
async def test_a_backfill_that_is_refused(database: str, since: int | None, until: int | None, option: str) -> None:
    """Nothing to come, no more than 10 000, moments only."""
    async with app_on(database) as app:
        await put(app, "note", hourly())
        hour = await last_hour(database)
        given: list[Any] = ["soon" if n is None else hour + n * HOUR for n in (since, until)]
        with pytest.raises(InvalidOption, match=option):
            await app.schedules.backfill("note", *given)
        assert [] == await jobs_of(app)


async def test_deleted_it_leaves_its_jobs(database: str) -> None:
    """No more is stored; what it has stored stays."""
    async with app_on(database) as app:
        await put(app, "note", hourly())
        id = await app.schedules.trigger("note")
        await app.schedules.delete("note")
        assert JobState.READY is (await app.jobs.get(id)).state
        assert [] == list(await app.schedules.list())


@pytest.mark.parametrize("verb", ["get", "pause", "resume", "trigger", "delete", "next"])
async def test_a_schedule_that_there_is_not(database: str, verb: str) -> None:
    """Each verb says so by the same error."""
    async with app_on(database) as app:
        with pytest.raises(ScheduleNotFound, match="nobody"):
            await getattr(app.schedules, verb)("nobody")


async def test_a_list_goes_on(database: str) -> None:
    """Pages by name, of one source or both."""
    async with app_on(database) as app:
        for name in ("c", "a", "b"):
            await put(app, name, hourly())
        page = await app.schedules.list(limit=2)
        assert ["a", "b"] == [each.name for each in page]
        assert ["c"] == [each.name for each in await app.schedules.list(after=page[-1].name, source="stored")]
        assert [] == list(await app.schedules.list(source="code"))
        with pytest.raises(InvalidOption, match="source"):
            await app.schedules.list(source="nonsense")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"cron": "nonsense"}, "cron"),
        ({"tz": "nowhere"}, "tz"),
        ({"missed": "never"}, "missed"),
        ({"overlap": "maybe"}, "overlap"),
        ({"jitter": -1}, "jitter"),
        ({"jitter": 90_000}, "jitter"),
        ({"starts_at": "now"}, "starts_at"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
    ],
)
async def test_what_cannot_be_put(database: str, more: dict[str, Any], option: str) -> None:
    """One error that names the option, and nothing is stored."""
    async with app_on(database) as app:
        with pytest.raises(InvalidOption, match=f"^{option}"):
            await put(app, **{"name": "note", "cron": hourly(), **more})
        assert [] == list(await app.schedules.list())


@pytest.mark.parametrize("said", [{"delay": 5}, {"id": "019a0000-0000-7000-8000-000000000001"}])
async def test_a_job_of_its_own_moment_has_no_schedule(database: str, said: dict[str, Any]) -> None:
    """A delay or an id belongs to one job."""
    async with app_on(database) as app:
        task = app.registry.find("note")
        assert task is not None
        with pytest.raises(InvalidOption, match=next(iter(said))):
            await app.schedules.put("note", task.options(**said).job(), hourly())
