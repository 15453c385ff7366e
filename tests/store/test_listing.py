"""Lists of jobs: what a look costs is bounded, whatever is asked for, and its pages are whole and in order."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid1, uuid4

import psycopg
import pytest

from jobqueue.base.job import JobState
from jobqueue.store import upkeep
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.session import Session
from jobqueue.store.dated import DAYS_AHEAD
from jobqueue.store.looking.listing import ROOM, JobPage, Wanted, find_ids, list_jobs, place_of
from jobqueue.store.looking.overview import read_flow
from jobqueue.store.upkeep import Ages
from tests.support.history import finished, leaf, utc_day
from tests.support.jobs.store import claim, connect, finish, insert, new_job, new_jobs, open_database, open_session
from tests.support.postgres.plans import run_learned
from tests.support.waiting import wait_until

Connection = psycopg.Connection[Any]
DAY = 86_400.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOWEST, HIGHEST = UUID(int=0), UUID(int=2**128 - 1)
SAID: list[dict[str, str]] = [
    {},
    {"queue": "nobody"},
    {"queue": "long", "task": "x"},
    {"origin": "x"},
    {"pattern": "%ffff"},
]
UNFINISHED = ["blocked", "ready", "running", "scheduled"]
MANY = """
alter table jobqueue.job set (autovacuum_enabled = false);
insert into jobqueue.job (id, queue, task, state, via)
  select (lpad(to_hex(1700000000000 + n), 12, '0') || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid,
    'long', 'task', 'ready', 'py' from (select n, md5(n::text) as hash from generate_series(1, 50000) n) as made;
insert into jobqueue.job (queue, task, state, via, due_at)
  select 'later', 'task', 'scheduled', 'py', now() + interval '1 day' from generate_series(1, 5) n;
insert into jobqueue.job (queue, task, state, via, fence, worker_id, lease_until, attempt)
  select 'run', 'task', 'running', 'py', n, jobqueue.new_id(), now(), 1 from generate_series(1, 7) n;
insert into jobqueue.job (queue, task, state, via)
  select 'after', 'task', 'blocked', 'py' from generate_series(1, 6) n;
"""


with_many = pytest.mark.parametrize("database", [pytest.param(MANY, id="many")], indirect=True)
"""50 000 ready jobs, and few others: the planner knows nothing of them."""


@contextmanager
def many(dsn: str, *, analysed: bool = True) -> Iterator[Connection]:
    """Whether the planner knows of many."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        (pages,) = connection.execute("select pg_relation_size('jobqueue.job') / 8192").fetchone() or (0,)
        assert pages > 800
        if analysed:
            connection.execute("analyze jobqueue.job")
        yield connection


def window(room: int, states: list[str], said: dict[str, str]) -> tuple[object, ...]:
    return HIGHEST, room, 50, states, *(said.get(name) for name in ("queue", "task", "origin", "pattern"))


@with_many
@pytest.mark.parametrize("analysed", [False, True], ids=["unknown", "analysed"])
def test_a_window_reads_so_many_jobs_and_no_more(database: str, analysed: bool) -> None:
    """S4-97: with any filter or none, by a plan of its own or one for all, a window touches few pages and its room."""
    with many(database, analysed=analysed) as connection:
        for said in SAID:
            for room, most in ((100, 60), (10_000, 400)):
                for mode in ("custom", "generic"):
                    values = window(room, UNFINISHED, said)
                    down = run_learned(connection, "look_unfinished", values, mode, most)
                    assert down.buffers <= most, f"{said} {room} {mode}: {down.buffers}"
                    up = run_learned(
                        connection, "find_unfinished", (LOWEST, room, 500, UNFINISHED, *values[4:7]), mode, most
                    )
                    assert up.buffers <= most, f"{said} {room} {mode}: {up.buffers}"


@with_many
@pytest.mark.parametrize("analysed", [False, True], ids=["unknown", "analysed"])
def test_a_few_jobs_in_a_state_are_found_by_its_index(database: str, analysed: bool) -> None:
    """S4-97: what runs, or waits for its time or for others, is found without reading the 50 000 ready jobs beside."""
    with many(database, analysed=analysed) as connection:
        few = (("running", 7, "job_running"), ("scheduled", 5, "job_due"), ("blocked", 6, "job_blocked"))
        for state, jobs, index in few:
            for mode in ("custom", "generic"):
                plan = run_learned(connection, "look_in_states", window(ROOM, [state], {}), mode)
                label = f"{state} {mode}:\n{plan}"
                assert plan.rows_read("job") == jobs, label
                assert {index} == plan.indexes(), label


@with_many
async def test_the_tenth_look_costs_what_the_first_did(database: str) -> None:
    """S4-97: prepared once and asked again and again, a list of what runs stays with its index."""
    with many(database):
        async with open_session(database) as session, connect(database) as observer:
            running = Wanted(frozenset({JobState.RUNNING}))
            pages = [await list_jobs(session, running, after=None, limit=50) for _ in range(12)]
            ids = [ids async for ids in find_ids(session, running, 500)]
            assert [7] == [len(page) for page in ids]
            prepared = await observer.fetchval("select count(*) from jobqueue.job where state = 'running'")

    assert {7} == {len(page) for page in pages}
    assert 7 == prepared


@with_many
async def test_those_that_wait_for_others_are_listed(database: str) -> None:
    """The jobs of state `blocked` are found by a list and by a filter, alone or beside others, also among many."""
    with many(database):
        async with open_session(database) as session:
            for states in ({JobState.BLOCKED}, {JobState.BLOCKED, JobState.RUNNING}):
                wanted = Wanted(frozenset(states))
                page = await list_jobs(session, wanted, after=None, limit=50)
                ids = [ids async for ids in find_ids(session, wanted, 500)]
                assert {JobState.BLOCKED: 6, JobState.RUNNING: 7 * (len(states) - 1)} == {
                    state: sum(job.state is state for job in page) for state in (JobState.BLOCKED, JobState.RUNNING)
                }
                assert {job.id for job in page} == {id for page in ids for id in page}
            assert 6 == len(await list_jobs(session, Wanted(queue="after"), after=None, limit=50))


async def everything(session: Any, wanted: Wanted, limit: int, **said: Any) -> list[JobPage]:
    """All pages of a list."""
    pages = [await list_jobs(session, wanted, after=None, limit=limit, **said)]
    while (after := pages[-1].next) is not None:
        pages.append(await list_jobs(session, wanted, after=after, limit=limit, **said))
    return pages


async def test_a_look_that_takes_too_long_says_where_to_go_on(database: str) -> None:
    """S4-98: out of patience, a page has what was found, and `next`; going on from there finds all, once."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(3, queue="rare"), *new_jobs(600))
        rare = Wanted(queue="rare")
        pages = await everything(session, rare, 50, patience=-1.0)
        (whole,) = await everything(session, rare, 50)

    assert [] == pages[0]
    assert len(pages) > 5
    assert 3 == len(whole)
    assert [job.id for job in whole] == [job.id for page in pages for job in page]


async def test_an_old_page_of_history_opens_few_pieces(database: str) -> None:
    """S4-97: with a hundred days of history, no list holds more than a few locks, however often it is asked."""
    async with connect(database) as connection:
        for ago in range(2, 101):
            await connection.execute(
                f"create table jobqueue.{leaf('other', ago)} partition of jobqueue.job_archive_other"
                f" for values from ('{utc_day(ago)} 00:00+00') to ('{utc_day(ago - 1)} 00:00+00')"
            )
    for days in (0, 5, 50, 100):
        finished(database, seconds=days * DAY, state="dead")
    async with connect(database) as connection:
        executor = OnAsyncpg(connection, "jobqueue")
        for _ in range(8):
            async with connection.transaction():
                page = await list_jobs(executor, Wanted(frozenset({JobState.DEAD})), after=None, limit=50)
                assert 4 == len(page)
                locks = await connection.fetchval("select count(*) from pg_locks where pid = pg_backend_pid()")
                assert locks < 60


@pytest.mark.parametrize("kind", ["completed", "other", "event"])
async def test_a_day_that_is_missing_between_others_is_made(database: str, kind: str) -> None:
    """S2-15: a gap in any of the three is filled at the next look, wherever it is."""
    days = "select leaf from jobqueue.archive_pieces() where kind = $1 order by since"
    if kind == "event":
        days = "select leaf from jobqueue.event_pieces() where kind = $1 order by since"
    async with open_database(database) as db, connect(database) as connection:
        before = [row["leaf"] for row in await connection.fetch(days, kind)]
        for gap in (0, 2, -1):
            await connection.execute(f"drop table jobqueue.{before[gap]}")

            assert 1 == await upkeep.extend_archive(db)

            assert before == [row["leaf"] for row in await connection.fetch(days, kind)]


async def test_where_every_day_is_there_nobody_is_waited_for(database: str) -> None:
    """S2-15: who finds no gap does not queue behind one that makes days, and looks at each day once."""
    async with open_database(database) as db, connect(database) as connection, connection.transaction():
        assert 3 == await connection.fetchval("select jobqueue.extend_archive($1)", DAYS_AHEAD + 1)

        assert 0 == await upkeep.extend_archive(db)


@pytest.mark.parametrize(("days", "span"), [(30, 1), (60, 2), (746, 25)])
async def test_long_retention_makes_no_more_pieces_than_short(database: str, days: int, span: int) -> None:
    """S2-15: pieces of the archive grow with what is kept; about thirty make it up, and they leave no gap."""
    async with open_database(database) as db, connect(database) as connection:
        await upkeep.extend_archive(db, Ages(DAY, days * DAY))
        assert 0 == await upkeep.extend_archive(db, Ages(DAY, days * DAY))
        assert 0 == await upkeep.extend_archive(db), "whoever knows nothing of ages finds no gap"
        for (name,) in await connection.fetch("select leaf from jobqueue.archive_pieces() where since > now()"):
            await connection.execute(f"drop table jobqueue.{name}")
        await upkeep.extend_archive(db, Ages(DAY, days * DAY))
        rows = await connection.fetch(
            "select kind, since, until, lead(since) over (partition by kind order by since) as next"
            " from jobqueue.archive_pieces() order by kind, since"
        )

    ends = {(row["until"] - EPOCH).days for row in rows if row["kind"] == "other" and row["since"] > datetime.now(UTC)}
    assert {0} == {end % span for end in ends}
    assert len(ends) <= 8 / span + 2
    assert {1} == {(row["until"] - row["since"]).days for row in rows if row["kind"] == "completed"}
    assert all(row["next"] in (None, row["until"]) for row in rows)
    assert max(row["until"] for row in rows if row["kind"] == "other") > datetime.now(UTC) + timedelta(days=DAYS_AHEAD)


async def test_a_long_piece_goes_once_its_last_job_is_old_enough(database: str) -> None:
    """S2-15: a piece of many days is dropped when its last day is over for the age, and not with its first."""
    async with open_database(database) as db, connect(database) as connection:
        for first, last in ((60, 35), (35, 10)):
            await connection.execute(
                f"create table jobqueue.{leaf('other', first)} partition of jobqueue.job_archive_other"
                f" for values from ('{utc_day(first)} 00:00+00') to ('{utc_day(last)} 00:00+00')"
            )
        before = await upkeep.archive_days(db, drop=Ages(DAY, 34 * DAY), prune=Ages(None, 36 * DAY))
        assert [True] == [piece.whole for piece in before if piece.leaf == leaf("other", 60)]
        assert [(False, False)] == [(piece.whole, piece.part) for piece in before if piece.leaf == leaf("other", 35)]
        assert not (await db.fetch("drop_archive", leaf("other", 0), False))[0]["dropped"]
        swept = await upkeep.sweep(db, Ages(DAY, 34 * DAY))

    assert 1 == swept.days


def low_uuid4() -> UUID:
    """One random id in a hundred: it looks like a UUIDv7 of some years ahead."""
    return UUID(bytes=b"\x03" + uuid4().bytes[1:])


async def test_jobs_are_listed_by_when_they_came(database: str) -> None:
    """S4-98: ids that tell no time come in their turn, among the others, unfinished and finished, page by page."""
    came: list[UUID] = []
    async with open_session(database) as session:
        for number in range(40):
            began = time.time_ns() // 1_000_000
            await wait_until(lambda began=began: time.time_ns() // 1_000_000 > began, "the next millisecond")
            made = (uuid4, uuid1, lambda: new_job().id, low_uuid4)[number % 4]()
            await insert(session, new_job(id=made))
            came.insert(0, made)
            if number % 5 < 3:
                await finish(session, *await claim(session, 1))
        pages = await everything(session, Wanted(), 7)
        assert came == [job.id for page in pages for job in page]
        for place in (0, 1, 2):
            after = await place_of(session, came[place])
            rest = await list_jobs(session, Wanted(), after=after, limit=100)
            assert came[place + 1 :] == [job.id for job in rest]
        assert await place_of(session, uuid4()) is None


async def test_a_list_of_one_moment_loses_nothing_between_its_pages(database: str) -> None:
    """S4-98: many jobs of one transaction under ids of the caller's, more than a page has room for, are all listed."""
    ids = {uuid1() for _ in range(500)}
    async with open_session(database) as session:
        await insert(session, *(new_job(id=id) for id in ids))
        listed = [job.id for page in await everything(session, Wanted(), 60) for job in page]

    assert len(ids) == len(listed)
    assert ids == set(listed)


async def test_a_job_from_the_future_is_listed_after_its_end(database: str) -> None:
    """S4-98: ids made by a clock that is days ahead hide no job, ended or not, however many there are."""
    ahead = int((datetime.now(UTC) + timedelta(days=3)).timestamp() * 1000)
    ids = {UUID(int=(ahead + n) << 80 | 7 << 76 | 2 << 62 | n) for n in range(300)}
    async with open_session(database) as session:
        await insert(session, *(new_job(id=id) for id in ids), *new_jobs(20))
        await finish(session, *await claim(session, 150))
        listed = [job.id for page in await everything(session, Wanted(), 10) for job in page]
        steered = [id async for page in find_ids(session, Wanted(), 100) for id in page]

    assert 320 == len(listed) == len(set(listed)) == len(steered) == len(set(steered))
    assert ids <= set(listed)


async def test_arguments_and_results_stay_where_they_are(database: str) -> None:
    """S4-98: a list leaves them out unless asked, and a job without them says so instead of giving something else."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(2, args='{"a": 1}'))
        await finish(session, *await claim(session, 1))
        bare = await list_jobs(session, Wanted(), after=None, limit=5)
        full = await list_jobs(session, Wanted(), after=None, limit=5, payload=True)

    for job in bare:
        for name in ("args", "result"):
            with pytest.raises(LookupError, match=r"payload=True"):
                getattr(job, name)
    assert [{"a": 1}, {"a": 1}] == [job.args for job in full]


async def test_the_flow_reads_the_end_of_the_day_only(database: str) -> None:
    """S4-97: rates cost as much with 30 000 jobs that died today as with a few."""
    finished(database, 30_000, state="dead")
    async with open_database(database) as db:
        first = await read_flow(db)
    with psycopg.connect(database, autocommit=True) as connection:
        plans = [
            run_learned(connection, "flow", (first.finished, first.now, 4_000), mode, 250).buffers
            for mode in ("custom", "generic")
        ]
    finished(database, 3, state="dead")
    async with open_database(database) as db:
        second = await read_flow(db, first)

    assert max(plans) <= 250
    assert 3 == second.dead


async def test_sixty_lists_at_once(database: str) -> None:
    """S4-97: as many lists as there is room for connections run beside each other and find the same."""
    async with open_database(database, max_size=20) as db:

        async def look() -> int:
            session = Session(db)
            try:
                return len(await list_jobs(session, Wanted(), after=None, limit=50))
            finally:
                await session.close()

        finished(database, 60)
        assert {50} == set(await asyncio.gather(*(look() for _ in range(60))))
