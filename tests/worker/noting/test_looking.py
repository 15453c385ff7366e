"""How long the queues are, noted once a minute by one worker of all."""

import asyncio

import asyncpg
import pytest

from jobqueue.store import noting
from jobqueue.store.connection.session import Session
from jobqueue.store.looking import history
from jobqueue.store.noting import begin_depths, note_depths
from jobqueue.worker.noting.looking import DepthLooker
from tests.support.jobs.store import connect, insert, new_jobs, open_database
from tests.support.jobs.working import asked
from tests.support.waiting import wait_until


async def test_one_of_all_looks(database: str) -> None:
    """Of any number that ask in one minute one is to look."""
    async with open_database(database) as db:
        answers = await asyncio.gather(*(begin_depths(db) for _ in range(20)))
    moments = [at for at, _ in answers if at is not None]
    assert moments
    assert len(set(moments)) == len(moments) <= 2  # 2: a minute has ended in between
    assert all(0 <= second < 60 for _, second in answers)


async def test_queues_that_hold_jobs_are_noted(database: str) -> None:
    """Workers note them while they run; each as it is, and all together, with the counter of what was stored."""
    async with open_database(database) as db:
        session = Session(db)
        await insert(session, *new_jobs(5, queue="mail"), *new_jobs(3, queue="later", delay=3600.0))
        await session.close()
        lookers = [asyncio.create_task(DepthLooker(db, minute=0.05).run()) for _ in range(3)]

        async def noted() -> bool:
            return bool(await asked(database, "select count(*) > 0 from jobqueue.depth where queue = 'mail'"))

        await wait_until(noted, "somebody has looked")
        for looker in lookers:
            looker.cancel()
        await asyncio.wait(lookers)
    async with connect(database) as connection:
        rows = await connection.fetch("select * from jobqueue.depth where ready is not null order by at, queue limit 3")
    assert ["", "later", "mail"] == [row["queue"] for row in rows]
    assert [(5, 3), (0, 3), (5, 0)] == [(row["ready"], row["scheduled"]) for row in rows]
    assert rows[0]["deferred"] is not None
    assert rows[2]["oldest_due"] > 0


async def test_only_the_largest_queues_are_noted(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many; the sums are of all."""
    monkeypatch.setattr(noting, "QUEUES", 2)
    async with open_database(database) as db:
        session = Session(db)
        jobs = [job for n in range(1, 6) for job in new_jobs(n, queue=f"queue {n}")]
        await insert(session, *jobs)
        at = None
        while at is None:
            at, _ = await begin_depths(db)
        await note_depths(session, at)
        await session.close()
    async with connect(database) as connection:
        found = await connection.fetch("select queue, ready from jobqueue.depth order by queue")
    assert [("", 15), ("queue 4", 4), ("queue 5", 5)] == [tuple(row) for row in found]


async def test_a_look_that_takes_too_long_is_left_out(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut off, and its minute has no depth: neither zero nor the one before."""
    monkeypatch.setattr(noting, "_LOOK_MS", 100)
    async with open_database(database) as db, connect(database) as other:
        session = Session(db)
        at, _ = await begin_depths(db)
        assert at is not None
        async with other.transaction():
            await other.execute("lock table jobqueue.job in access exclusive mode")
            with pytest.raises(asyncpg.PostgresError):
                await note_depths(session, at)
        await session.close()
        points = await history.depths(db, None, 180, step=60)
    assert {None} == {point.ready for point in points}
    assert 1 == await asked(database, "select count(*) from jobqueue.depth")
