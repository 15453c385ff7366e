"""What the database holds can be read and computed with: it comes in no other way, and what was there is mended."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from jobqueue import JobContext, Rate
from jobqueue.base.errors import DatabaseError
from jobqueue.base.job import JobState
from jobqueue.base.moments import EARLIEST, LATEST, LONGEST
from jobqueue.base.outcome import Released
from jobqueue.base.steering import Action
from jobqueue.store import claims, steering
from jobqueue.store.claims import moment_of
from jobqueue.store.intake import insert_all
from jobqueue.store.looking import lookup
from jobqueue.store.looking.listing import Wanted, list_jobs
from jobqueue.store.schema import migrate as rooms
from jobqueue.store.schema.migrate import migrate, migrations
from tests.support.jobs.store import Connection, claim, claim_one, connect, finish, insert, new_job, open_session
from tests.support.jobs.working import archived, end_of, new_app
from tests.support.postgres.backends import change
from tests.support.waiting import wait_until

PAST_ALL = ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'9999-12-31 23:59:59.999999+00'", "'1969-12-31 23:59+00'"]
MOMENTS = ["due_at", "created_at", "deadline", "expires_at", "aside_since", "cancel_asked"]


@pytest.mark.parametrize("moment", PAST_ALL)
@pytest.mark.parametrize("column", MOMENTS)
async def test_no_row_has_a_moment_past_the_range(database: str, column: str, moment: str) -> None:
    """Plain SQL cannot store a moment that a worker could not read, or that the database could not compute with."""
    async with connect(database) as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="job_times_in_range"):
            await connection.execute(f"insert into jobqueue.job (task, {column}) values ('t', {moment})")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("timeout", "'infinity'"), ("timeout", "'nan'"), ("timeout", "316224001"), ("budget", "'nan'"), ("budget", "0"),
        ("budget", "316224001"), ("attempt", "2147483647"),
    ],
)  # fmt: skip
async def test_no_row_has_a_number_that_cannot_be_used(database: str, column: str, value: str) -> None:
    """The same for lengths of time, and for a number of attempts that a claim could not add one to."""
    async with connect(database) as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="in_range"):
            await connection.execute(f"insert into jobqueue.job (task, {column}) values ('t', {value})")


async def test_the_greatest_number_of_attempts_can_be_claimed(database: str) -> None:
    """A claim adds one to what plain SQL may have stored, again and again, and never fails for it."""
    async with open_session(database) as session, connect(database) as connection:
        await connection.execute("insert into jobqueue.job (task, attempt) values ('t', 32768)")
        seen = []
        for _ in range(3):
            row = await claim_one(session)
            seen.append(row["attempt"])
            await finish(session, row, outcome=Released())

    assert [32768] * 3 == seen[:1] * 3
    assert max(seen) <= 32768


IN_LISTS = {
    "bundle": ("created_at", "cancel_asked", "finished_at"), "limit": ("declared_at", "changed_at"),
    "webhook": ("created_at", "rotated_at", "failing_since", "paused_at"),
    "worker": ("started_at", "seen_at", "stopped_at", "alive_until", "stuck_at"),
}  # fmt: skip


async def test_no_row_of_a_list_has_a_moment_past_the_range(database: str) -> None:
    """Bundles, limits, webhooks and workers: one row that could not be read would end the list of all."""
    async with connect(database) as connection:
        for table, columns in IN_LISTS.items():
            found = await connection.fetchval(
                "select pg_get_constraintdef(oid) from pg_constraint where conname = $1", f"{table}_times_range"
            )
            rule = str(found).removeprefix("CHECK ").removesuffix(" NOT VALID")
            for column in columns:
                for moment in PAST_ALL:
                    values = ", ".join(
                        f"{moment if each == column else 'null'}::timestamptz {each}" for each in columns
                    )
                    assert False is await connection.fetchval(f"select {rule} from (select {values}) as row"), column


@pytest.mark.parametrize("moment", PAST_ALL)
@pytest.mark.parametrize("column", ["paused_at", "resume_at"])
async def test_no_queue_has_a_moment_past_the_range(database: str, column: str, moment: str) -> None:
    """The times of a pause are held to the same range."""
    async with connect(database) as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="queue_times_in_range"):
            await connection.execute(f"insert into jobqueue.queue (name, {column}) values ('q', {moment})")


@pytest.mark.parametrize("age", ["'infinity'", "'nan'", "316224001"])
@pytest.mark.parametrize("column", ["keep_completed", "keep_other"])
async def test_no_queue_keeps_jobs_for_longer_than_the_range(database: str, column: str, age: str) -> None:
    """An age that no date can be computed with would end every later sweep."""
    async with connect(database) as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="queue_keep_in_range"):
            await connection.execute(f"insert into jobqueue.queue (name, {column}) values ('q', {age})")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("''", "task: must have"),
        ("null", "task: must have"),
        ("'t', queue => repeat('q', 101)", "queue: must have"),
        ("'t', queue => '*'", "queue: "),
        ("'t', origin => ''", "origin: must have"),
        ("'t', priority => 32768", "priority: must be from"),
        ("'t', priority => null", "priority: must be from"),
        ("'t', max_attempts => 0", "max_attempts: must be from"),
        ("'t', delay => -1", "delay: must be between"),
        ("'t', delay => 'infinity'", "delay: must be between"),
        ("'t', delay => 'nan'", "delay: must be between"),
        ("'t', timeout => 0", "timeout: must be above"),
        ("'t', timeout => 'nan'", "timeout: must be above"),
        *((f"'t', at => {moment}", "at: must be between") for moment in PAST_ALL),
    ],
)
async def test_the_function_names_the_argument(database: str, arguments: str, fault: str) -> None:
    """`jobqueue.defer` says which argument is wrong, and why, as `defer` in Python does; nothing is stored."""
    async with connect(database) as connection:
        with pytest.raises(asyncpg.InvalidParameterValueError, match=f"^{fault}"):
            await connection.fetchval(f"select jobqueue.defer({arguments})")

        assert 0 == await connection.fetchval("select count(*) from jobqueue.job")


async def test_the_function_takes_what_is_in_the_range(database: str) -> None:
    """Both ends of the range are stored; a delay of null is none."""
    async with open_session(database) as session, connect(database) as connection:
        for value in (EARLIEST, LATEST):
            await connection.fetchval("select jobqueue.defer('t', at => $1, timeout => $2)", value, LONGEST)
        await connection.fetchval("select jobqueue.defer('t', delay => null)")
        jobs = await list_jobs(session, Wanted(), after=None, limit=10)

    assert [JobState.READY, JobState.SCHEDULED, JobState.READY] == [job.state for job in jobs]


async def test_what_is_derived_stays_in_the_range(database: str) -> None:
    """The latest due time with the longest budget: deadline and expiry are cut at the end of the range."""
    job = new_job(at=LATEST, budget=LONGEST, expires=LONGEST)
    async with open_session(database) as session:
        await insert(session, job)
        found = await lookup.find_job(session.database, job.id)

    assert found is not None
    assert (LATEST, LATEST, LATEST) == (found.due_at, found.deadline, found.expires_at)


async def test_a_plain_job_has_no_limits(database: str) -> None:
    """Cutting at the end of the range gives no limit to a job that has none."""
    async with open_session(database) as session:
        (id,) = await insert(session, new_job(delay=60.0))
        found = await lookup.find_job(session.database, id)

    assert found is not None
    assert (None, None) == (found.deadline, found.expires_at)


async def test_a_holder_moves_within_the_range(database: str) -> None:
    """A job that was sent to the end of the range and is then moved to now keeps limits that can be read."""
    first = new_job(key="k", budget=60.0, expires=60.0, delay=3600.0)
    later = new_job(key="k", on_conflict="move", at=EARLIEST)
    async with open_session(database) as session:
        await insert_all(session, [first], always=False)
        await steering.change(session, Action.RESCHEDULE, [first.id], at=LATEST)
        await insert_all(session, [later], always=False)
        found = await lookup.find_job(session.database, first.id)

    assert found is not None
    assert found.deadline is not None
    assert (EARLIEST, EARLIEST) == (found.due_at, found.deadline)


async def test_a_due_time_far_off_is_none_to_wait_for(database: str) -> None:
    """Whoever promotes looks again within the day, whatever the next due time and the end of a pause may be."""
    async with open_session(database) as session, connect(database) as connection:
        await insert(session, new_job(at=LATEST))
        await steering.pause_queue(session, "q", LATEST, None)
        assert (0, None) == (await claims.promote_due(session, 10))[:2]

        await connection.execute("alter table jobqueue.job drop constraint job_times_in_range")
        await connection.execute("update jobqueue.job set due_at = 'infinity'")
        assert (0, None) == (await claims.promote_due(session, 10))[:2]


BAD_ROWS = """
insert into jobqueue.job (task, state, due_at, deadline, expires_at, timeout, attempt) values
  ('t', 'ready', '-infinity', 'infinity', '0001-01-01 BC', 'infinity', 2147483647),
  ('t', 'scheduled', 'infinity', 'infinity', 'infinity', 'nan', 0);
update jobqueue.job set budget = 'infinity' where state = 'ready';
insert into jobqueue.queue (name, resume_at, keep_other) values ('q', 'infinity', 'nan');
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, finished_at)
values (gen_random_uuid(), 'q', 't', '{}', 0, 'dead', '-infinity', 1, 1, 0, 0, 1, 'py', 0, '0001-01-01 BC', now());
"""


async def migrate_with(dsn: str, rows: str, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Migrate a database that had these rows before the migration of this number."""
    before = tuple(each for each in migrations() if each.name < number)
    with monkeypatch.context() as patch:
        patch.setattr(rooms, "migrations", lambda: before)
        await migrate(dsn)
    await change(dsn, rows)
    await migrate(dsn)


async def test_what_is_there_already_is_mended(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of before this range are brought into it by the migration: workers claim them, lists show them."""
    await migrate_with(empty_database, BAD_ROWS, "0008", monkeypatch)

    async with open_session(empty_database) as session, connect(empty_database) as connection:
        jobs = await list_jobs(session, Wanted(), after=None, limit=10)
        claimed = await claim(session)
        queue = await connection.fetchrow("select resume_at, keep_other from jobqueue.queue")
    assert {EARLIEST, LATEST} == {job.due_at for job in jobs}
    assert [(EARLIEST, LATEST)] == [(moment_of(row["due_at"]), moment_of(row["deadline"])) for row in claimed]
    assert [LONGEST] == [row["timeout"] for row in claimed]
    assert (LATEST, LONGEST) == tuple(queue or ())


ONE_OF_EACH = """
insert into jobqueue.bundle (id, name, origin, callbacks, created_at)
  values (gen_random_uuid(), 'b', 'o', '[]', '0044-03-15 BC');
insert into jobqueue."limit" (name, declared, changed, declared_at) values
  ('a', '{"concurrency": 1, "count": "x"}', '{"count": null}', '-infinity'), ('b', '[]', '5', now()),
  ('c', '{"count": 9, "per": "Infinity", "burst": 1}', null, now()),
  ('d', '{"count": 2147483647, "per": 1, "burst": 2147483647}', '{"per": "NaN"}', now());
"""


async def test_lists_that_one_row_had_ended_are_mended(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for rows of before the range held for bundles and limits: the lists show them again."""
    await migrate_with(empty_database, ONE_OF_EACH, "0036", monkeypatch)

    async with new_app(empty_database) as app:
        assert [EARLIEST] == [bundle.created_at for bundle in await app.bundles.list()]
        limits = await app.limits.list()
    assert EARLIEST == limits[0].declared_at
    assert [(1, None), (None, None)] == [(limit.concurrency, limit.rate) for limit in limits[:2]]
    assert [Rate(9, LONGEST), Rate(1_000_000, LONGEST, burst=1_000_000)] == [limit.rate for limit in limits[2:]]


@pytest.mark.parametrize(
    "rule",
    [
        '{"count": 1, "per": "Infinity", "burst": 1}', '{"count": 1, "per": "NaN", "burst": 1}', "[]", "5",
        '{"count": 1, "per": 316224001, "burst": 1}', '{"concurrency": 1000001}',
        '{"count": 1000001, "per": 1, "burst": 1}',
    ],
)  # fmt: skip
async def test_no_limit_is_one_that_cannot_be_computed_with(database: str, rule: str) -> None:
    """A rate over an endless time would stop the gates of all limits, and no list could show it."""
    async with connect(database) as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="limit_rule"):
            await connection.execute("insert into jobqueue.\"limit\" (name, declared) values ('l', $1)", rule)


HISTORIES: list[Any] = ["[1, null, []]", '[{"at": "soon"}]', '[{"at": 5}]', '[{"attempt": "x"}]', "[1e999]"]


@pytest.mark.parametrize("history", HISTORIES)
async def test_a_history_that_plain_sql_has_made_costs_nobody_anything(database: str, history: str) -> None:
    """A job whose error history is no such thing fails and is listed like any other: its worker lives on."""
    app = new_app(database)

    @app.task(max_attempts=1)
    async def fail() -> None:
        raise OSError("no route")

    async with app, app.worker() as worker:
        handle = await fail.options(delay=3600).defer()
        async with connect(database) as connection:
            await connection.execute("update jobqueue.job set errors = $1::text::jsonb", history)
        await app.jobs.reschedule(handle.id, delay=0)
        job = await end_of(app, handle)
        listed = await app.jobs.list()
        assert not worker.has_ended

    assert JobState.DEAD is job.state
    assert ("Unreadable", "OSError") == (job.errors[0].error_class, job.errors[-1].error_class)
    assert [job.id] == [each.id for each in listed]


async def test_a_job_of_a_year_that_python_has_not_runs(database: str) -> None:
    """Whatever times plain SQL has written, a claim can be read, and the job sees the first or last there is."""
    app = new_app(database)
    seen: list[tuple[int, int]] = []

    @app.task
    async def work(ctx: JobContext) -> None:
        seen.append((ctx.job.created_at.year, ctx.job.deadline.year if ctx.job.deadline else 0))

    async with app, connect(database) as connection:
        handle = await work.options(delay=3600).defer()
        odd = "created_at = '0044-03-15 BC', deadline = 'infinity'"
        await unchecked(connection, f"update jobqueue.job set state = 'ready', {odd}")
        async with app.worker():
            await wait_until(lambda: archived(database), "it has ended")

        with pytest.raises(DatabaseError, match="a value in the answer cannot be read"):
            await app.jobs.get(handle.id)
    assert [(1, 9999)] == seen


async def unchecked(connection: Connection, sql: str) -> None:
    await connection.execute("alter table jobqueue.job drop constraint job_times_in_range")
    await connection.execute(sql)


async def test_a_pause_has_an_end_within_the_range(database: str) -> None:
    """`until` is checked where it is said, as every moment is."""
    async with new_app(database) as app:
        with pytest.raises(ValueError, match=r"^until: must be between the years"):
            await app.queues.pause("q", until=datetime.max.replace(tzinfo=UTC))
        end = await app.queues.pause("q", seconds=timedelta(minutes=1))

    assert end is not None
