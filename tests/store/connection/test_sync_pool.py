"""The few connections of a process for callers without an event loop."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from jobqueue import App, DatabaseError
from jobqueue.store.connection import sync_pool
from jobqueue.store.connection.faults import NotConnected
from jobqueue.store.connection.sync_pool import SyncPool, SyncSession, at_once
from tests.support.postgres.database import Databases

ISOLATION = "select current_setting('transaction_isolation'), current_setting('statement_timeout')"


async def note(number: int) -> None:
    """Does nothing."""


@pytest.fixture
def dsn(databases: Databases, template: str) -> Iterator[str]:
    """A database for tests without a running loop."""
    with databases.temporary(template) as dsn:
        yield dsn


def test_who_finds_none_free_waits_only_so_long(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all of them taken for long, the next one is told by a TimeoutError; one that was given back serves it."""
    monkeypatch.setattr(sync_pool, "SIZE", 1)
    pool = SyncPool(lambda: dsn, "jobqueue", "tests", "none")
    first = pool.take()
    monkeypatch.setattr(sync_pool, "CONNECT_LIMIT", 0.05)
    with pytest.raises(TimeoutError):
        pool.take()
    pool.give_back(first)

    assert first is pool.take()
    pool.give_back(first)
    pool.close()


def test_a_failed_connect_leaves_its_room(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often there is no server to connect to, the next one may try again."""
    monkeypatch.setattr(sync_pool, "SIZE", 1)
    pool = SyncPool(lambda: "postgresql://postgres@127.0.0.1:1/none", "jobqueue", "tests", "none")
    for _ in range(3):
        with pytest.raises(
            NotConnected, match=r'^connection to server at "127.0.0.1", port 1 failed: Connection refused'
        ):
            pool.take()


def test_what_the_server_refuses_is_not_called_its_absence(dsn: str) -> None:
    """A database that does not exist is told as that: no word of a connection that was refused."""
    task = App(urlsplit(dsn)._replace(path="/nowhere").geturl()).task(note)
    with pytest.raises(DatabaseError, match=r'NotConnected: .*database "nowhere" does not exist') as told:
        task.defer_sync(1)
    assert "refused" not in str(told.value)


def test_sessions_have_their_limits(dsn: str) -> None:
    """What a session asks for holds whatever the database's defaults are; settings of the string go to the server."""
    pool = SyncPool(lambda: f"{dsn}{'&' if '?' in dsn else '?'}work_mem=7MB", "jobqueue", "tests", "none")
    on = pool.take()
    assert ("read committed", "9s") == on.connection.execute(ISOLATION).fetchone()
    assert ("7MB",) == on.connection.execute("show work_mem").fetchone()
    pool.give_back(on)
    pool.close()


def test_one_left_in_a_transaction_is_not_kept(dsn: str) -> None:
    """A connection that comes back in mid-transaction is closed: the next one must not inherit that."""
    pool = SyncPool(lambda: dsn, "jobqueue", "tests", "none")
    on = pool.take()
    on.connection.execute("begin")
    pool.give_back(on)

    assert on.connection.closed
    pool.close()


def test_one_in_use_at_the_close_is_closed_as_it_comes_back(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays open then, and the pool is as large as before once it is used again."""
    monkeypatch.setattr(sync_pool, "SIZE", 1)
    pool = SyncPool(lambda: dsn, "jobqueue", "tests", "none")
    on = pool.take()
    pool.close()
    pool.give_back(on)
    assert on.connection.closed

    again = pool.take()
    monkeypatch.setattr(sync_pool, "CONNECT_LIMIT", 0.05)
    with pytest.raises(TimeoutError):
        pool.take()
    pool.give_back(again)
    assert again is pool.take()
    pool.give_back(again)
    pool.close()


def test_a_transaction_that_fails_leaves_nothing(dsn: str) -> None:
    """Statements inside a failed `transaction` are undone, and the connection is as good as before."""
    pool = SyncPool(lambda: dsn, "jobqueue", "tests", "none")
    session = SyncSession(pool)

    async def fail() -> None:
        async with session.transaction():
            id = "01900000-0000-7000-8000-000000000009"
            assert 1 == len(await session.fetch("take_keys", ["k"], [id], ["unfinished"], [None]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        at_once(fail())
    assert [] == at_once(session.fetch("key_holders", ["k"]))
    session.close()
    pool.close()
