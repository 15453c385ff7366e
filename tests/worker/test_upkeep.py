"""Every worker keeps house beside its work: old jobs go hourly, whatever else happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from jobqueue import App
from jobqueue.base.job import JobState
from jobqueue.base.settings import Settings
from jobqueue.store.dated import DAYS_AHEAD
from jobqueue.worker.upkeep import Upkeep
from tests.support.history import finished, keep, kept, leaf, leaves
from tests.support.jobs.store import connect, open_database
from tests.support.jobs.working import end_of, new_app, one_waits, reached
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until

DAY = 86_400.0
NONE_LEFT: dict[tuple[str, str], int] = {}


@asynccontextmanager
async def keeping(dsn: str, *, workers: int = 1, interval: float = 3_600.0, **knobs: float) -> AsyncIterator[None]:
    """The housekeeping of some workers, begun at once."""
    async with open_database(dsn) as db:
        settings = Settings(**knobs)  # type: ignore[arg-type]
        tasks = [asyncio.create_task(Upkeep(db, settings, interval=interval, first=0.01).run()) for _ in range(workers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_a_worker_removes_what_is_old(database: str) -> None:
    """S2-15: of a queue with a retention of 1 s what has ended is gone within one sweep, a job that runs is not."""
    app, release = new_app(database), asyncio.Event()

    @app.task(name="wait", queue="mail")
    async def wait() -> str:
        await release.wait()
        return "waited"

    keep(database, "mail", completed=1.0, other=1.0)
    finished(database, 5, seconds=10.0, queue="mail")
    finished(database, 5, seconds=10.0, queue="mail", state="dead")
    finished(database, 2, seconds=10.0)
    finished(database, 1, seconds=4 * DAY)
    async with app, app.worker():
        running = await wait.defer()
        await reached(app, running, JobState.RUNNING)
        await age(database)

        await wait_until(lambda: kept(database) == {("default", "completed"): 2}, "what is old is gone")

        assert JobState.RUNNING is (await app.jobs.get(running.id)).state
        assert leaf("completed", 4) not in leaves(database, "completed")
        release.set()
        assert JobState.COMPLETED is (await end_of(app, running)).state


async def age(dsn: str) -> None:
    """As if all unfinished jobs had been created a year ago."""
    async with connect(dsn) as connection:
        await connection.execute("update jobqueue.job set created_at = now() - interval '1 year'")


async def test_the_ages_of_the_settings_count(database: str) -> None:
    """S2-15: `keep_completed` and `keep_other` say which days go; one event names how many."""
    for days in (3, 6):
        finished(database, seconds=days * DAY)
        finished(database, seconds=days * DAY, state="dead")
    with capture_logs() as events:
        async with keeping(database, keep_completed=4 * DAY, keep_other=2 * DAY):
            await wait_until(lambda: any(event["event"] == "archive.dropped" for event in events), "days are dropped")

    assert {("default", "completed"): 1} == kept(database)
    assert [3] == [event["partitions"] for event in events if event["event"] == "archive.dropped"]


async def test_it_comes_again_and_one_does_it_for_all(database: str) -> None:
    """S2-15: the sweep is repeated at the interval, by one of all workers each time: the jobs are counted once."""
    keep(database, "mail", completed=1.0)
    with capture_logs() as events:
        async with keeping(database, workers=5, interval=0.2):
            for _ in range(3):
                finished(database, 100, seconds=5.0, queue="mail")
                await wait_until(lambda: kept(database) == NONE_LEFT, "old jobs are gone")
            await wait_until(lambda: pruned(events) == 300, "it is told")


def pruned(events: list) -> int:  # type: ignore[type-arg]
    return sum(int(event["jobs"]) for event in events if event["event"] == "archive.pruned")


async def test_a_second_worker_within_the_hour_does_not_sweep(database: str) -> None:
    """S2-15: fifty workers that start together do not read the archive fifty times."""
    keep(database, "mail", completed=1.0)
    finished(database, 1, seconds=5.0, queue="mail")
    async with keeping(database):
        await wait_until(lambda: kept(database) == NONE_LEFT, "old jobs are gone")
    finished(database, 1, seconds=5.0, queue="mail")
    async with keeping(database), connect(database) as connection:
        asked = "query like '%insert into%sweep%' and state = 'idle' and pid <> pg_backend_pid()"
        asks = f"select exists (select from pg_stat_activity where datname = current_database() and {asked})"
        await wait_until(lambda: connection.fetchval(asks), "the second has asked for its turn")

        assert {("mail", "completed"): 1} == kept(database)


async def test_trouble_is_told_and_overcome(database: str) -> None:
    """S2-15: a removal that fails is told and tried again by the same worker; the days ahead are made all the same."""
    keep(database, "mail", completed=1.0)
    finished(database, 3, seconds=5.0, queue="mail")
    rename = "alter function jobqueue.{}(text, bigint, integer, text, float8, float8, boolean) rename to {}"
    async with connect(database) as connection:
        await connection.execute(rename.format("prune_archive", "away"))
        await connection.execute(f"drop table jobqueue.{leaf('other', -DAYS_AHEAD)}")
        with capture_logs() as events:
            async with keeping(database):
                await wait_until(lambda: any(event["log_level"] != "info" for event in events), "trouble is told")
                assert 1 == sum(event.get("partitions", 0) for event in events if event["event"] == "archive.extended")
                await connection.execute(rename.format("away", "prune_archive"))
                await wait_until(lambda: kept(database) == NONE_LEFT, "old jobs are gone")

    assert {"upkeep"} == {event["doing"] for event in events if "doing" in event}


async def test_it_holds_up_no_claim(database: str) -> None:
    """S2-15: a worker whose housekeeping waits for a lock starts, claims, finishes and stops as ever."""
    app: App = new_app(database)

    @app.task(name="note")
    async def note(n: int) -> int:
        return n

    async with connect(database) as holder, holder.transaction():
        await holder.execute("lock table jobqueue.sweep in access exclusive mode")
        async with app, app.worker():
            assert 1 == await (await note.defer(1)).result(timeout=PATIENCE)
            await one_waits(database)
            assert [2, 3] == [await (await note.defer(n)).result(timeout=PATIENCE) for n in (2, 3)]
