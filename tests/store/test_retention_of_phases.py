"""What the hourly sweep makes of phases and signals: they stay as long as their job is anywhere, and then they go."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from jobqueue import App, Change
from jobqueue.store import upkeep
from jobqueue.store.upkeep import Ages, sweep
from tests.support.history import finished, keep
from tests.support.jobs.store import Connection, claim, connect, finish, insert, new_job, open_database, open_session

DAY = 86_400.0
KEEP = Ages(DAY, 30 * DAY)
STEPS = """
insert into jobqueue.phase (job_id, name, kind, place, attempt, fence, began_at, ended_at)
select id, 'step ' || n, 'phase', n, 1, 1, now() - $2::interval, now() - $2::interval
from unnest($1::uuid[]) id, generate_series(1, $3::integer) n
"""
SIGNALS = """
insert into jobqueue.signal (job_id, name, payload, sent_at)
select id, 'go', '1', now() - $2::interval from unnest($1::uuid[]) id, generate_series(1, $3::integer) n
"""
LEFT = """
select job_id, count(*) filter (where thing = 'phase'), count(*) filter (where thing = 'signal')
from (
  select job_id, 'phase' as thing from jobqueue.phase union all select job_id, 'signal' from jobqueue.signal) as found
group by job_id
"""


async def leave(connection: Connection, ids: Sequence[UUID], days: float, count: int = 2) -> None:
    """Give each of these so many phases and unread signals of so many days ago."""
    for each in (STEPS, SIGNALS):
        await connection.execute(each, ids, timedelta(days=days), count)


async def left(connection: Connection) -> dict[UUID, tuple[int, int]]:
    """How many phases and signals each job has."""
    return {row[0]: (row[1], row[2]) for row in await connection.fetch(LEFT)}


async def test_what_belongs_to_no_job_goes_when_it_is_old(database: str) -> None:
    """Of jobs that are nowhere phases and signals go that are older than the archive keeps jobs; younger ones stay."""
    old, young = uuid7(), uuid7()
    async with connect(database) as connection, open_database(database) as db:
        await leave(connection, [old], 1.1)
        await leave(connection, [young], 0.9)

        await sweep(db, KEEP)

        assert {young: (2, 2)} == await left(connection)


async def test_what_belongs_to_a_job_stays(database: str) -> None:
    """A job that sleeps for a year, one that ended, and one that came back from the archive keep theirs at any age."""
    finished(database, 2)
    async with connect(database) as connection, open_session(database) as session, App(database) as app:
        (asleep,) = await insert(session, new_job(delay=365 * DAY))
        ended, retried = (row["id"] for row in await connection.fetch("select id from jobqueue.job_archive"))
        await leave(connection, [asleep, ended, retried], 400)
        assert await app.jobs.retry(retried)

        async with open_database(database) as db:
            await sweep(db, KEEP)

        assert {asleep: (2, 2), ended: (2, 2), retried: (2, 2)} == await left(connection)


async def test_they_go_with_the_day_of_their_job(database: str) -> None:
    """S2-15: the sweep that drops a day of the archive drops what its jobs have left as well."""
    finished(database, 3, seconds=5 * DAY)
    async with connect(database) as connection, open_database(database) as db:
        ids = [row["id"] for row in await connection.fetch("select id from jobqueue.job_archive")]
        await leave(connection, ids, 5)

        assert 1 == (await sweep(db, KEEP)).days
        assert {} == await left(connection)


@pytest.mark.parametrize("keeps", [None, 1.0], ids=["for ever", "but for a queue"])
async def test_without_an_age_they_go_all_the_same(database: str, keeps: float | None) -> None:
    """Where jobs are kept for ever, what deleted ones have left goes after a month, or as the shortest queue says."""
    gone, young = uuid7(), uuid7()
    if keeps is not None:
        keep(database, "mail", completed=keeps)
    async with connect(database) as connection, open_database(database) as db:
        await leave(connection, [gone], 31 if keeps is None else 0.1)
        await leave(connection, [young], 0.0)

        await sweep(db, Ages(None, None))

        assert {young: (2, 2)} == await left(connection)


async def test_many_pages_and_jobs_across_their_borders(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages smaller than what a job has: each job is treated as one, whatever part of it a page ends in."""
    monkeypatch.setattr(upkeep, "_STEPS", 3)
    async with connect(database) as connection, open_session(database) as session:
        ids = [uuid7() for _ in range(20)]
        stay = await insert(session, *(new_job(id=id, delay=DAY) for id in ids[::2]))
        await leave(connection, ids, 40, 50)

        async with open_database(database) as db:
            await sweep(db, KEEP)

        assert dict.fromkeys(stay, (50, 50)) == await left(connection)


async def test_the_young_part_of_a_job_that_is_gone_stays_for_a_while(database: str) -> None:
    """An id that came anew meanwhile loses nothing that is younger than the age."""
    gone = uuid7()
    async with connect(database) as connection, open_database(database) as db:
        await leave(connection, [gone], 40, 3)
        await connection.execute("update jobqueue.phase set ended_at = now() where name = 'step 2'")

        await sweep(db, KEEP)

        assert {gone: (1, 0)} == await left(connection)


async def test_a_page_that_is_locked_is_left_for_the_next_time(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction that has a row of a job that is gone makes the sweep shorter, and does not make it fail or hang."""
    monkeypatch.setattr(upkeep, "_STEPS", 2)
    monkeypatch.setattr(upkeep, "_BATCH_MS", 100)
    gone = sorted(uuid7() for _ in range(5))
    async with connect(database) as connection, open_database(database) as db:
        await leave(connection, gone, 40, 2)
        async with connect(database) as holder, holder.transaction():
            await holder.execute("select from jobqueue.phase where job_id = $1 for update", gone[2])
            await sweep(db, KEEP)
            assert {gone[2]: (2, 0), gone[3]: (2, 0), gone[4]: (2, 0)} == await left(connection)
        await sweep(db, KEEP)

        assert {} == await left(connection)


async def test_deleted_jobs_take_theirs_with_them(database: str) -> None:
    """`jobs.delete` removes phases and signals at once, of finished jobs and of waiting ones; nobody else's."""
    finished(database, 2)
    async with connect(database) as connection, open_session(database) as session, App(database) as app:
        waiting, other = await insert(session, new_job(delay=DAY), new_job(delay=DAY))
        ended, kept = (row["id"] for row in await connection.fetch("select id from jobqueue.job_archive"))
        await leave(connection, [waiting, other, ended, kept], 0)

        deleted = await app.jobs.delete(waiting, ended)

        assert {waiting: Change.DONE, ended: Change.DONE} == deleted.each

        assert {other: (2, 2), kept: (2, 2)} == await left(connection)


async def test_a_job_deleted_past_us_is_swept(database: str) -> None:
    """Plain SQL that deletes a job leaves its phases and signals, until they are old enough to be swept."""
    async with connect(database) as connection, open_session(database) as session, open_database(database) as db:
        (id,) = await insert(session, new_job(delay=DAY))
        await leave(connection, [id], 2)
        await connection.execute("delete from jobqueue.job where id = $1", id)
        assert {id: (2, 2)} == await left(connection)

        await sweep(db, KEEP)

        assert {} == await left(connection)


async def test_a_finished_job_keeps_its_phases_for_as_long_as_itself(database: str) -> None:
    """A finish leaves phases alone: those of a job that ended are there to be looked at, and for a retry."""
    async with connect(database) as connection, open_session(database) as session, open_database(database) as db:
        (id,) = await insert(session, new_job())
        await leave(connection, [id], 40)
        await finish(session, *await claim(session))
        await sweep(db, KEEP)

        assert {id: (2, 2)} == await left(connection)
