"""The whole at one look, whatever its size: queues, the flow through them, workers and what they run."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import psycopg
import pytest

from jobqueue.base.flows.bundle import BundleCounts
from jobqueue.base.job import JobState
from jobqueue.base.outcome import Cancelled, Dead
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking import overview
from jobqueue.store.looking.holding import running_jobs
from jobqueue.store.looking.overview import COUNTED_JOBS, COUNTED_PAGES, Kept, QueueStats, count_bundles, queue_stats
from jobqueue.store.progress import write_progress
from jobqueue.store.steering import cancel, pause_queue, resume_queue
from jobqueue.store.workers import Registration, leave, register, unregister
from tests.support.history import finished, keep
from tests.support.jobs.blocked import block
from tests.support.jobs.store import (
    WORKER,
    claim,
    claim_one,
    connect,
    failure,
    finish,
    insert,
    new_job,
    new_jobs,
    open_database,
    open_session,
)
from tests.support.patience import scaled
from tests.support.postgres.database import Databases, name_of
from tests.support.postgres.plans import run_learned

MANY = """
alter table jobqueue.job set (autovacuum_enabled = false);
insert into jobqueue.job (queue, task, priority, state, via, args)
  select 'long', 'task', n % 3, 'ready', 'py', '{"text": "some words"}' from generate_series(1, 30000) n;
insert into jobqueue.job (queue, task, state, via)
  select 'zlast', 'task', 'blocked', 'py' from generate_series(1, 5) n;
insert into jobqueue.job (queue, task, state, via) select 'short', 'task', 'ready', 'py' from generate_series(1, 7);
insert into jobqueue.job (queue, task, state, via, crashes)
  select 'odd', 'task', 'ready', 'py', 1 from generate_series(1, 3);
insert into jobqueue.job (queue, task, state, via, priority, due_at)
  values ('long', 'task', 'ready', 'py', -5, now() - interval '1 hour');
insert into jobqueue.job (queue, task, state, via, fence, worker_id, claim_no, lease_until, attempt, claimed_at,
  started)
  select 'long', 'task', 'running', 'py', n, 'a2f1c0de-0000-4000-8000-000000000000', 1, now(), 1, now(), true
  from generate_series(1, 40) n;
"""
SCHEDULED = """
insert into jobqueue.job (queue, task, state, via, due_at)
  select 'later', 'task', 'scheduled', 'py', now() + n * interval '1 s' from generate_series(1, %s) n
"""
BLOCKED = """
insert into jobqueue.job (queue, task, state, via) select 'after', 'task', 'blocked', 'py' from generate_series(1, %s) n
"""
with_many = pytest.mark.parametrize("database", [pytest.param(MANY, id="many")], indirect=True)


def add(dsn: str, scheduled: int = 20_000, blocked: int = 0) -> None:
    """More jobs beside many: now the table has more pages than are read as a whole."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEDULED, [scheduled])
        connection.execute(BLOCKED, [blocked])
        found = connection.execute("select pg_relation_size('jobqueue.job') / 8192").fetchone()
    assert found is not None
    assert found[0] > COUNTED_PAGES


async def by_name(database: Database) -> dict[str, QueueStats]:
    return {queue.queue: queue for queue in await queue_stats(database)}


async def test_queues_are_counted(database: str) -> None:
    """S4-97: jobs by queue and state, for how long the oldest is due, and pauses; a queue once paused stays listed."""
    async with open_session(database) as session:
        assert [] == await queue_stats(session.database)
        await insert(
            session, *new_jobs(3, queue="mail"), new_job(queue="mail", delay=60.0), new_job(queue="night", delay=60.0)
        )
        await claim(session, 1, queues=["mail"])
        end = await pause_queue(session, "mail", None, 600.0)
        await pause_queue(session, "idle", None, None)
        await pause_queue(session, "over", datetime.fromisoformat("2020-01-01T00:00Z"), None)
        keep(database, "night", completed=60.0)

        idle, mail, night, over = await queue_stats(session.database)

        assert ("idle", 0, 0, 0, None, True, None) == counts(idle)
        assert ("mail", 1, 2, 1, mail.oldest_due, True, end) == counts(mail)
        assert mail.oldest_due is not None
        assert 0 <= mail.oldest_due < scaled(10)
        assert ("night", 1, 0, 0, None, False, None) == counts(night)
        assert not over.paused
        assert (Kept(), Kept(60.0)) == (mail.keep, night.keep)
        assert [None, True] == [queue.resumes_in and 590 < queue.resumes_in <= 600 for queue in (idle, mail)]
        assert all(queue.paused_for is not None and 0 <= queue.paused_for < 10 for queue in (idle, mail))
        assert all(not queue.estimated for queue in (idle, mail, night, over))


def counts(queue: QueueStats) -> tuple[object, ...]:
    return queue.queue, queue.scheduled, queue.ready, queue.running, queue.oldest_due, queue.paused, queue.resume_at


async def test_a_pause_ends_on_the_database_s_clock(database: str) -> None:
    """S2-01, S4-12: so many seconds from the database's now; resumed, it says whether it was paused."""
    async with open_session(database) as session, connect(database) as connection:
        end = await pause_queue(session, "mail", None, 600.0)
        assert end is not None
        assert 600 - scaled(5) < (end - await connection.fetchval("select now()")).total_seconds() <= 600
        assert await resume_queue(session, "mail")
        assert not await resume_queue(session, "mail")
        await pause_queue(session, "mail", datetime.fromisoformat("2020-01-01T00:00Z"), None)
        assert not await resume_queue(session, "mail")


@with_many
async def test_a_long_backlog_is_estimated(database: str) -> None:
    """S4-97: of a large table small numbers are exact, large ones about right and marked; the oldest job counts, even
    one of the lowest priority behind thousands."""
    add(database)
    async with open_session(database) as session:
        found = await by_name(session.database)

    assert {"later", "long", "odd", "short", "zlast"} == set(found)
    assert (5, frozenset()) == (found["zlast"].blocked, found["zlast"].estimated)
    assert (7, 3, 40) == (found["short"].ready, found["odd"].ready, found["long"].running)
    assert not found["short"].estimated | found["odd"].estimated
    assert {JobState.READY} == found["long"].estimated
    assert {JobState.SCHEDULED} == found["later"].estimated
    assert 30_001 == pytest.approx(found["long"].ready, rel=0.05)
    assert 20_000 == pytest.approx(found["later"].scheduled, rel=0.05)
    oldest = found["long"].oldest_due
    assert oldest is not None
    assert 3_600 <= oldest < 3_700


@with_many
async def test_few_scheduled_jobs_are_exact_beside_a_long_backlog(database: str) -> None:
    """S4-97: as long as not more than some thousand wait for their time, each queue's number is exact."""
    add(database, scheduled=COUNTED_JOBS - 1)
    async with open_session(database) as session:
        later = (await by_name(session.database))["later"]

    assert (COUNTED_JOBS - 1, frozenset()) == (later.scheduled, later.estimated)


async def test_those_that_wait_for_others_are_counted(database: str) -> None:
    """Blocked jobs are a number of their own: exact while they are few, beside however many others."""
    async with open_session(database) as session, connect(database) as connection:
        blocked, *_ = await insert(session, *new_jobs(3, queue="mail"))
        await block(connection, blocked)
        (mail,) = await queue_stats(session.database)
        assert ((2, 1), frozenset()) == ((mail.ready, mail.blocked), mail.estimated)
        assert {JobState.READY: 2, JobState.BLOCKED: 1} == (await overview.count_jobs(session.database)).by_queue[
            "mail"
        ]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(MANY)
    add(database, scheduled=0, blocked=COUNTED_JOBS - 7)
    async with open_session(database) as session:
        found = await by_name(session.database)
    assert (COUNTED_JOBS - 7, 5, 1) == tuple(found[queue].blocked for queue in ("after", "zlast", "mail"))
    assert not found["after"].estimated | found["zlast"].estimated | found["mail"].estimated


@with_many
async def test_very_many_that_wait_for_others_are_estimated(database: str) -> None:
    """Of more blocked jobs than are counted the numbers are about right, and say so."""
    add(database, scheduled=5, blocked=30_000)
    async with open_session(database) as session:
        found = await by_name(session.database)

    assert {JobState.BLOCKED} == found["after"].estimated
    assert 30_000 == pytest.approx(found["after"].blocked, rel=0.05)
    assert (5, frozenset()) == (found["later"].scheduled, found["later"].estimated)


@pytest.fixture(scope="module")
def unknown(databases: Databases, template: str) -> Iterator[str]:
    """The name of a database with many jobs, of which the planner knows nothing."""
    with databases.temporary(databases.filled(template, MANY)) as dsn:
        add(dsn, blocked=30_000)
        yield name_of(dsn)


@pytest.fixture(scope="module")
def analysed(databases: Databases, unknown: str) -> Iterator[str]:
    """The same, and the planner knows everything."""
    with databases.stocked(unknown, "analyze") as name:
        yield name


@pytest.mark.parametrize("learned", ["unknown", "analysed"])
@pytest.mark.parametrize(
    ("name", "values", "most"),
    [
        ("queue_stats", (COUNTED_JOBS, COUNTED_PAGES), 15_000),
        ("flow", (1, datetime.fromisoformat("2020-01-01T00:00Z"), 4_000), 200),
        ("working", (), 200),
        ("longest_running", (20,), 200),
        ("beside_job", (UUID(int=1),), 50),
        ("running_jobs", (None, None, None, 50), 200),
        ("running_jobs", (["q1", "q2"], UUID(int=1), "limit", 50), 200),
        ("held_by_workers", (["q1", "q2"],), 200),
        ("first_in_line", ("limit\nkey", 20), 50),
    ],
)
def test_no_look_reads_the_table(
    request: pytest.FixtureRequest,
    databases: Databases,
    name: str,
    values: tuple[object, ...],
    most: int,
    learned: str,
) -> None:
    """S4-97: whatever the planner knows, a look touches a bounded number of rows and pages, and no table as a whole."""
    with (
        databases.temporary(request.getfixturevalue(learned)) as dsn,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        for mode in ("custom", "generic"):
            plan = run_learned(connection, name, values, mode, most)
            label = f"{name}, {mode} plan:\n{plan}"
            assert plan.buffers <= most, label
            assert plan.rows_read("job") <= 3 * COUNTED_JOBS + 50 * COUNTED_PAGES, label
            assert not [
                node for node in plan.scans("job") if node["Node Type"] == "Seq Scan" and node["Actual Rows"]
            ], label


async def test_the_flow_is_counted(database: str) -> None:
    """S4-97: two looks differ by what was deferred, started and has ended between them; of what has ended just that is
    counted which is dead or cancelled, nothing that ended before the first look, however shortly."""
    finished(database, 5, seconds=60, state="dead")
    async with open_session(database) as session:
        await insert(session, *new_jobs(6))
        early, also_early, done, dead, cancelled, _ = await claim(session, 6)
        await finish(session, early, outcome=Dead("fatal", failure()))
        await finish(session, also_early, outcome=Cancelled())
        before = await overview.read_flow(session.database)
        await finish(session, done)
        await finish(session, dead, outcome=Dead("fatal", failure()))
        await finish(session, cancelled, outcome=Cancelled())
        await insert(session, *new_jobs(1))
        await claim_one(session)
        after = await overview.read_flow(session.database, before)
        again = await overview.read_flow(session.database, after)

    assert (1, 3) == (after.started - before.started, after.finished - before.finished)
    assert ((0, 0), (1, 1), (0, 0)) == tuple((flow.dead, flow.cancelled) for flow in (before, after, again))
    assert before.now < after.now


async def test_workers_are_shown_as_they_are(database: str) -> None:
    """S4-97: who lives, who left jobs behind and who is dead, with what each runs and holds ahead."""
    dead, gone = UUID(int=1), UUID(int=2)
    async with open_session(database) as session:
        for id, alive in ((WORKER, 60.0), (dead, 0.0), (gone, 60.0)):
            await register(session, id, Registration("shop", "1.2", ["*"], 5, alive, None, None))  # type: ignore[arg-type]
        await insert(session, *new_jobs(3))
        await claim(session)
        async with connect(database) as connection:
            await connection.execute(
                "update jobqueue.job set started = id = (select min(id::text)::uuid from jobqueue.job)"
            )
        await leave(session.database, gone)  # type: ignore[arg-type]
        found = {worker.id: worker for worker in await overview.workers_now(session.database)}

        assert [True, True, False] == [worker.alive for worker in found.values()]
        assert (1, 2, 5, "1.2", False) == (
            found[WORKER].running, found[WORKER].ahead, found[WORKER].concurrency, found[WORKER].version,
            found[WORKER].leaving,
        )  # fmt: skip
        assert found[gone].leaving
        assert 0 <= found[dead].silent < scaled(10)
        await unregister(session.database, WORKER)
        assert WORKER not in {worker.id for worker in await overview.workers_now(session.database)}


async def test_what_runs_is_shown_the_longest_first(database: str) -> None:
    """S3-17, S4-97: running jobs with attempt, time and progress; something else written as progress hurts nobody."""
    async with open_session(database) as session:
        ids = await insert(session, *new_jobs(4, queue="mail"))
        first, second, third = [await claim_one(session, queues=["mail"]) for _ in range(3)]
        await write_progress(
            session,
            WORKER,
            [(first["id"], first["fence"], '{"fraction": 0.5, "message": "half", "data": {"secret": 1}}')],
        )
        await write_progress(session, WORKER, [(second["id"], second["fence"], '["odd"]')])
        await cancel(session, [third["id"]])
        async with connect(database) as connection:
            await connection.execute(
                "update jobqueue.job set claimed_at = claimed_at - interval '60 s' where id = $1", third["id"]
            )

        found = await overview.longest_running(session.database, 10)

        assert [third["id"], first["id"], second["id"]] == [job.id for job in found]
        assert ids[3] not in {job.id for job in found}
        assert [(None, None), (0.5, "half"), (None, None)] == [(job.fraction, job.message) for job in found]
        assert [True, False, False] == [job.cancelling for job in found]
        assert 60 <= found[0].seconds < 60 + scaled(10)
        assert ("mail", 1, 20, WORKER, False) == (
            found[0].queue, found[0].attempt, found[0].max_attempts, found[0].worker_id, found[0].ahead,
        )  # fmt: skip
        assert [third["id"]] == [job.id for job in await overview.longest_running(session.database, 1)]


async def test_no_progress_that_plain_sql_has_written_ends_the_look(database: str) -> None:
    """NUL, half a character, numbers beyond all limits: they are left out, the others stand."""
    odd = {
        '{"fraction": 0.25, "message": "a\\u0000b"}': (None, None),
        '{"message": "\\ud800", "fraction": 1}': (None, None),
        '{"fraction": 1e999, "message": "far"}': (None, "far"),
        '{"fraction": 1e-999}': (None, None),
        f'{{"fraction": {"9" * 400}}}': (None, None),
        '{"fraction": 0.5e-3}': (0.0005, None),
        '{"fraction": "1"}': (None, None),
    }
    async with open_session(database) as session:
        await insert(session, *(new_job(queue="mail") for _ in odd))
        for text in odd:
            job = await claim_one(session, queues=["mail"])
            async with connect(database) as connection:
                await connection.execute(
                    "update jobqueue.job set progress = $2::text::json where id = $1", job["id"], text
                )
        for found in (await overview.longest_running(session.database, 10), await running_jobs(session, 10)):
            assert sorted(odd.values(), key=str) == sorted(((job.fraction, job.message) for job in found), key=str)


async def test_what_keeps_a_job_from_running(database: str) -> None:
    """S4-98: put aside, or in a paused queue; nothing of a job that is not there."""
    async with open_session(database) as session:
        (id,) = await insert(session, new_job(queue="mail"))
        free = await overview.beside_job(session.database, id)
        await pause_queue(session, "mail", None, None)
        async with connect(database) as connection:
            await connection.execute("update jobqueue.job set aside_since = now() - interval '60 s'")
        held = await overview.beside_job(session.database, id)

        assert overview.Beside(None, False, None) == free
        assert held is not None
        assert (True, None) == (held.paused, held.resume_at)
        assert held.aside is not None
        assert 60 <= held.aside < 60 + scaled(10)
        assert await overview.beside_job(session.database, UUID(int=7)) is None


async def test_bundles_are_counted(database: str) -> None:
    """S4-97: few bundles are counted; of very many the numbers are about right, and say so, by some pages."""
    made = (
        "insert into jobqueue.bundle (name, open, dead, finished_at)"
        " select 'b', n %% 4 = 0, (n %% 5 = 0)::integer, case when n %% 4 > 0 then now() end"
        " from generate_series(1, %s) n"
    )
    async with open_database(database) as db:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(made, (400,))
            assert BundleCounts(100, 300, 80) == await count_bundles(db)
            connection.execute(made, (20_000,))
            few = await count_bundles(db)
            connection.execute(made, (80_000,))
            many = await count_bundles(db)
            (size,) = connection.execute("select pg_relation_size('jobqueue.bundle') / 8192").fetchone() or (0,)
            plan = run_learned(connection, "count_bundles", (COUNTED_JOBS, COUNTED_PAGES), "generic", 2_000)

    assert (5_100, frozenset({"finished", "with_errors"})) == (few.unfinished, few.estimated)
    assert {"unfinished", "finished", "with_errors"} == many.estimated
    counted = many.unfinished, many.finished, many.with_errors
    assert (25_100, 75_300, 20_080) == pytest.approx(counted, rel=0.2)
    assert plan.buffers < 2_000 < size, f"{plan.buffers} pages touched, {size} are there"
