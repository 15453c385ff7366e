"""Migrations: applied once, whoever comes at once; refused where they do not fit."""

import asyncio
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import asyncpg
import pytest

from jobqueue.app import App
from jobqueue.base.errors import ConfigurationError, NotMigrated, SchemaTooNew
from jobqueue.store.schema import migrate as rooms
from jobqueue.store.schema.migrate import Migration, migrate, migrations, script, status
from jobqueue.store.schema.statements import channel, lock_key
from tests.support.jobs.store import claim, connect, insert, new_job, open_database, open_session
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.snapshot import snapshot
from tests.support.rounds import LONG
from tests.support.waiting import wait_until

NAMES = [migration.name for migration in migrations()]
BAD_NAMES = ["", "Jobs", "job-queue", 'a"b', "a;b", "1st", "jobqueue\n", "a" * 49, "schéma"]
NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"


def start_migrator(dsn: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.postgres.migrator", dsn],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_many_processes_make_one_schema(empty_database: str) -> None:
    """S1-19: five processes that migrate at once, ten in a long run, make one schema; a second run changes nothing."""
    migrators = [start_migrator(empty_database) for _ in range(10 if LONG else 5)]
    for migrator in migrators:
        assert migrator.stdout is not None
        assert "ready\n" == migrator.stdout.readline()

    for migrator in migrators:
        assert migrator.stdin is not None
        print("go", file=migrator.stdin, flush=True)
    said = [migrator.communicate(timeout=PATIENCE) for migrator in migrators]

    assert {0} == {migrator.returncode for migrator in migrators}, said
    assert NAMES == " ".join(output for output, _ in said).split()
    before = snapshot(empty_database)
    assert [] == await migrate(empty_database)
    assert before == snapshot(empty_database)


async def test_the_lock_of_a_killed_migrator_is_free(empty_database: str) -> None:
    """S3-29: others wait for a migrator only so long, and after a kill its lock goes with its connection."""
    migrator = start_migrator(empty_database)
    async with connect(empty_database) as observer, connect(empty_database) as obstacle:
        async with obstacle.transaction():
            await obstacle.execute("create schema jobqueue; drop schema jobqueue")  # whoever makes it, waits for us
            print("go", file=migrator.stdin, flush=True)
            await wait_until(lambda: stuck(observer), "the migrator holds the lock and is stuck")
            with pytest.raises(
                ConfigurationError, match=r"another process has been migrating schema 'jobqueue' for 0\.3 s"
            ):
                await migrate(empty_database, lock_timeout=0.3)
            migrator.send_signal(signal.SIGKILL)
            migrator.communicate()
        assert NAMES == await migrate(empty_database, lock_timeout=PATIENCE)


async def test_whoever_makes_the_schema_at_the_same_moment_disturbs_nobody(empty_database: str) -> None:
    """S3-29: what a killed migrator has begun may end after its lock is free: the next one goes on all the same."""
    async with connect(empty_database) as observer, connect(empty_database) as other:
        async with other.transaction():
            await other.execute("create schema jobqueue")
            migrating = asyncio.create_task(migrate(empty_database))
            await wait_until(lambda: stuck(observer), "it waits for whoever makes the schema")

        assert NAMES == await migrating


async def stuck(observer: "asyncpg.Connection[asyncpg.Record]") -> bool:
    return bool(
        await observer.fetchval(
            "select exists (select from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock' and query like '%create schema%' and pid <> pg_backend_pid())"
        )
    )


async def test_one_schema_does_not_wait_for_the_migration_of_another(empty_database: str) -> None:
    """S3-29: the lock belongs to a schema, not to the database."""
    async with connect(empty_database) as other:
        await other.fetchval("select pg_advisory_lock($1, $2)", 0x6A71, lock_key("jobqueue", "migrate"))

        assert NAMES == await migrate(empty_database, "second", lock_timeout=PATIENCE)
        with pytest.raises(ConfigurationError, match="try again later"):
            await migrate(empty_database, lock_timeout=0.1)


async def test_status_tells_what_is_applied(empty_database: str) -> None:
    """The status lists every known migration with whether it is applied, then those that only the database knows."""
    assert [(name, False) for name in NAMES] == await status(empty_database)

    await migrate(empty_database)
    async with connect(empty_database) as connection:
        await connection.execute("insert into jobqueue.migration (name) values ('9000_pre_more')")

    assert [*((name, True) for name in NAMES), ("9000_pre_more", True)] == await status(empty_database)


async def test_the_script_does_what_migrating_does(database: str, empty_database: str) -> None:
    """S1-19: the plain SQL makes the same schema in one go, and counts as applied."""
    async with connect(empty_database) as connection:
        await connection.execute(script())

    assert snapshot(database) == snapshot(empty_database)
    assert [] == await migrate(empty_database)
    async with open_session(empty_database) as session:
        await insert(session, new_job())
        assert 1 == len(await claim(session))


async def test_an_unmigrated_database_says_what_to_do(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a database without the schema, or with half of it, names the command that helps."""
    with pytest.raises(NotMigrated, match=rf"lacks {len(NAMES)} migration.*python -m jobqueue migrate up") as refused:
        async with open_database(empty_database):
            pass
    assert (len(NAMES), "jobqueue") == (refused.value.missing, refused.value.schema)

    await migrate(empty_database)
    async with open_database(empty_database):
        pass
    monkeypatch.setattr(rooms, "migrations", lambda: (*migrations(), Migration("0999_pre_new", "select 1")))
    with pytest.raises(NotMigrated, match="lacks 1 migration"):
        async with open_database(empty_database):
            pass


async def test_a_contracted_schema_refuses_old_code(database: str) -> None:
    """A pre migration that this version does not know only adds, and is tolerated; a post migration is not."""
    async with connect(database) as connection:
        await connection.execute("insert into jobqueue.migration (name) values ('9000_pre_more')")
        assert [] == await migrate(database)
        async with open_database(database):
            pass

        await connection.execute("insert into jobqueue.migration (name) values ('9001_post_less')")
        with pytest.raises(SchemaTooNew, match=r"9001_post_less.*upgrade jobqueue"):
            await migrate(database)
        with pytest.raises(SchemaTooNew, match="9001_post_less"):
            async with open_database(database):
                pass


@pytest.mark.parametrize("schema", BAD_NAMES)
async def test_a_bad_schema_name_is_refused_before_anything_is_touched(schema: str) -> None:
    """S3-04: a schema's name is one that needs no quoting, checked before a connection is made."""
    with pytest.raises(ConfigurationError, match=r"^schema: must be 1 to 48"):
        await migrate(NOWHERE, schema)
    with pytest.raises(ConfigurationError, match=r"^schema: must be 1 to 48"):
        await status(NOWHERE, schema)
    with pytest.raises(ConfigurationError, match=r"^schema: must be 1 to 48"):
        script(schema)


@pytest.mark.parametrize("schema", ["select", "a" * 48, "_x9"])
async def test_any_good_schema_name_works(empty_database: str, schema: str) -> None:
    """S3-04: a schema may be called like a word of SQL, and have the greatest length: names are quoted everywhere."""
    assert NAMES == await migrate(empty_database, schema)

    async with open_session(empty_database, schema=schema) as session:
        (id,) = await insert(session, new_job())
        assert [id] == [row["id"] for row in await claim(session)]


async def test_two_schemas_live_in_one_database(database: str) -> None:
    """S1-20: a second schema has jobs, locks and a channel of its own."""
    await migrate(database, "second")
    assert channel("jobqueue", "wake") != channel("second", "wake")
    assert lock_key("jobqueue", "wake") != lock_key("second", "wake")

    heard: list[str] = []
    async with connect(database) as listener, AsyncExitStack() as stack:
        await listener.add_listener(channel("second", "wake"), lambda *said: heard.append(str(said[-1])))
        first = await stack.enter_async_context(open_session(database))
        second = await stack.enter_async_context(open_session(database, schema="second"))
        await listener.execute("select jobqueue.defer('task', queue => 'first')")
        await listener.execute("select second.defer('task', queue => 'second')")
        await wait_until(lambda: heard, "the listener hears its own schema")

        assert ["r:second"] == heard
        assert ["first"] == [row["queue"] for row in await claim(first, queues=["first", "second"])]
        assert ["second"] == [row["queue"] for row in await claim(second, queues=["first", "second"])]


ALTER = Migration("0999_pre_column", 'alter table :"schema".job add column more integer')


async def test_a_migration_that_has_to_wait_holds_up_nobody(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind a dump it waits in short tries, so that jobs are deferred in between, and is applied once that is over."""
    monkeypatch.setattr(rooms, "_PAUSE", 0.2)
    caplog.set_level("WARNING")
    async with connect(database, application_name="pg_dump") as dump, open_session(database) as session:
        monkeypatch.setattr(rooms, "migrations", lambda: (*migrations(), ALTER))
        async with dump.transaction():
            await dump.execute("select from jobqueue.job")
            migrating = asyncio.create_task(migrate(database))
            await wait_until(lambda: "schema.waits" in caplog.text, "it has tried in vain")
            assert f"pg_dump (pid {dump.get_server_pid()}" in caplog.text
            await insert(session, new_job())
            assert not migrating.done()
        assert [ALTER.name] == await migrating


async def test_a_migration_that_waits_in_vain_says_for_whom(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time it names the session that has the table, also a transaction that was prepared and forgotten."""
    monkeypatch.setattr(rooms, "migrations", lambda: (*migrations(), ALTER))
    async with connect(database, application_name="pg_dump") as dump, dump.transaction():
        await dump.execute("select from jobqueue.job")
        who = rf"'jobqueue'.*0\.1 s.*in use by pg_dump \(pid {dump.get_server_pid()}, for \d+ s\)"
        with pytest.raises(ConfigurationError, match=who):
            await migrate(database, lock_timeout=0.1)
    assert [ALTER.name] == await migrate(database)


async def test_a_worker_waits_for_a_migration_that_is_under_way(empty_database: str) -> None:
    """Started together with the migration, a worker begins when that has ended; without one it says what is missing."""
    app = new_app(empty_database)
    with pytest.raises(NotMigrated):
        async with app.worker():
            pass
    migrator = start_migrator(empty_database)
    async with connect(empty_database) as observer, connect(empty_database) as obstacle:
        async with obstacle.transaction():
            await obstacle.execute("create schema jobqueue; drop schema jobqueue")
            print("go", file=migrator.stdin, flush=True)
            await wait_until(lambda: stuck(observer), "the migrator is stuck")
            starting = asyncio.create_task(started(app))
            await wait_until(lambda: looked_for_migrator(observer), "the worker has looked, and goes on to wait")
        assert await starting
    migrator.communicate(timeout=PATIENCE)


async def started(app: App) -> bool:
    async with app.worker():
        return True


async def looked_for_migrator(observer: "asyncpg.Connection[asyncpg.Record]") -> bool:
    looks = "query like '%pg_locks%4294967295%' and pid <> pg_backend_pid() and datname = current_database()"
    return bool(await observer.fetchval(f"select count(*) from pg_stat_activity where {looks}"))


async def test_a_database_in_another_encoding_is_refused(empty_database: str) -> None:
    """Not every payload or error could be stored there: that is said before the first job, with the way out."""
    place = urlsplit(empty_database)
    narrow = f"{place.path[1:]}_latin1"
    dsn = place._replace(path=f"/{narrow}").geturl()
    async with connect(empty_database) as owner:
        await owner.execute(f"create database {narrow} encoding 'LATIN1' locale 'C' template template0")
        try:
            with pytest.raises(ConfigurationError, match=r"encoding LATIN1.*createdb --encoding=UTF8"):
                await migrate(dsn)
            with pytest.raises(ConfigurationError, match="encoding LATIN1"):
                async with open_database(dsn):
                    pass
        finally:
            await owner.execute(f"drop database {narrow} with (force)")


CONCURRENT = """-- concurrent: job may be large
drop index concurrently if exists :"schema".job_task;
create index concurrently job_task on :"schema".job (task);
"""


async def test_a_concurrent_migration_builds_its_index_outside_a_transaction(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1-19: each step of a concurrent migration commits alone; a left-over of a failed one is replaced."""
    monkeypatch.setattr(rooms, "migrations", lambda: (*migrations(), Migration("0999_post_index", CONCURRENT)))
    async with connect(database) as connection:
        await connection.execute("insert into jobqueue.job (task) values ('same'), ('same')")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("create unique index concurrently job_task on jobqueue.job (task)")
        assert not await index_is_valid(connection)

        assert ["0999_post_index"] == await migrate(database)

        assert await index_is_valid(connection)
        assert [] == await migrate(database)


async def test_a_concurrent_migration_outlasts_the_limit_of_its_role(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `statement_timeout` of the role, as it is recommended behind poolers, is not meant for an index."""
    monkeypatch.setattr(rooms, "migrations", lambda: (*migrations(), Migration("0999_post_index", CONCURRENT)))
    longer = "select from pg_stat_activity where query ~ '^create index' and clock_timestamp() > query_start + '1.2 s'"
    async with connect(database) as connection, connect(database) as other:
        await connection.execute(f"alter database {urlsplit(database).path[1:]} set statement_timeout = '1s'")
        async with other.transaction():
            await other.execute("insert into jobqueue.job (task) values ('waited for')")
            migrating = asyncio.create_task(migrate(database))
            await wait_until(lambda: found(connection, longer, migrating), "it takes longer than the limit")
        assert ["0999_post_index"] == await migrating


async def found(connection: "asyncpg.Connection[asyncpg.Record]", query: str, unless: asyncio.Task[object]) -> bool:
    assert not unless.done(), unless.exception()
    return bool(await connection.fetchval(f"select exists ({query})"))


async def index_is_valid(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    return bool(
        await connection.fetchval("select indisvalid from pg_index where indexrelid = 'jobqueue.job_task'::regclass")
    )


@pytest.mark.parametrize("concurrent", ["", "-- concurrent\n"])
async def test_a_failed_migration_is_not_marked_and_can_be_run_again(
    database: str, monkeypatch: pytest.MonkeyPatch, concurrent: str
) -> None:
    """S1-19: what failed is missing still; in one transaction nothing of it stays, a concurrent one keeps its steps."""
    steps = (
        concurrent + "create table if not exists jobqueue.extra (id int);\ninsert into jobqueue.absent values (1);\n"
    )
    monkeypatch.setattr(rooms, "migrations", lambda: (*migrations(), Migration("0999_pre_extra", steps)))
    async with connect(database) as connection:
        with pytest.raises(asyncpg.UndefinedTableError):
            await migrate(database)
        assert bool(concurrent) == (await connection.fetchval("select to_regclass('jobqueue.extra')") is not None)
        assert ("0999_pre_extra", False) in await status(database)

        await connection.execute("create table jobqueue.absent (id int)")
        assert ["0999_pre_extra"] == await migrate(database)


async def test_a_cancelled_migration_leaves_nothing(empty_database: str) -> None:
    """S1-19: cancelled in mid-migration, everything rolls back, and the lock and the connection are given up."""
    async with connect(empty_database) as observer, connect(empty_database) as obstacle:
        async with obstacle.transaction():
            await obstacle.execute("create schema jobqueue; drop schema jobqueue")
            migrating = asyncio.create_task(migrate(empty_database))
            await wait_until(lambda: stuck(observer), "the migrator is stuck")
            migrating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await migrating
        assert NAMES == await migrate(empty_database, lock_timeout=PATIENCE)
