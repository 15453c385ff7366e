"""The table of synchronous libraries: `defer_sync` and `defer_many_sync` join whatever one passes as `connection=`."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from jobqueue import App, DuplicateJob, Unique
from jobqueue.base.errors import InvalidPayload
from tests.support.jobs.joining import SYNC, JoinedSync, Undo, for_sqlalchemy
from tests.support.jobs.stories import whole_story
from tests.support.postgres.database import Databases

TABLE = "create table invoice (number integer primary key)"
REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"
SECRET = "marker-7f3a"


async def note(text: str) -> str:
    return text


@pytest.fixture
def dsn(databases: Databases, template: str) -> Iterator[str]:
    """A database for tests without a running loop."""
    with databases.temporary(template) as dsn:
        change(dsn, TABLE)
        yield dsn


def change(dsn: str, commands: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(commands.encode())


def counts(dsn: str) -> list[int]:
    """Jobs, keys and invoices that are there."""
    with psycopg.connect(dsn) as connection:
        tables = ("jobqueue.job", "jobqueue.job_key", "invoice")
        found = [connection.execute(f"select count(*) from {table}".encode()).fetchone() for table in tables]
        return [row[0] for row in found if row]


def end(joined: JoinedSync, commits: bool) -> None:
    (joined.commit if commits else joined.rollback)()


@pytest.mark.parametrize("library", SYNC)
@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
def test_jobs_commit_with_the_callers_rows(commits: bool, library: str, dsn: str) -> None:
    """S1-05: rows and jobs of one transaction are there together after its commit, not before, or not at all."""
    app = App(dsn)
    task = app.task(note)
    with SYNC[library](dsn) as joined:
        task.options(connection=joined.connection).defer_sync("a")
        many = [task.job("b"), task.options(unique="k").job("c")]
        assert [False, False] == [one.duplicate for one in app.defer_many_sync(many, connection=joined.connection)]
        joined.execute("insert into invoice values (1)")
        assert [0, 0, 0] == counts(dsn)
        end(joined, commits)

    assert [3 * commits, commits, commits] == counts(dsn)


@pytest.mark.parametrize("library", SYNC)
def test_a_savepoint_takes_its_jobs_back(library: str, dsn: str) -> None:
    """S1-05: rolled back to the library's own savepoint, jobs and keys since then are gone, earlier ones stay."""
    task = App(dsn).task(note)
    with SYNC[library](dsn) as joined:
        task.options(connection=joined.connection).defer_sync("stays")
        with pytest.raises(Undo), joined.savepoint():
            task.options(connection=joined.connection, unique="k").defer_sync("goes")
            raise Undo
        joined.commit()

    assert [1, 0, 0] == counts(dsn)


@pytest.mark.parametrize("library", SYNC)
def test_a_duplicate_leaves_the_transaction_usable(library: str, dsn: str) -> None:
    """A10: told of a duplicate, the caller goes on in the same transaction, which has nothing of the refused job."""
    task = App(dsn).task(note)
    with psycopg.connect(dsn) as connection:
        holder = task.options(unique="k", connection=connection).defer_sync("held")
    with SYNC[library](dsn) as joined:
        on_it = task.options(connection=joined.connection)
        assert on_it.options(unique="k").defer_sync("skipped").duplicate
        with pytest.raises(DuplicateJob) as told:
            on_it.options(unique=Unique("k", on_conflict="raise")).defer_sync("refused")
        joined.execute("insert into invoice values (1)")
        on_it.options(unique="own").defer_sync("kept")
        joined.commit()

    assert holder.id == told.value.id
    assert [2, 2, 1] == counts(dsn)


@pytest.mark.parametrize("library", SYNC)
def test_a_refused_job_is_told_without_its_row(library: str, dsn: str) -> None:
    """S3-20: the library's error quotes the row or the parameters; ours names the rule, and nothing hangs on it."""
    change(dsn, REFUSE_BAD)
    task = App(dsn).task(note)
    with SYNC[library](dsn) as joined:
        with pytest.raises(InvalidPayload, match=r"note job: the database refused it \(no_bad_jobs\)") as told:
            task.options(connection=joined.connection).defer_sync(f"bad {SECRET}")
        joined.rollback()

    assert SECRET not in whole_story(told.value)
    assert [0, 0, 0] == counts(dsn)


def test_an_engine_in_autocommit_is_all_or_none(dsn: str) -> None:
    """S1-05: where SQLAlchemy commits each statement by itself, each call is a transaction of its own."""
    change(dsn, REFUSE_BAD)
    app = App(dsn)
    task = app.task(note)
    engine: Any = create_engine(for_sqlalchemy("psycopg", dsn), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        task.options(connection=connection).defer_sync("a")
        with pytest.raises(InvalidPayload):
            app.defer_many_sync([task.options(unique="l").job("good"), task.job("bad")], connection=connection)
    engine.dispose()

    assert [1, 0, 0] == counts(dsn)
