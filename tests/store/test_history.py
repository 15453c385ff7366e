"""History is read back: charts without holes, percentiles, small charts; and what is too old goes."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from jobqueue.base.errors import InvalidOption
from jobqueue.base.looking.history import Spark
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking import history
from jobqueue.store.noting import forget_history
from tests.support.jobs.store import connect, open_database
from tests.support.jobs.working import asked
from tests.support.waiting import wait_until
from tests.worker.test_upkeep import keeping

NOW = datetime.now(UTC)
MINUTE = NOW.replace(second=0, microsecond=0)
COUNTS = "claimed, completed, cancelled, dead, retried"
REST = "snoozed, suspended, released, put_aside, lined_up, refused, lost, seconds"
HALF = timedelta(minutes=30)


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own now: one that is read with the file may be an hour old when a long run comes here."""
    now = datetime.now(UTC)
    monkeypatch.setitem(globals(), "NOW", now)
    monkeypatch.setitem(globals(), "MINUTE", now.replace(second=0, microsecond=0))


def back(at: datetime) -> float:
    """How many minutes before the minute in which this test began."""
    return (MINUTE - at).total_seconds() / 60


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


async def note(dsn: str, at: datetime, queue: str, task: str, *counts: int, **histograms: list[int]) -> None:
    """What workers have counted: in its minute and its hour, and of all."""
    async with connect(dsn) as connection:
        for table, moment in (
            ("minute", at.replace(second=0, microsecond=0)),
            ("hour", at.replace(minute=0, second=0)),
        ):
            for names in ((queue, task), ("", "")):
                await connection.execute(
                    f"""insert into jobqueue.{table} (at, queue, task, {COUNTS}, {REST}, run, wait)
                    values ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, 0, 0, 0, 0, 0, $9, $10)
                    on conflict (queue, at, task) do update
                    set claimed = {table}.claimed + excluded.claimed,
                      completed = {table}.completed + excluded.completed""",
                    moment.replace(microsecond=0), *names, *counts, histograms.get("run", []),
                    histograms.get("wait", []),
                )  # fmt: skip


async def test_rates_have_a_point_for_each_step(database: str) -> None:
    """Zeros where nothing was; of all, of a queue, of a task, of one in the other; by the minute and by the hour."""
    await note(database, MINUTE - timedelta(minutes=10), "mail", "send", 5, 4, 1, 2, 3)
    await note(database, MINUTE - timedelta(minutes=10), "other", "send", 7, 7, 0, 0, 0)
    await note(database, MINUTE - timedelta(minutes=7), "mail", "sort", 2, 2, 0, 0, 0)
    async with open_database(database) as db:
        points = await history.rates(db, HALF, step=60)
        assert [points[0].at + timedelta(minutes=n) for n in range(len(points))] == [point.at for point in points]
        assert 30 <= len(points) <= 32
        claimed = {back(point.at): point.claimed for point in points if point.claimed}
        assert {10: 12, 7: 2} == claimed
        for named, found in [
            ({"queue": "mail"}, [5, 2]),
            ({"task": "send"}, [12]),
            ({"queue": "mail", "task": "send"}, [5]),
            ({"queue": "nowhere"}, []),
            ({"task": ""}, [12, 2]),
        ]:
            points = await history.rates(db, timedelta(minutes=30), step=60, **named)  # type: ignore[arg-type]
            assert found == [point.claimed for point in points if point.claimed], named
        (one,) = [
            point for point in await history.rates(db, timedelta(minutes=30), step=60, queue="mail") if point.dead
        ]
        assert (5, 4, 3, 2, 1) == (one.claimed, one.completed, one.retried, one.dead, one.cancelled)
        hours = await history.rates(db, timedelta(days=3), step=3600)
        assert [hours[0].at + timedelta(hours=n) for n in range(len(hours))] == [point.at for point in hours]
        assert 73 == len(hours)
        assert 14 == sum(point.claimed for point in hours)
        early = await history.rates(db, HALF, (datetime.now(UTC) - MINUTE).total_seconds() + 8.5 * 60, step=60)
        assert 12 == sum(point.claimed for point in early)
        assert 9 == back(early[-1].at)


async def look(dsn: str, minutes: int, deferred: int | None, **queues: tuple[int, int] | None) -> None:
    """How long these queues were so many minutes ago; None: nobody could look."""
    async with connect(dsn) as connection:
        for queue, found in {"": (9, 9), **queues}.items():
            ready, running = (None, None) if None in queues.values() else (found or (0, 0))
            await connection.execute(
                """insert into jobqueue.depth (at, queue, ready, scheduled, blocked, running, deferred)
                values ($1, $2, $3, 0, 0, $4, $5) on conflict do nothing""",
                MINUTE - timedelta(minutes=minutes), queue, ready, running, deferred if queue == "" else None,
            )  # fmt: skip


async def test_deferred_jobs_come_from_a_counter(database: str) -> None:
    """From look to look; one that was set back, by a crash of the server, gives what it has counted since."""
    for minutes, counter in ((11, 100), (10, 130), (9, 150), (7, 20), (6, 20), (5, None), (4, 25)):
        await look(database, minutes, counter)
    async with open_database(database) as db:
        points = await history.deferred(db, HALF, step=60)
        assert {10: 30, 9: 20, 7: 20, 4: 5} == {back(point.at): point.jobs for point in points if point.jobs}
        some = await history.deferred(db, (datetime.now(UTC) - MINUTE).total_seconds() + 9 * 60, step=60)
        assert 9 == back(some[0].at)
        assert 45 == sum(point.jobs for point in some), "from the look before on"
        longer = await history.deferred(db, timedelta(hours=2), step=600)
        assert 75 == sum(point.jobs for point in longer)
        assert all(point.jobs >= 0 for point in longer)


async def test_depths_tell_empty_from_unknown(database: str) -> None:
    """A queue that a look has not found was empty; where nobody has looked, nothing is known."""
    await look(database, 9, 1, mail=(5, 2))
    await look(database, 8, 1)
    await look(database, 6, 1, mail=None)
    await look(database, 5, 1, mail=(7, 0))
    async with open_database(database) as db:
        points = {back(one.at): (one.ready, one.running) for one in await history.depths(db, "mail", HALF, step=60)}
        seen = {minutes: points[minutes] for minutes in (9, 8, 7, 6, 5, 4)}
        none = (None, None)
        assert {9: (5, 2), 8: (0, 0), 7: none, 6: none, 5: (7, 0), 4: none} == seen
        in_all = {back(one.at): one.ready for one in await history.depths(db, None, HALF, step=60)}
        assert [9, 9, None, None, 9] == [in_all[minutes] for minutes in (9, 8, 7, 6, 5)]
        wide = await history.depths(db, "mail", timedelta(hours=1), step=7200)
        assert 7 == max(one.ready for one in wide if one.ready is not None), "in two pieces where one ends meanwhile"


async def test_percentiles_by_queue_and_task(database: str) -> None:
    """Of each pair, and of each queue in all, the busiest first."""
    minutes = [MINUTE - timedelta(minutes=n) for n in (1, 2)]
    for minute in minutes:
        await note(database, minute, "mail", "send", 10, 8, 0, 1, 1, run=[0, 0, 10], wait=[10])
    await note(database, minutes[0], "mail", "sort", 2, 2, 0, 0, 0, run=[0] * 16 + [2])
    await note(database, minutes[0], "other", "send", 1, 0, 1, 0, 0)
    async with open_database(database) as db:
        found = await history.percentiles(db, timedelta(minutes=30))
        facts = [(one.queue, one.task, one.runs, one.failed) for one in found]
        assert [
            ("mail", None, 22, 4), ("mail", "send", 20, 4), ("mail", "sort", 2, 0), ("other", None, 1, 0),
            ("other", "send", 1, 0),
        ] == facts  # fmt: skip
        send = found[1]
        found_times = (send.wait_p50, send.wait_p95, send.run_p50, send.run_p95)
        assert pytest.approx((0.0025, 0.00475, 0.0175, 0.02425)) == found_times
        assert 3600.0 == found[0].run_p95
        assert (None, None) == (found[4].wait_p50, found[4].run_p95)
        by_queue = await history.percentiles(db, timedelta(minutes=30), queue="other")
        assert [("other", None), ("other", "send")] == [(one.queue, one.task) for one in by_queue]
        by_task = await history.percentiles(db, timedelta(minutes=30), task="sort")
        assert [("mail", None), ("mail", "sort")] == [(one.queue, one.task) for one in by_task]
        by_hour = await history.percentiles(db, timedelta(days=1))
        assert {one.queue for one in found} == {one.queue for one in by_hour}


async def test_small_charts_of_all_queues_and_tasks(database: str) -> None:
    """A number for each step, zeros among them; those that have ended most, if there are too many."""
    step = 300
    first = datetime.fromtimestamp(ago(minutes=30).timestamp() // step * step, UTC)
    length = 0

    def line(*points: tuple[int, int, int]) -> Spark:
        completed, failed = [0] * length, [0] * length
        for place, done, bad in points:
            completed[place], failed[place] = done, bad
        return Spark(tuple(completed), tuple(failed))

    await note(database, first, "mail", "send", 5, 4, 0, 1, 2)
    await note(database, first + timedelta(minutes=10), "mail", "sort", 5, 6, 0, 0, 0)
    await note(database, first + timedelta(minutes=10), "other", "send", 1, 1, 0, 0, 0)
    async with open_database(database) as db:
        found = await history.sparks(db, timedelta(minutes=60), step=step)
        length = len(found.queues["mail"].completed)
        one = int((first - found.since).total_seconds()) // step
        assert 12 <= length <= 14
        assert {"mail", "other"} == set(found.queues)
        assert line((one, 4, 3), (one + 2, 6, 0)) == found.queues["mail"]
        assert line((one, 4, 3), (one + 2, 1, 0)) == found.tasks["send"]
        assert line((one + 2, 6, 0)) == found.tasks["sort"]
        few = await history.sparks(db, timedelta(minutes=60), step=step, room=1)
        assert (["mail"], ["send"]) == ([*few.queues], [*few.tasks])


async def test_an_empty_history_is_flat(database: str) -> None:
    """Just after the first migration."""
    async with open_database(database) as db:
        assert {0} == {point.claimed for point in await history.rates(db, timedelta(hours=1), step=60)}
        assert {0} == {point.jobs for point in await history.deferred(db, timedelta(hours=1), step=60)}
        assert {None} == {point.ready for point in await history.depths(db, "mail", timedelta(hours=1), step=60)}
        assert [] == await history.percentiles(db, timedelta(hours=1))
        assert ({}, {}) == ((found := await history.sparks(db, timedelta(hours=1), step=60)).queues, found.tasks)


BAD: dict[str, tuple[Any, str]] = {
    "a step of half a minute": (
        lambda db: history.rates(db, timedelta(hours=1), step=30),
        "step: must be a whole number",
    ),
    "an odd step": (lambda db: history.rates(db, timedelta(hours=1), step=90), "step: must be a whole"),
    "no step": (lambda db: history.rates(db, timedelta(hours=1), step=math.nan), "step: must be a whole"),
    "a moment": (lambda db: history.rates(db, cast(Any, NOW), step=60), "since: must be a number of seconds"),
    "the future": (lambda db: history.rates(db, -5, step=60), "since: must be between"),
    "too many steps": (lambda db: history.rates(db, timedelta(days=50), step=60), "step: must be longer"),
    "minutes that are gone": (
        lambda db: history.rates(db, timedelta(days=3), step=300),
        "step: must be in whole",
    ),
    "depths that are gone": (lambda db: history.depths(db, "a", timedelta(days=3), step=300), "since: must be at most"),
    "percentiles of long ago": (lambda db: history.percentiles(db, timedelta(days=4)), "since: must be at most"),
    "small charts by the minute": (
        lambda db: history.sparks(db, timedelta(hours=5), step=60),
        "step: must be in whole",
    ),
    "small charts of long ago": (lambda db: history.sparks(db, timedelta(days=9), step=3600), "since: must be at most"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_cannot_be_answered_is_refused(database: str, what: str) -> None:
    """With what is wrong, and what may be asked."""
    ask, said = BAD[what]
    async with open_database(database) as db:
        with pytest.raises(InvalidOption, match=said):
            await ask(db)


async def test_two_days_are_kept_by_the_minute_and_sixty_by_the_hour(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest goes, step by step."""
    monkeypatch.setattr("jobqueue.store.noting._SWEPT", 2)
    for days in (0.5, 1.9, 2.5, 3, 4, 5, 6, 59, 61, 62, 63):
        await note(database, ago(days=days), "mail", "send", 1, 1, 0, 0, 0)
        await look(database, int(days * 1440), 1)
    async with connect(database) as connection:
        await connection.execute("insert into jobqueue.noted values (gen_random_uuid(), 1, now() - interval '3 days')")
    async with open_database(database) as db:
        assert 18 == await forget_history(db)
        assert 0 == await forget_history(db)
        assert await left(db) == [4, 16, 2, 0]


async def left(db: Database) -> list[int]:
    async with db.connection() as connection:
        return [
            await connection.fetchval(f"select count(*) from jobqueue.{table}")
            for table in ("minute", "hour", "depth", "noted")
        ]


async def test_a_worker_sweeps_the_history(database: str) -> None:
    """In its upkeep, beside the archive."""
    await note(database, ago(days=3), "mail", "send", 1, 1, 0, 0, 0)
    async with keeping(database):

        async def gone() -> bool:
            return not await asked(database, "select count(*) from jobqueue.minute")

        await wait_until(gone, "it is gone")
    assert 2 == await asked(database, "select count(*) from jobqueue.hour")
