"""The server's own limits on our sessions: what a vanished or frozen client has locked is free soon."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias
from urllib.parse import urlsplit

import asyncpg
import pytest

from jobqueue import JobContext
from jobqueue.base.settings import Pooler
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.location import Location
from jobqueue.store.connection.pool import Connection, Database
from jobqueue.store.connection.session import Session
from jobqueue.store.dialing import asking, silence
from jobqueue.store.dialing.asking import Asked
from tests.support.jobs.store import connect, open_database
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import becomes, change

PROBES = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "11000",
}
"""Silence of 11 s is enough; a job's next run begins after 25 s."""
BRIEF = {"idle_in_transaction_session_timeout": "10000", "statement_timeout": "9000"}
ISOLATION = {"default_transaction_isolation": "read committed"}
UNLIMITED = {"statement_timeout": "0", "client_connection_check_interval": "5000"}
SETTING = "select {} from pg_settings where name = $1"

Opened: TypeAlias = Callable[[str], AbstractAsyncContextManager[Database]]


@asynccontextmanager
async def own(dsn: str) -> AsyncIterator[Database]:
    async with open_database(dsn) as pooled:
        yield pooled


@asynccontextmanager
async def beside(dsn: str) -> AsyncIterator[Database]:
    async with open_database(dsn) as pooled:
        another = await pooled.open_beside()
        yield another
        await another.close()


@asynccontextmanager
async def for_handlers(dsn: str) -> AsyncIterator[Database]:
    async with open_database(dsn) as pooled:
        another = await pooled.open_for_handlers(2)
        yield another
        await another.close()


@asynccontextmanager
async def kept_apart(dsn: str) -> AsyncIterator[Database]:
    """As behind a pooler by session; here it is the server itself that keeps them apart."""
    pooled = await Database.open(dsn, "jobqueue", name="tests", max_size=3, pooler="session")
    await pooled.reach()
    yield pooled
    await pooled.close()


@asynccontextmanager
async def behind_a_pooler(dsn: str) -> AsyncIterator[Database]:
    pooled = await Database.open(dsn, "jobqueue", name="tests", max_size=2, pooler="transaction")
    yield pooled
    await pooled.close()


@asynccontextmanager
async def on_the_users_pool(dsn: str) -> AsyncIterator[Database]:
    async with asyncpg.create_pool(dsn, min_size=0, max_size=2) as pool:
        yield Database.around(pool, "jobqueue")


async def settings(connection: Connection, names: dict[str, str], column: str = "reset_val") -> dict[str, str]:
    """What holds in this session; over a Unix socket the probes are shown as 0 whatever is set, unless asked so."""
    return {name: await connection.fetchval(SETTING.format(column), name) for name in names}


@pytest.mark.parametrize("opened", [own, beside])
async def test_our_sessions_are_limited_by_the_server(database: str, opened: Opened) -> None:
    """A line that is silent, a statement and a transaction that stands still end within a lease."""
    async with opened(database) as pooled, pooled.connection() as connection:
        assert PROBES | BRIEF == await settings(connection, PROBES | BRIEF)


async def test_sessions_of_handlers_end_only_with_their_client(database: str) -> None:
    """A handler may think and its statements may last as long as they want, as long as somebody is there."""
    there = PROBES | {"client_connection_check_interval": "5000"}
    async with for_handlers(database) as pooled, pooled.connection() as connection:
        assert there == await settings(connection, there)
        assert dict.fromkeys(BRIEF, "0") == await settings(connection, BRIEF)


async def test_sessions_that_a_pooler_keeps_apart_are_limited(database: str) -> None:
    """They cannot ask for it as they start, so it is the first that each is told. A second one is only looked with."""
    await limit_the_role(database)
    async with kept_apart(database) as pooled:
        assert 1 == pooled.pool.get_size()
        async with pooled.connection() as one, pooled.connection() as two, pooled.connection() as three:
            for each in (one, two, three):
                assert BRIEF | ISOLATION == await settings(each, BRIEF | ISOLATION, "setting")
        assert "statement_timeout" not in pooled.asked.begin, "a transaction of ours need not say it again"
        beside = await pooled.open_beside()
        async with beside.connection() as connection:
            assert BRIEF == await settings(connection, BRIEF, "setting")
        await beside.close()
        handlers = await pooled.open_for_handlers(1)
        async with handlers.connection() as connection:
            assert UNLIMITED == await settings(connection, UNLIMITED, "setting")
        await handlers.close()


async def test_what_would_be_set_for_others_is_set_for_nobody(database: str) -> None:
    """Two connections that the same session answers: whatever stands there is no pooler by session."""
    async with kept_apart(database) as pooled, connect(database) as connection:
        asked = Asked("session", BRIEF)
        await asked.tell(connection, await connection.fetchval("select pg_backend_pid()"), connection)
        assert asked.are_shared
        async with pooled.connection() as other:
            await asked.tell(connection, -1, other)
            assert asked.are_shared
        assert dict.fromkeys(BRIEF, "0") == await settings(connection, BRIEF, "setting")


async def test_who_does_not_answer_is_not_asked_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look whether sessions are kept apart takes no longer than it may; neither of the two is used after that."""
    monkeypatch.setattr(asking, "_WHO", "select pg_backend_pid() from pg_sleep(3600)")
    monkeypatch.setattr(asking, "LOOK_LIMIT", 0.05)
    async with kept_apart(database) as pooled:
        assert 0 == pooled.pool.get_size()
        assert [] == await pooled.fetch("working")
        assert "statement_timeout" in pooled.asked.begin


async def test_a_handler_behind_a_pooler_is_not_limited_as_its_role_is(database: str) -> None:
    """What we ask an administrator to set for our statements is not for the user's; who vanishes is noticed."""
    await limit_the_role(database)
    app = new_app(database, pooler="transaction", poll=0.2)

    @app.task
    async def look(ctx: JobContext) -> dict[str, str]:
        async with ctx.transaction() as connection:
            return await settings(connection, UNLIMITED, "setting")

    async with app, app.worker():
        assert UNLIMITED == await (await look.defer()).result(timeout=PATIENCE)


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_limit_of_an_administrators_own_holds_for_handlers(database: str, mode: Pooler) -> None:
    """As it does without a pooler: only what was set for our sake is not for them."""
    there = Location(database, None, "jobqueue")
    await change(database, f"alter database {urlsplit(database).path[1:]} set statement_timeout = '70s'")
    for _ in range(2):  # the second time a pooler by session is known as one
        pooled = await there.open(name="tests", connections=2, pooler=mode)
        handlers = await pooled.open_for_handlers(1)
        async with handlers.connection() as connection, connection.transaction():
            await connection.execute(handlers.begin_for_handler or "select")
            assert "70000" == await connection.fetchval(SETTING.format("setting"), "statement_timeout")
        await handlers.close()
        await pooled.close()


async def test_a_role_without_a_limit_is_named_once(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Behind a pooler by transaction nothing else limits a single statement: the log says what to run."""
    there = Location(database, None, "jobqueue")
    for _ in range(2):
        pooled = await there.open(name="tests", connections=1, pooler="transaction")
        await pooled.close()
    (told,) = [record for record in caplog.records if "pooler.unlimited" in record.getMessage()]
    assert re.search(r"alter role \"?\w+\"? set statement_timeout = '9s'", told.getMessage())

    await limit_the_role(database)
    pooled = await Location(database, None, "jobqueue").open(name="tests", connections=1, pooler="transaction")
    await pooled.close()
    assert pooled.remedy is None
    assert 1 == caplog.text.count("pooler.unlimited")


async def limit_the_role(dsn: str) -> None:
    """As it is recommended, for this database alone."""
    await change(dsn, f"alter database {urlsplit(dsn).path[1:]} set statement_timeout = '9s'")


@pytest.mark.parametrize("opened", [behind_a_pooler, on_the_users_pool])
async def test_transactions_are_limited_where_sessions_cannot_be(database: str, opened: Opened) -> None:
    """Behind a pooler and on a user's pool the limits hold for our transactions, and for nothing after them."""
    async with opened(database) as pooled:
        session = Session(pooled)
        async with session.transaction():
            assert BRIEF == await settings(session._connection, BRIEF, "setting")
        assert dict.fromkeys(BRIEF, "0") == await settings(session._connection, BRIEF, "setting")
        await session.close()


async def test_a_transaction_that_stands_still_is_ended(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is frozen within a transaction of ours keeps its locks no longer than the limit."""
    monkeypatch.setitem(silence.BRIEF, "idle_in_transaction_session_timeout", "300")
    async with open_database(database) as pooled, connect(database) as other:
        session = Session(pooled)
        with pytest.raises(DATABASE_ERRORS):
            async with session.transaction():
                await session.database.run(session._connection, "pause_queue", "mail", None, None)
                await becomes(database, 0, "application_name = 'tests'")
                assert 0 == await other.fetchval("select count(*) from jobqueue.queue")
        await session.close()
