"""`app.queues.keep`: how long, and how many of, a queue's finished jobs stay."""

from datetime import timedelta
from typing import Any

import pytest

from jobqueue import App, InvalidOption
from jobqueue.store.connection.session import Session
from jobqueue.store.upkeep import Ages, archive_days, prune_day, prune_excess, shortest_keeps, sweep
from tests.support.history import finished, kept
from tests.support.jobs.store import connect, insert, new_job, open_database


async def test_a_queue_keeps_so_many(database: str) -> None:
    """S2-15: of each outcome the newest so many stay, over days; other queues keep what they have."""
    for hours in range(0, 60, 3):
        finished(database, 30, seconds=hours * 3600.0, queue="mail")
        finished(database, 3, seconds=hours * 3600.0, queue="bulk")
    finished(database, 40, queue="mail", state="dead")
    async with App(database) as app, open_database(database) as db:
        await app.queues.keep("mail", most_completed=325)
        days = await archive_days(db, drop=Ages(), prune=Ages())
        would = sum(found.total() for _, found in await prune_excess(db, days, dry=True))
        assert 700 == sum(kept(database).values()), "a dry run removes nothing"
        swept = await sweep(db, Ages())
        assert (would, 0) == (swept.jobs, (await sweep(db, Ages())).jobs)

    assert {("mail", "completed"): 330, ("bulk", "completed"): 60, ("mail", "dead"): 40} == kept(database)


async def test_outcomes_have_their_own_numbers(database: str) -> None:
    """S2-15: dead and cancelled jobs count together, apart from completed ones; what is said later replaces it."""
    for seconds in (1, 11, 21, 31):
        for state in ("completed", "dead", "cancelled"):
            finished(database, 5, seconds=seconds, queue="mail", state=state)
    async with App(database) as app, open_database(database) as db:
        await app.queues.keep("mail", most_completed=1)
        await app.queues.keep("mail", most_other=20)
        await sweep(db, Ages())

    assert {("mail", "completed"): 20, ("mail", "dead"): 10, ("mail", "cancelled"): 10} == kept(database)


async def test_ages_and_numbers_of_a_queue_are_set_by_the_app(database: str) -> None:
    """S2-15: `app.queues.keep` says how long a queue's finished jobs stay."""
    finished(database, 5, seconds=100, queue="mail")
    finished(database, 5, seconds=100, queue="mail", state="dead")
    async with App(database) as app, open_database(database) as db:
        await app.queues.keep("mail", completed=timedelta(minutes=1), other=3600)
        await sweep(db, Ages())

    assert {("mail", "dead"): 5} == kept(database)


@pytest.mark.parametrize("given", [{"completed": 0}, {"other": -1}, {"most_completed": 0}, {"most_other": 1.5}])
async def test_a_limit_without_sense_is_refused(given: dict[str, Any]) -> None:
    """S2-15: and named, before anything is asked of the database."""
    async with App.null() as app:
        with pytest.raises(InvalidOption, match=f"^{next(iter(given))}: "):
            await app.queues.keep("mail", **given)


async def test_a_dry_run_counts_nothing_twice(database: str) -> None:
    """S2-15: what is too old and too much is said once, for many queues in one pass over a day."""
    async with App(database) as app, open_database(database) as db:
        for queue in ("a", "b", "c"):
            for seconds in (100, 20, 10):
                finished(database, 5, seconds=seconds, queue=queue)
            await app.queues.keep(queue, completed=60, most_completed=1)
        days = await archive_days(db, drop=Ages(), prune=await shortest_keeps(db))
        old = sum([(await prune_day(db, day, dry=True)).total() for day in days if day.part])
        excess = sum(found.total() for _, found in await prune_excess(db, days, dry=True))
        swept = await sweep(db, Ages())

    assert (15, 15, 30) == (old, excess, swept.jobs)
    assert {(queue, "completed"): 5 for queue in ("a", "b", "c")} == kept(database)


# Keys.


async def test_keys_whose_period_is_over_are_forgotten(database: str) -> None:
    """S2-15, A10: a key a job has had for a while leaves no row for ever; others are kept."""
    async with open_database(database) as db, connect(database) as connection:
        session = Session(db)
        for number in range(20):
            await insert(session, new_job(key=f"over{number}", key_scope="period", key_period=0.001))
        await insert(session, new_job(key="goes on", key_scope="period", key_period=60.0))
        await insert(session, new_job(key="unfinished"), new_job(key="waiting", key_scope="waiting"))
        await session.close()
        await sweep(db, Ages())
        kept = [row["key"] for row in await connection.fetch("select key from jobqueue.job_key order by key")]
    assert ["goes on", "unfinished", "waiting"] == kept
