"""What has come due becomes ready, behind the backlog and in the order of its times."""

import asyncio
from datetime import UTC, datetime, timedelta

from jobqueue.store import claims
from tests.support.patience import PATIENCE, scaled
from tests.support.store import claim, connect, insert, new_job, new_jobs, open_session, open_sessions


async def test_due_jobs_queue_up_behind_the_backlog(database: str) -> None:
    """A job that has come due gets a new place, in the order of the due times, and does not overtake."""
    now = datetime.now(UTC)
    late, early, middle = (new_job(at=now + timedelta(hours=hours)) for hours in (3, 1, 2))
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, late, early, middle)
        (waiting,) = await insert(session, new_job())
        await connection.execute("update jobqueue.job set due_at = due_at - interval '1 day' where state = 'scheduled'")

        assert (3, None) == await claims.promote_due(session, 10)

        assert [waiting, early.id, middle.id, late.id] == [row["id"] for row in await claim(session)]


async def test_nothing_is_promoted_early(database: str) -> None:
    """S3-06: a job is not ready before its time, and the next due time is told, by the server's clock."""
    async with open_session(database) as session:
        assert (0, None) == await claims.promote_due(session, 10)

        await insert(session, new_job(delay=300.0), new_job(delay=100.0))
        promoted, next_in = await claims.promote_due(session, 10)

        assert 0 == promoted
        assert next_in is not None
        assert 100 - scaled(10) < next_in <= 100
        assert [] == await claim(session)


async def test_promotion_has_a_limit(database: str) -> None:
    """At most so many are promoted in one go, the longest due first; the rest is left for the next."""
    async with open_session(database) as session, connect(database) as connection:
        ids = await insert(session, *(new_job(delay=100.0 + number) for number in range(10)))
        await connection.execute("update jobqueue.job set due_at = due_at - interval '1 day'")

        assert [(4, None), (4, None), (2, None), (0, None)] == [await claims.promote_due(session, 4) for _ in range(4)]
        assert ids == [row["id"] for row in await claim(session)]


async def test_two_stagers_share_the_work(database: str) -> None:
    """Stagers do not wait for each other, and no job is promoted twice."""
    async with open_sessions(database, 3) as (one, two, worker), connect(database) as connection:
        await insert(one, *new_jobs(100, delay=100.0))
        await connection.execute("update jobqueue.job set due_at = due_at - interval '1 day'")
        async with one.transaction():
            assert 60 == (await claims.promote_due(one, 60))[0]
            async with asyncio.timeout(PATIENCE):
                assert 40 == (await claims.promote_due(two, 60))[0]
        assert 100 == len({row["id"] for row in await claim(worker, 500)})
