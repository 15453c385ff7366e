"""Old finished jobs go: whole days by outcome, single jobs by queue; nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import psycopg
import pytest

from jobqueue import App
from jobqueue.base.job import JobState
from jobqueue.store import upkeep
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.looking import overview
from jobqueue.store.looking.overview import COUNTED_PAGES, count_jobs
from jobqueue.store.upkeep import Ages, Day, Stride, archive_days, prune_day, sweep, take_turn
from tests.support.history import finished, keep, kept, leaf, leaves
from tests.support.jobs.store import claim, claim_one, connect, finish, insert, new_job, new_jobs, open_database
from tests.support.patience import stretched
from tests.support.postgres.locks import jobs_held
from tests.support.postgres.plans import run_learned
from tests.support.waiting import wait_until

DAY = 86_400.0
DEFAULT = Ages(DAY, 30 * DAY)
ALL_OF_TODAY = Ages(0.001, 0.001)


# By outcome: whole days.


async def test_days_go_by_the_age_of_their_outcome(database: str) -> None:
    """S2-15, B1: days that ended longer ago than the age of their kind are dropped whole; younger ones stay."""
    for days in (1, 2, 5):
        finished(database, seconds=days * DAY)
    for days, state in ((2, "dead"), (30, "cancelled"), (31, "cancelled"), (40, "dead")):
        finished(database, seconds=days * DAY, state=state)

    async with open_database(database) as db:
        swept = await sweep(db, DEFAULT)
        again = await sweep(db, DEFAULT)

    assert {leaf("completed", 1)} == leaves(database, "completed")
    assert leaf("other", 30) in leaves(database, "other")
    assert not {leaf("other", days) for days in (31, 40)} & leaves(database, "other")
    assert {("default", "completed"): 1, ("default", "dead"): 1, ("default", "cancelled"): 1} == kept(database)
    assert (0, 0) == (swept.jobs, again.jobs)
    assert (4, 0) == (swept.days, again.days)


async def test_yesterday_stays_whatever_the_age(database: str) -> None:
    """B2: a finish may still write into the day on which its transaction began, so a day is kept for another one."""
    finished(database, seconds=DAY)
    async with open_database(database) as db:
        assert 0 == (await sweep(db, ALL_OF_TODAY)).days
        for day in (leaf("completed", 0), leaf("completed", 1), "job_archive_completed", "job", "nothing"):
            assert not (await db.fetch("drop_archive", day, True))[0]["dropped"]

    assert leaf("completed", 1) in leaves(database, "completed")


TELLS_OF_WAITS = {"log_lock_waits": "on", "deadlock_timeout": "2ms", "client_min_messages": "log"}


@asynccontextmanager
async def telling(dsn: str) -> AsyncIterator[tuple[Session, list[str]]]:
    """A session, and which locks on tables it has waited for: 2 ms and more, by the server's own account.

    It may well wait for its turn to make a table larger: that is between writers.
    """
    pool = await asyncpg.create_pool(dsn, min_size=0, max_size=2, server_settings=TELLS_OF_WAITS)
    session = Session(Database.around(pool, "jobqueue"))
    waits: list[str] = []

    def note(_: object, told: asyncpg.PostgresLogMessage) -> None:
        if " on relation " in str(told):
            waits.append(str(told))

    try:
        await session.ready()
        connection = session._connection
        connection.add_log_listener(note)
        try:
            yield session, waits
        finally:
            connection.remove_log_listener(note)
    finally:
        await session.close()
        await pool.close()


@pytest.mark.parametrize("reads", ["job_archive", "day"])
async def test_an_open_reader_makes_nobody_wait(database: str, reads: str) -> None:
    """S2-15, B2: with a transaction open on the archive no claim or finish waits even 2 ms; the day goes later."""
    finished(database, seconds=5 * DAY)
    table = reads if reads == "job_archive" else leaf("completed", 5)
    async with open_database(database) as db, telling(database) as (session, waits), connect(database) as reader:
        reading = reader.transaction()
        await reading.start()
        await reader.fetchval(f"select count(*) from jobqueue.{table}")
        sweeping = asyncio.create_task(sweep(db, DEFAULT))
        written = 0
        while not sweeping.done():
            await insert(session, new_job())
            written += len(await finish(session, await claim_one(session)))
        assert written > 10
        assert [] == waits
        assert leaf("completed", 5) in leaves(database, "completed")
        assert 0 == (await sweeping).days
        await reading.rollback()

        assert 1 == (await sweep(db, DEFAULT)).days

    assert leaf("completed", 5) not in leaves(database, "completed")


async def test_what_waits_for_a_table_is_told(database: str) -> None:
    """The server tells who waits for a lock on a table, so that a test may say that nobody does."""
    async with telling(database) as (session, waits), jobs_held(database) as hold:
        inserting = asyncio.create_task(insert(session, new_job()))
        await hold.waited_for_by(1)
        await wait_until(lambda: waits, "the wait is told")
        await hold.release()
        await inserting
    assert "RowExclusiveLock" in waits[0]


async def test_under_constant_finishes_a_day_goes_all_the_same(database: str) -> None:
    """S2-15: writers that overlap, so that the archive is never free, keep no day from going: none of them stays."""
    finished(database, seconds=5 * DAY)
    async with open_database(database) as db:
        sweeping = asyncio.create_task(sweep(db, DEFAULT))

        async def busy() -> None:
            async with connect(database) as connection:
                while not sweeping.done():
                    async with connection.transaction():
                        await connection.execute("lock table only jobqueue.job_archive_completed in row exclusive mode")
                        await connection.execute("select pg_sleep(0.02)")

        await asyncio.gather(*(busy() for _ in range(3)))

        assert 1 == (await sweeping).days


# By queue: job by job.


async def test_a_queue_keeps_for_less_long(database: str) -> None:
    """S2-15: retention of 1 s by queue: finished jobs are gone within one sweep; unfinished and other ones stay."""
    keep(database, "mail", completed=1.0)
    for queue in ("mail", "other"):
        finished(database, 3, seconds=5.0, queue=queue)
        finished(database, 2, seconds=5.0, queue=queue, state="dead")
    finished(database, 4, queue="mail", seconds=-1.0)
    async with open_database(database) as db:
        session = Session(db)
        await insert(session, *new_jobs(3, queue="mail"))
        await claim(session, 1, queues=["mail"])
        await age_jobs(database)

        swept = await sweep(db, DEFAULT)
        await session.close()

    assert (0, 3) == (swept.days, swept.jobs)
    assert {
        ("mail", "completed"): 4, ("mail", "dead"): 2, ("other", "completed"): 3, ("other", "dead"): 2,
    } == kept(database)  # fmt: skip
    async with connect(database) as connection:
        states = await connection.fetch("select state, count(*) from jobqueue.job group by state order by state")
    assert [("ready", 2), ("running", 1)] == [tuple(row) for row in states]


async def age_jobs(dsn: str) -> None:
    async with connect(dsn) as connection:
        await connection.execute(
            "update jobqueue.job set created_at = now() - interval '1 year', due_at = now() - interval '1 year'"
        )


async def test_outcomes_of_a_queue_have_their_own_ages(database: str) -> None:
    """S2-15: `keep_other` counts for cancelled and dead jobs alone, and an age of zero or less is refused."""
    keep(database, "mail", completed=100.0, other=10.0)
    for state in ("completed", "cancelled", "dead"):
        finished(database, 2, seconds=50.0, state=state, queue="mail")
    async with open_database(database) as db:
        assert 4 == (await sweep(db, DEFAULT)).jobs

    assert {("mail", "completed"): 2} == kept(database)
    with pytest.raises(psycopg.errors.CheckViolation, match="queue_keep_positive"):
        keep(database, "mail", completed=0.0)


async def only_day(db: Database) -> Day:
    """Today's completed jobs."""
    days = await archive_days(db, drop=Ages(), prune=ALL_OF_TODAY)
    return next(day for day in days if day.leaf == leaf("completed", 0))


@contextmanager
def strides(stride: Stride) -> Iterator[list[int]]:
    """What sizes the batches had, the failed ones too."""
    sizes: list[int] = []
    original = upkeep._run_batch

    async def recorded(database: Database, statement: str, values: tuple[object, ...]) -> list[asyncpg.Record]:
        sizes.append(stride.pages)
        return await original(database, statement, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep, "_run_batch", recorded)
        yield sizes


async def test_batches_shrink_when_they_take_too_long(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S2-15: a delete that the server ends at its time limit is tried again with half; in the end all is deleted."""
    finished(database, 600, seconds=1.0)
    monkeypatch.setattr(upkeep, "_BATCH_MS", int(stretched(250)))
    async with open_database(database) as db, connect(database) as connection:
        await connection.execute(
            "create function slow() returns trigger language plpgsql as"
            f" $$ begin perform pg_sleep({stretched(0.001)}); return old; end $$;"
            f"create trigger slow before delete on jobqueue.{leaf('completed', 0)}"
            " for each row execute function slow()"
        )
        day, stride = await only_day(db), Stride()
        assert day.pages > 8
        with strides(stride) as sizes:
            gone = await prune_day(db, day, ALL_OF_TODAY, stride=stride)

    assert {JobState.COMPLETED: 600} == gone
    assert [64, 32] == sizes[:2]
    assert min(sizes) < 16
    assert {} == kept(database)


async def test_batches_shrink_at_a_lock_and_grow_again(database: str) -> None:
    """S2-15: while somebody has the table, batches shrink; once it is free they grow again, and all is deleted."""
    finished(database, 2_000, seconds=1.0)
    async with open_database(database) as db, connect(database) as holder:
        day, stride = await only_day(db), Stride(64)
        holding = holder.transaction()
        await holding.start()
        await holder.execute(f"lock table jobqueue.{day.leaf} in access exclusive mode")
        with strides(stride) as sizes:
            pruning = asyncio.create_task(prune_day(db, day, ALL_OF_TODAY, stride=stride))
            await wait_until(lambda: stride.pages <= 16, "batches have shrunk")
            await holding.rollback()
            gone = await pruning

    assert 2_000 == gone.total()
    assert sizes[-1] > min(sizes)


async def test_a_day_that_stays_locked_is_left(database: str) -> None:
    """S2-15: what cannot be had at all is left for the next time, without an error."""
    finished(database, 10, seconds=1.0)
    async with open_database(database) as db, connect(database) as holder:
        day = await only_day(db)
        async with holder.transaction():
            await holder.execute(f"lock table jobqueue.{day.leaf} in access exclusive mode")
            assert 0 == (await prune_day(db, day, ALL_OF_TODAY)).total()

        assert 10 == (await prune_day(db, day, ALL_OF_TODAY)).total()


async def test_jobs_that_others_hold_are_passed_over(database: str) -> None:
    """S2-15: a row that another transaction has locked is left, and nobody waits for it."""
    finished(database, 10, seconds=1.0)
    async with open_database(database) as db, connect(database) as holder, holder.transaction():
        await holder.execute("select from jobqueue.job_archive limit 1 for update")
        assert 9 == (await prune_day(db, await only_day(db), ALL_OF_TODAY)).total()

    assert {("default", "completed"): 1} == kept(database)


async def test_two_at_once_remove_each_thing_once(database: str) -> None:
    """S2-15: of workers that look at the same moment one has the turn; should two sweep, they share the work."""
    keep(database, "mail", completed=1.0)
    finished(database, 3_000, seconds=5.0, queue="mail")
    for days in (3, 5, 7):
        finished(database, seconds=days * DAY)
    async with open_database(database) as db:
        turns = await asyncio.gather(*(take_turn(db, 3_000.0) for _ in range(6)))
        assert [False] * 5 + [True] == sorted(turns)
        assert not await take_turn(db, 3_000.0)
        session = Session(db)
        async with session.transaction():
            await session.fetch("shortest_keeps")  # from here on the transaction has its time
            assert await take_turn(db, 0.0)
            assert [] == await session.fetch("take_turn", "retention", 3_000.0), "taken after it began"
        await session.close()

        both = await asyncio.gather(sweep(db, DEFAULT), sweep(db, DEFAULT))
        rest = await sweep(db, DEFAULT)

    assert 3 == sum(swept.days for swept in (*both, rest))
    assert 3_000 == sum(swept.jobs for swept in both)
    assert {} == kept(database)


RIGHTS = """
create role {role};
grant usage on schema jobqueue to {role};
grant select, insert, update on jobqueue.sweep to {role};
grant update, delete on jobqueue.job_key to {role};
grant delete on jobqueue.phase, jobqueue.signal to {role};
grant select on all tables in schema jobqueue to {role};
grant execute on function jobqueue.count_archive(integer) to {role};
"""
REMOVAL = """
grant execute on function jobqueue.drop_archive(text, boolean), jobqueue.keep_results(text, uuid, uuid, integer),
  jobqueue.prune_archive(text, bigint, integer, text, double precision, double precision, boolean),
  jobqueue.count_seconds(text, bigint, integer),
  jobqueue.prune_before(text, bigint, integer, text[], timestamptz[], boolean) to {role};
"""


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """A role that may read, and take turns, but neither delete from the archive nor drop anything."""
    with psycopg.connect(database, autocommit=True) as connection:
        name = f"least_{connection.info.dbname}"
        connection.execute(RIGHTS.format(role=name).encode())
        yield name
        connection.execute(f"drop owned by {name}; drop role {name}".encode())


async def test_least_rights_do(database: str, role: str) -> None:
    """S2-15, section C: a role that may neither drop nor delete removes by the owner's functions, once granted them."""
    keep(database, "mail", completed=1.0)
    finished(database, 3, seconds=5.0, queue="mail")
    finished(database, seconds=5 * DAY)
    async with App(database) as app:
        await app.queues.keep("bulk", most_completed=1)
    for seconds in (5, 15):
        finished(database, seconds=seconds, queue="bulk")
    as_role = f"{database}{'&' if '?' in database else '?'}role={role}"
    async with open_database(as_role) as db, connect(as_role) as connection:
        for forbidden in ("delete from jobqueue.job_archive", f"drop table jobqueue.{leaf('completed', 5)}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sweep(db, DEFAULT)
        assert 6 == sum((await count_jobs(db)).by_state.values()), "also of a day that was made after the grants"
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute(REMOVAL.format(role=role).encode())

        assert await take_turn(db, 3_000.0)
        swept = await sweep(db, DEFAULT)
        for table in ("job", "queue", "job_archive"):
            assert [] == await db.fetch("prune_archive", table, 0, 1_000, None, 0.001, 0.001, False)

    assert (1, 4) == (swept.days, swept.jobs)


# Counting.


async def test_a_large_day_is_estimated_cheaply(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-97, B6: a day with very many jobs is not read whole: its numbers are about right, and say that they are."""
    counted_pages = COUNTED_PAGES // 5  # a day of a fifth is large as well, then
    monkeypatch.setattr(overview, "COUNTED_PAGES", counted_pages)
    finished(database, 36_000, queue="mail")
    finished(database, 12_000, queue="bulk")
    finished(database, 7, queue="mail", state="dead")
    async with open_database(database) as db:
        session = Session(db)
        await insert(session, *new_jobs(5, queue="mail"))
        await session.close()
        (size,) = [
            day.pages for day in await archive_days(db, drop=Ages(), prune=Ages()) if day.leaf == leaf("completed", 0)
        ]
        counts = await count_jobs(db)
    with psycopg.connect(database, autocommit=True) as connection:
        plan = run_learned(connection, "count_finished", (counted_pages,), "generic", size // 2)

    assert size > 8 * counted_pages
    assert {("mail", JobState.COMPLETED), ("bulk", JobState.COMPLETED)} == counts.estimated
    assert 36_000 == pytest.approx(counts.by_queue["mail"][JobState.COMPLETED], rel=0.2)
    assert 12_000 == pytest.approx(counts.by_queue["bulk"][JobState.COMPLETED], rel=0.2)
    assert (7, 5) == (counts.by_queue["mail"][JobState.DEAD], counts.by_queue["mail"][JobState.READY])
    assert plan.buffers < size / 2, f"{plan.buffers} pages touched, {size} are there"


async def test_counts_of_small_days_are_exact(database: str) -> None:
    """S4-97: below that size every number is exact, over all days."""
    finished(database, 500, queue="mail")
    finished(database, 300, queue="mail", seconds=3 * DAY)
    finished(database, 2, queue="bulk", state="cancelled", seconds=9 * DAY)
    async with open_database(database) as db:
        counts = await count_jobs(db)

    assert frozenset() == counts.estimated
    assert {"mail": {JobState.COMPLETED: 800}, "bulk": {JobState.CANCELLED: 2}} == counts.by_queue
