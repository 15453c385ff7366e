"""defer_sync: a job joins the transaction of a synchronous psycopg connection."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row, namedtuple_row
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import ConfigurationError, InvalidOption, InvalidPayload
from tests.support.jobs.stories import whole_story
from tests.support.patience import PATIENCE
from tests.support.postgres.database import Databases

SECRET = "marker-7f3a"
REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"

KINDS: dict[str, dict[str, Any]] = {
    "tuples": {},
    "dicts": {"row_factory": dict_row},
    "names": {"row_factory": namedtuple_row},
    "raw cursors": {"cursor_factory": psycopg.RawCursor},
    "client cursors": {"cursor_factory": psycopg.ClientCursor},
}


async def note(text: str) -> str:
    return text


class OwnConnection(psycopg.Connection[Any]):
    """A connection of a user's own."""


@pytest.fixture
def dsn(databases: Databases, template: str) -> Iterator[str]:
    """A database for tests without a running loop."""
    with databases.temporary(template) as dsn:
        yield dsn


def count(dsn: str, table: str = "job") -> int:
    with psycopg.connect(dsn) as connection:
        (found,) = connection.execute(f"select count(*) from jobqueue.{table}").fetchone() or (0,)
        return int(found)


@pytest.mark.parametrize("options", [{}, {"unique": "k"}, {"id": uuid7()}], ids=["plain", "unique", "id"])
@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
def test_the_job_is_in_the_callers_transaction(commits: bool, options: dict[str, Any], dsn: str) -> None:
    """S1-05: also as the first statement a deferred job commits and rolls back with the caller, never by itself."""
    task = App(dsn).task(note)
    with psycopg.connect(dsn) as connection:
        handle = task.options(connection=connection, **options).defer_sync("a")
        assert 0 == count(dsn)
        assert not handle.duplicate
        if commits:
            connection.commit()
        else:
            connection.rollback()

        assert int(commits) == count(dsn)


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_rows_and_cursors(kind: str, dsn: str) -> None:
    """S1-05: whatever rows and cursors the connection makes, keys and ids are found, and the caller's stay."""
    task = App(dsn).task(note)
    with psycopg.connect(dsn, **KINDS[kind]) as connection:
        before = (connection.row_factory, connection.cursor_factory)
        keyed = task.options(connection=connection, unique="k", meta={"percent": "100 %s"})
        first, second = keyed.defer_sync("100 %(p1)s"), keyed.options(id=uuid7()).defer_sync("b")

        assert (False, True) == (first.duplicate, second.duplicate)
        assert first == second
        assert before == (connection.row_factory, connection.cursor_factory)


def test_a_deferred_job_runs(dsn: str) -> None:
    """S1-05: what defer_sync has stored is a job like any other."""
    import asyncio

    app = App(dsn)
    task = app.task(note)
    with OwnConnection.connect(dsn) as connection:
        handle = task.options(connection=connection, priority=3).defer_sync("a")

    async def run() -> str:
        async with app:
            await app.run_until_idle()
            return await handle.result(timeout=PATIENCE)

    assert "a" == asyncio.run(run())


def test_autocommit_is_all_or_none(dsn: str) -> None:
    """S1-05: on an autocommit connection each call commits by itself; a refused one leaves no key either."""
    task = App(dsn).task(note)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(REFUSE_BAD)
        on_it = task.options(connection=connection)
        on_it.defer_sync("a")
        on_it.options(unique="k").defer_sync("b")
        with pytest.raises(InvalidPayload):
            on_it.options(unique="l").defer_sync("bad")
        with connection.transaction(force_rollback=True):
            on_it.defer_sync("c")
            on_it.options(unique="m").defer_sync("d")

        assert (2, 1) == (count(dsn), count(dsn, "job_key"))


def test_a_block_of_the_caller_decides(dsn: str) -> None:
    """S1-05: inside psycopg's own transaction block a defer goes with the block."""
    task = App(dsn).task(note)
    with psycopg.connect(dsn) as connection:
        with connection.transaction():
            task.options(connection=connection, unique="k").defer_sync("stays")
            with pytest.raises(ZeroDivisionError), connection.transaction():
                task.options(connection=connection, unique="l").defer_sync("goes")
                raise ZeroDivisionError

        assert (1, 1) == (count(dsn), count(dsn, "job_key"))


def test_a_refused_job_is_told_without_its_row(dsn: str) -> None:
    """S3-20: psycopg's error quotes the row; ours names the rule, and nothing hangs on it."""
    task = App(dsn).task(note)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(REFUSE_BAD)
        with pytest.raises(InvalidPayload, match=r"note job: the database refused it \(no_bad_jobs\)") as told:
            task.options(connection=connection).defer_sync(f"bad {SECRET}")

    assert SECRET not in whole_story(told.value)


def test_what_is_no_connection_of_psycopg_is_refused(dsn: str) -> None:
    """An option that cannot work is refused by name: nonsense, a cursor, an asynchronous connection."""
    task = App(dsn).task(note)
    with psycopg.connect(dsn) as connection:
        for given in (object(), dsn, connection.cursor()):
            with pytest.raises(InvalidOption, match=r"connection: must be a psycopg connection"):
                task.options(connection=given).defer_sync("a")


def test_an_asynchronous_connection_of_psycopg_is_refused(dsn: str) -> None:
    """defer_sync takes no asynchronous connection: that is for `await defer`."""
    import asyncio

    task = App(dsn).task(note)

    async def make() -> "psycopg.AsyncConnection[Any]":
        return await psycopg.AsyncConnection.connect(dsn)

    with asyncio.Runner() as runner:
        connection = runner.run(make())
        with pytest.raises(InvalidOption, match=r"connection: is asynchronous .*`await task\.defer"):
            task.options(connection=connection).defer_sync("a")
        runner.run(connection.close())


async def test_it_is_refused_inside_a_running_loop(database: str) -> None:
    """In a running loop defer_sync would block it: refused, with the asynchronous way named."""
    with psycopg.connect(database) as connection, pytest.raises(ConfigurationError, match=r"await task\.defer"):
        App(database).task(note).options(connection=connection).defer_sync("a")
