"""What has come due becomes ready, behind the backlog and in the order of its times."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

from jobqueue.store import claims
from tests.support.jobs.blocked import block, row_of
from tests.support.jobs.store import claim, connect, insert, new_job, new_jobs, open_session, open_sessions
from tests.support.patience import PATIENCE, scaled


async def test_due_jobs_queue_up_behind_the_backlog(database: str) -> None:
    """A job that has come due gets a new place, in the order of the due times, and does not overtake."""
    now = datetime.now(UTC)
    late, early, middle = (new_job(at=now + timedelta(hours=hours)) for hours in (3, 1, 2))
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, late, early, middle)
        (waiting,) = await insert(session, new_job())
        await connection.execute("update jobqueue.job set due_at = due_at - interval '1 day' where state = 'scheduled'")

        assert (3, None) == (await claims.promote_due(session, 10))[:2]

        assert [waiting, early.id, middle.id, late.id] == [row["id"] for row in await claim(session)]


async def test_nothing_is_promoted_early(database: str) -> None:
    """S3-06: a job is not ready before its time, and the next due time is told, by the server's clock."""
    async with open_session(database) as session:
        assert (0, None) == (await claims.promote_due(session, 10))[:2]

        await insert(session, new_job(delay=300.0), new_job(delay=100.0))
        promoted, next_in, _ = await claims.promote_due(session, 10)

        assert 0 == promoted
        assert next_in is not None
        assert 100 - scaled(10) < next_in <= 100
        assert [] == await claim(session)


async def test_promotion_has_a_limit(database: str) -> None:
    """At most so many are promoted in one go, the longest due first; the rest is left for the next."""
    async with open_session(database) as session, connect(database) as connection:
        ids = await insert(session, *(new_job(delay=100.0 + number) for number in range(10)))
        await connection.execute("update jobqueue.job set due_at = due_at - interval '1 day'")

        assert [4, 4, 2, 0] == [(await claims.promote_due(session, 4)).jobs for _ in range(4)]
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


async def test_each_queue_has_its_share(database: str) -> None:
    """Of many jobs that are due in one queue and a few in others, a share of each becomes ready in one go."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *new_jobs(500, queue="full", delay=100.0), *new_jobs(3, queue="last", delay=200.0))
        await insert(session, *new_jobs(50, queue="other", delay=150.0), *new_jobs(5, queue="never", delay=90_000.0))
        await connection.execute("update jobqueue.job set due_at = due_at - interval '1 h'")
        first = await claims.promote_due(session, 10)
        assert 23 == await claims.promote_each(session, 40, first.seen)

        ready = await connection.fetch("select queue from jobqueue.job where state = 'ready'")
        assert {"full": 20, "last": 3, "other": 10} == Counter(row["queue"] for row in ready)


async def test_what_waits_for_others_is_not_promoted(database: str) -> None:
    """A blocked job whose time has come stays where it is, however the stager looks."""
    async with open_session(database) as session, connect(database) as connection:
        blocked, due = await insert(session, *new_jobs(2, delay=100.0))
        await block(connection, blocked)
        await connection.execute("update jobqueue.job set due_at = due_at - interval '1 day'")

        assert 1 == await claims.promote_each(session, 10, datetime.fromisoformat("2020-01-01T00:00Z"))
        assert 0 == (await claims.promote_due(session, 10)).jobs
        assert [due] == [row["id"] for row in await claim(session)]
        assert "blocked" == (await row_of(connection, blocked))["state"]


async def test_promotion_goes_on_from_where_it_was(database: str) -> None:
    """Page after page nothing is left out, jobs of one due time included; a look from the beginning finds late ones."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *new_jobs(30, delay=100.0))
        await connection.execute("update jobqueue.job set due_at = now() - interval '1 h'")
        seen, promoted = None, 0
        for _ in range(4):
            done = await claims.promote_due(session, 10, seen)
            seen, promoted = done.seen, promoted + done.jobs
        assert 30 == promoted

        await insert(session, new_job(delay=100.0))
        await connection.execute("update jobqueue.job set due_at = now() - interval '1 h' where state = 'scheduled'")
        assert 0 == (await claims.promote_due(session, 10, seen)).jobs
        assert 1 == (await claims.promote_due(session, 10)).jobs


async def test_what_was_put_aside_is_recalled(database: str) -> None:
    """Of the given tasks what was put aside is due at once; what is only delayed, or of another task, is not."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, *(new_job(task, delay=100.0) for task in ("ours", "theirs", "ours")))
        await connection.execute("update jobqueue.job set aside_since = now() where seq <= 2")
        await claims.recall_aside(session, ["ours", "also ours"])

        assert 1 == (await claims.promote_due(session, 10)).jobs
        assert ["ours"] == [row["task"] for row in await claim(session)]
