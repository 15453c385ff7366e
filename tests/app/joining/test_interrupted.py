"""Synchronous defers that are cut off: by a Ctrl-C, by a limit of the caller's, by whoever does not wait for them."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator

import psycopg
import pytest

from jobqueue import App
from tests.support.jobs.joining import SYNC, JoinedSync, Undo
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import WAITS_FOR_LOCK, becomes, stored
from tests.support.postgres.database import Databases

TABLES = ("jobqueue.job", "jobqueue.job_key", "invoice")
CANCELED = "57014"


async def note(text: str) -> str:
    return text


@pytest.fixture
def dsn(databases: Databases, template: str) -> Iterator[str]:
    """A database for tests without a running loop."""
    with databases.temporary(template) as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute("create table invoice (number integer primary key)")
        yield dsn


def counts(dsn: str) -> list[int]:
    """Jobs, keys and invoices that are there."""
    with psycopg.connect(dsn) as connection:
        found = [connection.execute(f"select count(*) from {table}".encode()).fetchone() for table in TABLES]
        return [row[0] for row in found if row]


@contextlib.contextmanager
def interrupted(dsn: str) -> Iterator[None]:
    """This thread gets a Ctrl-C once a statement of its waits for a lock."""

    def interrupt() -> None:
        asyncio.run(becomes(dsn, 1, WAITS_FOR_LOCK))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs the tests may have set
    other = threading.Thread(target=interrupt)
    other.start()
    try:
        yield
    finally:
        other.join(PATIENCE)
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def a_key_is_held(dsn: str) -> Iterator[None]:
    """Somebody has deferred with the key `k`, and does not commit; rolled back in the end."""
    with psycopg.connect(dsn) as other:
        App(dsn).task(note).options(connection=other, unique="k").defer_sync("theirs")
        yield
        other.rollback()


@pytest.mark.parametrize("library", SYNC)
def test_an_interrupted_defer_leaves_nothing_behind(library: str, dsn: str) -> None:
    """Promise 4: cut off while it waits for a key, a defer leaves neither key nor job, whatever the caller does then.

    The transaction goes on, but with SQLAlchemy, which gives up a connection that was cut off in mid-statement.
    """
    goes_on = not library.startswith("sql")
    task = App(dsn).task(note)
    with SYNC[library](dsn) as joined:
        joined.execute("insert into invoice values (1)")
        with a_key_is_held(dsn), interrupted(dsn), pytest.raises(KeyboardInterrupt):
            task.options(connection=joined.connection, unique="k").defer_sync("ours")
        if goes_on:
            joined.execute("insert into invoice values (2)")
            joined.commit()
        else:
            joined.rollback()

    assert [0, 0, 2 * goes_on] == counts(dsn)


@pytest.mark.parametrize("library", SYNC)
def test_a_limit_of_the_callers_own(library: str, dsn: str) -> None:
    """A statement_timeout ends a defer with the library's own error; the caller's savepoint saves the rest."""
    task = App(dsn).task(note)

    def defer_too_late(joined: JoinedSync) -> None:
        try:
            task.options(connection=joined.connection, unique="k").defer_sync("ours")
        except Exception as error:
            assert CANCELED == getattr(getattr(error, "orig", error), "sqlstate", None)
            raise Undo from None

    with a_key_is_held(dsn), SYNC[library](dsn) as joined:
        joined.execute("insert into invoice values (1)")
        joined.execute("set local statement_timeout = '100ms'")
        with pytest.raises(Undo), joined.savepoint():
            defer_too_late(joined)
        task.options(connection=joined.connection).defer_sync("kept")
        joined.commit()

    assert [1, 0, 1] == counts(dsn)


def test_an_interrupted_defer_without_a_connection(dsn: str) -> None:
    """Nothing is stored, and the connection is as good as before."""
    task = App(dsn, name="shop").task(note)
    with a_key_is_held(dsn), interrupted(dsn), pytest.raises(KeyboardInterrupt):
        task.options(unique="k").defer_sync("ours")
    assert [0, 0, 0] == counts(dsn)

    assert not task.options(unique="k").defer_sync("again").duplicate
    assert [1, 1, 0] == counts(dsn)


async def test_a_thread_goes_on(database: str) -> None:
    """Nobody can end a thread: given up by who waits for it, it stores its job all the same."""
    async with App(database) as app:
        task = app.task(note)
        with contextlib.ExitStack() as held:
            await asyncio.to_thread(held.enter_context, a_key_is_held(database))
            thread = asyncio.ensure_future(asyncio.to_thread(task.options(unique="k").defer_sync, "ours"))
            await becomes(database, 1, WAITS_FOR_LOCK)
            thread.cancel()
            with pytest.raises(asyncio.CancelledError):
                await thread
            await asyncio.to_thread(held.close)
        await stored(database, 1)
