"""The databases that all other tests rely on, and the search for what a test leaves behind."""

import asyncio
import threading
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo

import asyncpg
import pytest

from tests.support.jobs.working import asked
from tests.support.leaks import Surroundings, find_leaks
from tests.support.postgres import server
from tests.support.postgres.database import Databases
from tests.support.postgres.server import Caller, Door, RunServer, Server, ServerUnavailable, database_dsn


class KnownServer:
    """A source whose answers are known, without PostgreSQL."""

    def server(self) -> Server:
        return Server("postgresql://nowhere/postgres", "made up", "18.0", "jobqueue_test_none")

    def template(self) -> str:
        raise ServerUnavailable("no template here")


async def test_a_test_gets_an_empty_database_of_its_own(empty_database: str) -> None:
    """The database of a test exists, is reachable and has no table."""
    connection = await asyncpg.connect(empty_database)
    try:
        name = await connection.fetchval("select current_database()")
        tables = await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'")
    finally:
        await connection.close()

    assert name in empty_database
    assert 0 == tables


async def test_a_database_with_the_schema_is_a_clone(database: str) -> None:
    """The usual database has the migrated schema."""
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("select to_regclass('jobqueue.job') is not null")
    finally:
        await connection.close()


ROWS = """
insert into jobqueue.job (task, via) values ('note', 'py');
delete from jobqueue.job_archive;
insert into jobqueue.queue (name) values ('mail');
delete from jobqueue.queue;
delete from jobqueue.migration where name like '0002%';
update jobqueue.event_floor set seq = seq + 7;
select nextval('jobqueue.fence_seq'), jobqueue.defer('note');
"""
AS_IT_IS = """
select json_build_object('sizes', json_object_agg(relname, pg_relation_size(oid)), 'known',
  json_agg(reltuples) filter (where relkind in ('r', 'p'))) || ''
  || (select json_agg(m order by name) from jobqueue.migration as m)
  || (select json_agg(f) from jobqueue.event_floor as f)
  || (select json_agg(pg_sequence_last_value(seqrelid) order by seqrelid) from pg_sequence)
from (select * from pg_class where relnamespace = 'jobqueue'::regnamespace order by oid) as c
"""


async def test_a_database_that_was_used_is_as_new(databases: Databases, template: str) -> None:
    """No row, no dead row, no number of a sequence is left of a test; what the schema comes with is there again."""
    with databases.as_new(template, lambda: True) as first:
        new = await asked(first, AS_IT_IS)
        for statement in ROWS.strip().split(";\n"):
            await asked(first, statement)
        assert new != await asked(first, AS_IT_IS)
    with databases.as_new(template, lambda: False) as again:
        assert (first, new) == (again, await asked(again, AS_IT_IS))
    with databases.as_new(template, lambda: True) as another:
        assert first != another, "that test had failed"


ALTERATIONS = {
    "a table more": "create table public.basket (id int)",
    "a setting of a table": "alter table jobqueue.job set (autovacuum_enabled = false)",
    "an index less": "drop index jobqueue.job_blocked",
    "a right": "grant select on jobqueue.job to public",
    "what the planner knows": "analyze jobqueue.job",
    "a setting of all": "do $$ begin execute format('alter database %I set work_mem = 65', current_database()); end $$",
}


@pytest.mark.parametrize("alteration", list(ALTERATIONS.values()), ids=list(ALTERATIONS))
async def test_a_database_that_was_altered_is_not_used_again(
    databases: Databases, template: str, alteration: str
) -> None:
    """Only rows can be taken back."""
    with databases.as_new(template, lambda: True) as first:
        await asked(first, alteration)
    with databases.as_new(template, lambda: True) as other:
        assert first != other


async def test_a_database_in_which_somebody_is_left_is_not_used_again(databases: Databases, template: str) -> None:
    """He may hold locks, and write later."""
    with databases.as_new(template, lambda: True) as first:
        connection = await asyncpg.connect(first)
    connection.terminate()
    with databases.as_new(template, lambda: True) as other:
        assert first != other


async def test_what_was_filled_once_is_cloned_by_all(databases: Databases, template: str) -> None:
    """A filled database is made once, whoever asks again, and its clones have what it was filled with."""
    filled = databases.filled(template, "create table made as select clock_timestamp() as at")
    again = Databases(databases.server)
    try:
        assert filled == again.filled(template, "create table made as select clock_timestamp() as at")
    finally:
        again.close()
    with databases.temporary(filled) as one, databases.temporary(filled) as other:
        assert await asked(one, "select at from made") == await asked(other, "select at from made")


async def test_names_a_forgotten_task_thread_and_connection(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a test leaves behind is named: the task, the thread, the backend."""
    monkeypatch.setattr("tests.support.leaks.MOMENT", 0.05)
    before = Surroundings.now()
    with databases.temporary() as dsn:
        task = asyncio.create_task(asyncio.Event().wait(), name="forgotten-task")
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, name="forgotten-thread")
        thread.start()
        connection = await asyncpg.connect(dsn, server_settings={"application_name": "forgotten-backend"})
        try:
            leaks = await find_leaks(before, databases.backends(dsn))
        finally:
            await connection.close()
            stop.set()
            thread.join()
            task.cancel()
        after = await find_leaks(before, databases.backends(dsn))

    assert [
        "forgotten-task",
        "forgotten-thread",
        "forgotten-backend",
    ] == [word for word in ("forgotten-task", "forgotten-thread", "forgotten-backend") if word in str(leaks)]
    assert 3 == len(leaks)
    assert [] == after


def test_parallel_processes_ask_at_the_door() -> None:
    """A parallel test process gets the same answers as the one that owns the server, failures included."""
    source = KnownServer()
    door = Door(source)
    try:
        caller = Caller(*door.address)
        assert source.server() == caller.server()
        with pytest.raises(ServerUnavailable, match="no template here"):
            caller.template()
    finally:
        door.close()


def test_a_new_day_has_a_template_of_its_own(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run over midnight goes on with databases that were migrated on the day of the test."""

    class Tomorrow:
        @staticmethod
        def now(zone: tzinfo) -> datetime:
            return datetime.now(zone) + timedelta(days=1)

    source = RunServer()
    source.started = replace(databases.server, run=f"{databases.server.run}_again")
    today = source.template()
    monkeypatch.setattr(server, "datetime", Tomorrow)

    assert [today, today] != [source.template(), source.template()]
    assert source.template() == source.template()


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://me:pw@host:5432/postgres", "postgresql://me:pw@host:5432/other"),
        ("postgresql:///postgres?host=/run/pg", "postgresql:///other?host=/run/pg"),
        ("postgres://host", "postgres://host/other"),
    ],
)
def test_a_dsn_can_name_another_database(dsn: str, expected: str) -> None:
    """Only the database of a DSN changes; host, role and options stay."""
    assert expected == database_dsn(dsn, "other")
