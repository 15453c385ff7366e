"""Roles: the script of `schema/README.md` gives each part of a site what its work needs, and no more."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest

from jobqueue.app import App
from jobqueue.base.errors import DatabaseError
from jobqueue.base.job import JobState
from jobqueue.base.settings import Settings
from jobqueue.base.steering import Change
from jobqueue.store.schema import migrate as rooms
from jobqueue.store.schema.migrate import migrate, migrations
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.options import Unique
from tests.support.jobs.store import connect
from tests.support.jobs.working import end_of
from tests.support.patience import PATIENCE
from tests.support.postgres.database import Databases, name_of
from tests.support.waiting import wait_until

README = Path(__file__).parents[2] / "schema" / "README.md"
ROLES = ("owner", "worker", "producer", "reader", "caller")
FORBIDDEN = {
    "worker": ["drop table jobqueue.job", "create table jobqueue.mine (id int)", "delete from jobqueue.migration"],
    "producer": [
        "delete from jobqueue.job_archive",
        "update jobqueue.job_archive set state = 'completed'",
        "delete from jobqueue.dependency",
        "update jobqueue.queue set paused_at = now()",
        "delete from jobqueue.worker",
        "delete from jobqueue.bundle",
        "select jobqueue.drop_archive('job_archive_completed_20200101', false)",
        "update jobqueue.phase set result = '1'",
        "insert into jobqueue.signal (job_id, name, payload) values (gen_random_uuid(), 'go', '1')",
    ],
    "reader": [
        "insert into jobqueue.job (task) values ('t')",
        "delete from jobqueue.job",
        "update jobqueue.job_key set job_id = gen_random_uuid()",
        "select jobqueue.extend_archive(400)",
        "select jobqueue.defer('t')",
        "select jobqueue.signal(gen_random_uuid(), 'go')",
        "delete from jobqueue.phase",
        "update jobqueue.schedule set next_at = now()",
    ],
    "caller": [
        "select * from jobqueue.job",
        "select * from jobqueue.job_archive",
        "insert into jobqueue.job (task) values ('t')",
        "select jobqueue.extend_archive(1)",
        "select jobqueue.count_archive(1)",
        "select * from jobqueue.phase",
        "delete from jobqueue.signal",
        "select * from jobqueue.schedule",
    ],
}


def script(names: dict[str, str]) -> str:
    """The script as a reader of the page copies it, with names of his own."""
    (found,) = re.findall(r"```sql\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    text: str = found
    for role, name in names.items():
        text = text.replace(f"jobqueue_{role}", name)
    return text


@pytest.fixture(scope="module")
def names(databases: Databases) -> Iterator[dict[str, str]]:
    """Roles without any right: each by its name here. What they get in a database goes with it."""
    with databases.temporary() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        made = {role: f"{role}_{connection.info.dbname}" for role in ROLES}
        for name in made.values():
            connection.execute(f"create role {name}".encode())
        yield made
        for name in made.values():
            connection.execute(f"drop role {name}".encode())


@pytest.fixture
def owner(empty_database: str, names: dict[str, str]) -> str:
    """The DSN of an owner who may make the schema."""
    return may_make(empty_database, names["owner"])


def may_make(dsn: str, owner: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"grant create on database {connection.info.dbname} to {owner}".encode())
    return as_role(dsn, owner)


def as_role(dsn: str, role: str) -> str:
    return f"{dsn}{'&' if '?' in dsn else '?'}role={role}"


@pytest.fixture(scope="module")
def todays_template(databases: Databases, names: dict[str, str]) -> Iterator[str]:
    """The name of a database that the owner has migrated, who then gave the roles their rights: the one to clone."""
    with databases.temporary() as dsn:
        asyncio.run(migrate(may_make(dsn, names["owner"])))
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"set role {names['owner']}; {script(names)}".encode())
        yield name_of(dsn)


@pytest.fixture
def site(database: str, names: dict[str, str]) -> dict[str, str]:
    """The DSN of each role, in a database that the owner has migrated."""
    may_make(database, names["owner"])
    return {role: as_role(database, name) for role, name in names.items()}


@pytest.mark.parametrize("role", FORBIDDEN)
async def test_no_role_may_do_more(site: dict[str, str], role: str) -> None:
    """What is not its work is refused to each role, by the server."""
    async with connect(site[role]) as connection:
        for forbidden in FORBIDDEN[role]:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)


async def test_each_role_can_do_its_work(site: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Producer, worker, reader and caller each do all of theirs with the rights of the script."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", "a key of the tests, long enough to be one")
    producing, working, reading = (
        App(site[role], settings=Settings(poll=0.5)) for role in ("producer", "worker", "reader")
    )

    async def note(text: str) -> str:
        return text

    for app in (producing, working, reading):
        app.task(note)
    send = producing.registry.find("note")
    assert send is not None

    async with producing, working, reading:
        first = await send.defer("first")
        keyed = await send.options(unique="k", delay=3600).defer("held")
        moved = await send.options(unique=Unique("k", on_conflict="replace+move"), delay=60).defer("held")
        doomed = await send.options(delay=3600).defer("doomed")
        resent = await send.options(id=first.id).defer("first")
        many = await send.defer_many(["a", "b"])
        assert Change.DONE is await doomed.cancel()
        async with producing.bundle("import", on_finish=send.job("over")) as bundle:
            bundle.add(send.job("member"))
            await bundle.flush()
            bundle.add(send.options(delay=3600).job("never"))
        async with producing.bundle("at once", empty="finish") as at_once:
            pass
        with pytest.raises(TimeoutError):
            await reading.bundles.wait(at_once.id, 0.1)  # it may look only
        assert (await producing.bundles.wait(at_once.id, PATIENCE)).finished
        assert Change.DONE in (await producing.bundles.cancel(bundle.id)).each.values()
        async with connect(site["caller"]) as connection:
            await connection.fetchval("select jobqueue.defer('note', '{\"text\": \"sql\"}', id => $1)", None)

        async with working.worker():
            assert "first" == await first.result(timeout=PATIENCE)
            assert ["a", "b"] == [await handle.result(timeout=PATIENCE) for handle in many]
            assert (await reading.bundles.wait(bundle.id, PATIENCE)).finished
            async with producing.bundle("in order") as ordered:
                member = ordered.add(send.job("member"), after=[first])  # which has ended
                ordered.add(send.job("last"), after=[member])
            assert 2 == (await reading.bundles.wait(ordered.id, PATIENCE)).completed
        await working.bundles.delete(bundle.id)
        await working.bundles.delete(at_once.id)
        await working.bundles.delete(ordered.id)
        await working.queues.pause("other")
        await working.queues.resume("other")
        await working.jobs.retry(first.id)
        await working.jobs.delete(first.id)
        hook = await working.webhooks.create("https://receiver.example/")
        assert [hook] == await reading.webhooks.list()
        await working.webhooks.delete(hook.id)

        assert (keyed.id, True, True) == (moved.id, moved.duplicate, resent.duplicate)
        counts = await reading.jobs.counts()
        listed = await reading.jobs.list()
        stats = await reading.queues.stats()

    assert (1, 3, 1) == tuple(
        counts.by_state[state] for state in (JobState.SCHEDULED, JobState.COMPLETED, JobState.CANCELLED)
    )
    assert 5 == len(listed)
    assert {"default", "other"} == {queue.queue for queue in stats}


async def count_up(connection: Any, by: int) -> int:
    return by + int(await connection.fetchval("select 1"))


async def test_each_role_can_do_its_work_with_phases(site: dict[str, str]) -> None:
    """A worker records, producer and caller send signals, a reader sees the phases; who steers jobs, clears them."""
    producing, working, reading = (
        App(site[role], settings=Settings(poll=0.5)) for role in ("producer", "worker", "reader")
    )

    async def steps(ctx: JobContext) -> list[int]:
        return [
            await ctx.phase_in_transaction("count", count_up, 1),
            *[await ctx.wait_for(name, int, signal="go") for name in ("first", "second")],
        ]

    for app in (producing, working, reading):
        app.task(steps)
    begin = producing.registry.find("steps")
    assert begin is not None

    async with producing, working, reading:
        job, never = await begin.defer(), await begin.options(delay=3600).defer()
        assert (Change.DONE, Change.DONE) == (await job.signal("go", 1), await never.signal("go", 1))
        async with connect(site["caller"]) as connection:
            assert "done" == await connection.fetchval("select jobqueue.signal($1, 'go', '2')", job.id)
        async with working.worker():
            assert [2, 1, 2] == await job.result(timeout=PATIENCE)
        phases = await reading.jobs.phases(job.id)
        await producing.jobs.reschedule(never.id, delay=60)
        await working.jobs.delete(never.id)
        await working.jobs.retry(job.id, from_start=True)
        again = await reading.jobs.phases(job.id)
        await working.jobs.delete(job.id)

    assert (["count", "first", "second"], []) == ([phase.name for phase in phases], list(again))


async def test_each_role_can_do_its_work_with_schedules(site: dict[str, str]) -> None:
    """A producer puts, steers, triggers and deletes them, a worker fires them and declares its own, a reader looks."""
    producing, working, reading = (
        App(site[role], settings=Settings(poll=0.5)) for role in ("producer", "worker", "reader")
    )

    async def note() -> None: ...

    for app in (producing, working, reading):
        app.task(note)
    send = working.registry.find("note")
    assert send is not None
    working.cron("0 0 1 1 *", name="declared")(send)

    async with producing, working, reading:
        await producing.schedules.put("tick", send.job(), "* * * * * *")
        await producing.schedules.put("gone", send.job(), "0 0 1 1 *", overlap="queue")
        await producing.schedules.pause("gone")
        await producing.schedules.resume("gone")
        await producing.schedules.trigger("gone")
        await producing.schedules.delete("gone")
        async with working.worker() as worker:
            await wait_until(lambda: worker.snapshot().fired >= 2, "it has fired")
            with pytest.raises(DatabaseError, match="42501"):
                await reading.schedules.pause("tick")
            await wait_until(lambda: has_schedules(reading, "declared", "tick"), "what the code says is stored")
        await working.schedules.backfill("tick", *(datetime(2026, 1, 1, 0, 0, n, tzinfo=UTC) for n in (1, 3)))


async def has_schedules(app: App, *names: str) -> bool:
    return list(names) == [each.name for each in await app.schedules.list()]


async def test_a_worker_role_sweeps(site: dict[str, str]) -> None:
    """Days are made and dropped for a worker that could do neither by itself."""
    async with connect(site["worker"]) as connection:
        assert 0 < await connection.fetchval("select jobqueue.extend_archive(10)")
        leaf = await connection.fetchval("select jobqueue.drop_archive('job_archive_completed_20200101', false)")
    assert leaf is False


async def test_nobody_makes_more_than_a_month_of_days(site: dict[str, str]) -> None:
    """The number of days is bounded, whoever asks: each day is three tables."""
    async with connect(site["worker"]) as connection:
        made = await connection.fetchval("select jobqueue.extend_archive(100000)")
        assert 0 == await connection.fetchval("select jobqueue.extend_archive(100000)")
    assert made <= 3 * 33


async def test_what_runs_as_the_owner_is_closed_and_pinned(site: dict[str, str]) -> None:
    """Every function that runs as its owner has a fixed search_path and cannot be called by everybody."""
    async with connect(site["owner"]) as connection:
        rows = await connection.fetch(
            "select p.proname, p.proconfig, has_function_privilege('public', p.oid, 'execute') as open"
            " from pg_proc p where p.pronamespace = 'jobqueue'::regnamespace and p.prosecdef"
        )
    assert {"defer", "extend_archive", "count_archive"} <= {row["proname"] for row in rows}
    for row in rows:
        assert "search_path=pg_catalog, pg_temp" in row["proconfig"], row["proname"]
        assert not row["open"], row["proname"]


async def test_the_function_is_not_fooled_by_a_search_path(site: dict[str, str]) -> None:
    """Objects of the caller's, before all others on its path, are never used with the owner's rights."""
    async with connect(site["caller"]) as connection:
        await connection.execute(
            "create function pg_temp.clock_timestamp() returns timestamptz language plpgsql as"
            " $$ begin raise exception 'fooled'; end $$; set search_path = pg_temp, pg_catalog"
        )
        assert await connection.fetchval("select jobqueue.defer('t')")


async def test_who_drops_days_may_keep_their_results(
    empty_database: str, owner: str, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that was granted the function that drops days can also call, after the upgrade, what goes before it."""
    before = tuple(each for each in migrations() if each.name < "0021")
    monkeypatch.setattr(rooms, "migrations", lambda: before)
    worker = as_role(empty_database, names["worker"])
    await migrate(owner)
    async with connect(owner) as connection:
        await connection.execute(
            f"grant usage on schema jobqueue to {names['worker']};"
            f"grant execute on function jobqueue.drop_archive(text, boolean) to {names['worker']}"
        )
    monkeypatch.undo()
    await migrate(owner)

    keeps = "select jobqueue.keep_results('none', $1, $1, 1)"
    async with connect(worker) as connection, connect(as_role(empty_database, names["reader"])) as stranger:
        assert [] == await connection.fetch(keeps, UUID(int=0))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.fetch(keeps, UUID(int=0))


MAY = {
    "worker": {"select", "insert", "update", "delete", "signal"},
    "producer": {"select", "delete", "signal"},
    "reader": {"select"},
    "caller": {"signal"},
}
BEFORE = """
grant usage on schema jobqueue to {worker}, {producer}, {reader}, {caller};
grant all on all tables in schema jobqueue to {worker};
grant all on all functions in schema jobqueue to {worker};
grant select on all tables in schema jobqueue to {reader}, {producer};
grant insert, update, delete on jobqueue.job to {producer};
do $$ begin
  execute (select format('grant execute on function %s to {caller}', oid::regprocedure) from pg_proc
    where proname = 'defer' and pronamespace = 'jobqueue'::regnamespace);
end $$;
"""
RIGHTS = """
select string_agg(privilege, ' ') filter (where has_table_privilege($1, 'jobqueue.phase', privilege)),
  string_agg(privilege, ' ') filter (where has_table_privilege($1, 'jobqueue.signal', privilege)),
  has_function_privilege($1, 'jobqueue.signal(uuid, text, text, integer)', 'execute')
from unnest(array['select', 'insert', 'update', 'delete']) privilege
"""


@pytest.mark.parametrize("everybody", [False, True], ids=["roles", "public"])
async def test_rights_on_jobs_reach_phases_and_signals(
    empty_database: str, owner: str, names: dict[str, str], monkeypatch: pytest.MonkeyPatch, everybody: bool
) -> None:
    """After the upgrade whoever had rights on jobs has the like on phases and signals, and nobody has more."""
    before = tuple(each for each in migrations() if each.name < "0022")
    monkeypatch.setattr(rooms, "migrations", lambda: before)
    await migrate(owner)
    given = {role: "public" if everybody and role == "reader" else name for role, name in names.items()}
    async with connect(owner) as connection:
        await connection.execute(BEFORE.format(**given))
    monkeypatch.undo()
    await migrate(owner)

    async with connect(owner) as connection:
        for role, expected in MAY.items():
            ((on_phase, on_signal, signals),) = await connection.fetch(RIGHTS, names[role])
            assert on_phase == on_signal
            found = {*(on_phase or "").split(), *(["signal"] if signals else [])}
            assert (expected | {"select"} if everybody else expected) == found, role


@pytest.mark.parametrize("everybody", [False, True], ids=["roles", "public"])
async def test_rights_on_finished_jobs_reach_schedules(
    empty_database: str, owner: str, names: dict[str, str], monkeypatch: pytest.MonkeyPatch, everybody: bool
) -> None:
    """After the upgrade who could run jobs fires schedules, who could look at jobs reads them, and nobody has more."""
    before = tuple(each for each in migrations() if each.name < "0023")
    monkeypatch.setattr(rooms, "migrations", lambda: before)
    await migrate(owner)
    given = {role: "public" if everybody and role == "reader" else name for role, name in names.items()}
    async with connect(owner) as connection:
        await connection.execute(BEFORE.format(**given))
    monkeypatch.undo()
    await migrate(owner)

    rights = (
        "select coalesce(string_agg(p, ' ') filter (where has_table_privilege($1, 'jobqueue.schedule', p)), '')"
        " from unnest(array['select', 'insert', 'update', 'delete']) p"
    )
    all_of_them = {"worker": "select insert update delete", "producer": "select", "reader": "select", "caller": ""}
    if everybody:
        all_of_them["caller"] = "select"
    async with connect(owner) as connection:
        found = {role: await connection.fetchval(rights, names[role]) for role in all_of_them}
    assert all_of_them == found


async def test_who_drops_days_may_sweep_what_they_leave(
    empty_database: str, owner: str, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role with no right on the archive but that to drop its days removes, after the upgrade, phases as well."""
    before = tuple(each for each in migrations() if each.name < "0022")
    monkeypatch.setattr(rooms, "migrations", lambda: before)
    await migrate(owner)
    async with connect(owner) as connection:
        await connection.execute(f"grant execute on function jobqueue.drop_archive(text, boolean) to {names['worker']}")
    monkeypatch.undo()
    await migrate(owner)

    async with connect(owner) as connection:
        (rights,) = await connection.fetch(RIGHTS, names["worker"])
    assert ("select delete", "select delete", False) == tuple(rights)


async def test_who_could_before_still_can(
    empty_database: str, owner: str, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that had its rights from grants of its own works on after the migration that closes the functions."""
    before = tuple(each for each in migrations() if each.name < "0008")
    monkeypatch.setattr(rooms, "migrations", lambda: before)
    worker = as_role(empty_database, names["worker"])
    await migrate(owner)
    async with connect(owner) as connection:
        await connection.execute(
            f"grant usage on schema jobqueue to {names['worker']};"
            f"grant all on all tables in schema jobqueue to {names['worker']};"
            f"grant all on all sequences in schema jobqueue to {names['worker']}"
        )
    monkeypatch.undo()
    await migrate(owner)

    app = App(worker)

    @app.task
    async def work() -> None:
        pass

    async with app, app.worker():
        job = await end_of(app, await work.defer())
    async with connect(worker) as connection, connect(as_role(empty_database, names["reader"])) as stranger:
        assert await connection.fetchval("select jobqueue.defer('work')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stranger.fetchval("select jobqueue.defer('work')")

    assert JobState.COMPLETED is job.state
