"""Connections: bounded in time, replaced once they break, never shared with what was cut off, left as found."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import asyncpg
import pytest

from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.looking.listing import Wanted, list_jobs
from jobqueue.store.looking.lookup import find_job
from jobqueue.store.schema.statements import channel
from tests.support.jobs.store import (
    WORKER,
    backend_of,
    claim,
    claim_one,
    connect,
    finish,
    insert,
    new_job,
    new_jobs,
    open_database,
    open_session,
)
from tests.support.postgres.backends import becomes, terminate
from tests.support.postgres.locks import jobs_held
from tests.support.postgres.proxy import proxied

CHANNEL = channel("jobqueue", "wake")
OURS = "application_name = 'tests'"


async def cancelled(work: Awaitable[Any], cut: Callable[[], Awaitable[Any]]) -> None:
    """Cancel the work, as a task is cancelled, once `cut` has come back."""
    task = asyncio.ensure_future(work)
    await cut()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def left_by_scope(work: Awaitable[Any], cut: Callable[[], Awaitable[Any]]) -> None:
    """Cancel the work by leaving an anyio scope."""
    async with anyio.create_task_group() as group:

        async def run() -> None:
            with pytest.raises(asyncio.CancelledError):
                await work
            raise asyncio.CancelledError

        group.start_soon(run)
        await cut()
        group.cancel_scope.cancel()


@pytest.mark.parametrize("interrupt", [cancelled, left_by_scope])
async def test_a_cancelled_statement_costs_its_connection(
    database: str, interrupt: Callable[[Awaitable[Any], Callable[[], Awaitable[Any]]], Awaitable[None]]
) -> None:
    """A statement cut off while it waits takes its connection along: no cancel request can hit the next statement."""
    async with open_session(database) as session:
        first = await backend_of(session)
        async with jobs_held(database) as held:
            await interrupt(session.fetch("working"), lambda: held.waited_for_by(1))
        assert [] == await session.fetch("working")

        assert first != await backend_of(session)
        await becomes(database, 1, OURS)


async def test_a_cancelled_statement_of_the_pool_costs_its_connection(database: str) -> None:
    """The same for a statement on any connection of the pool."""
    async with open_database(database) as pooled:
        await pooled.fetch("working")
        async with jobs_held(database) as held:
            await cancelled(pooled.fetch("working"), lambda: held.waited_for_by(1))
        await becomes(database, 0, OURS)
        assert [] == await pooled.fetch("working")


async def test_a_session_survives_the_end_of_its_connection(database: str) -> None:
    """S4-33: ended by the server between two statements, the session fails at most once and goes on by itself."""
    async with open_session(database) as session:
        for _ in range(3):
            await insert(session, new_job())
            await terminate(database, OURS)
            await becomes(database, 0, OURS)
            with contextlib.suppress(*DATABASE_ERRORS):
                await session.fetch("working")
            assert [] == await session.fetch("working")

            await terminate(database, OURS)
            await becomes(database, 0, OURS)
            with contextlib.suppress(*DATABASE_ERRORS):
                async with session.transaction():
                    await insert(session, new_job())
            async with session.transaction():
                await insert(session, new_job())


async def test_a_session_survives_the_end_of_its_connection_in_mid_statement(database: str) -> None:
    """S4-33: ended by the server in mid-statement or mid-transaction, the session goes on with another connection."""
    async with open_session(database) as session:
        for in_transaction in (False, True):
            async with jobs_held(database) as held:
                scope = session.transaction() if in_transaction else contextlib.nullcontext()

                async def ask(scope: Any = scope) -> None:
                    async with scope:
                        await session.fetch("working")

                asking = asyncio.create_task(ask())
                await held.waited_for_by(1)
                await terminate(database, OURS)
                with pytest.raises(DATABASE_ERRORS):
                    await asking
            assert [] == await session.fetch("working")
        await session.close()
        await session.close()
        assert [] == await session.fetch("working")


async def test_a_refused_statement_keeps_its_connection(database: str) -> None:
    """An error of the data leaves nothing under way, so the connection stays."""
    async with open_session(database) as session:
        first = await backend_of(session)
        with pytest.raises(asyncpg.CheckViolationError):
            await insert(session, new_job("x" * 101))

        assert first == await backend_of(session)


async def test_a_transaction_is_all_or_nothing(database: str) -> None:
    """Statements of a session's transaction commit together; an error or a cancellation between them takes all back."""
    async with open_session(database) as session:
        first = await backend_of(session)
        with pytest.raises(ZeroDivisionError):
            async with session.transaction():
                await insert(session, new_job())
                raise ZeroDivisionError
        with anyio.CancelScope() as scope:
            async with session.transaction():
                await insert(session, new_job())
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert [] == await claim(session)
        assert first == await backend_of(session)

        async with session.transaction():
            await insert(session, new_job())
        assert 1 == len(await claim(session))


async def test_a_cancelled_begin_leaves_no_transaction_behind(database: str) -> None:
    """Cancelled while its BEGIN is under way, a transaction takes the connection along; the next one starts anew."""
    async with proxied(database) as proxy, open_session(proxy.dsn) as session:
        first = await backend_of(session)
        proxy.stall()

        async def begin() -> None:
            async with session.transaction():
                await insert(session, new_job())

        await cancelled(begin(), lambda: asyncio.sleep(0))
        proxy.let_pass()

        assert [] == await session.fetch("working")
        assert first != await backend_of(session)
        await becomes(database, 1, OURS)


# The server's defaults.


@contextlib.asynccontextmanager
async def own(dsn: str) -> AsyncIterator[Database]:
    async with open_database(dsn) as pooled:
        yield pooled


@contextlib.asynccontextmanager
async def behind_a_pooler(dsn: str) -> AsyncIterator[Database]:
    pooled = await Database.open(dsn, "jobqueue", name="tests", max_size=8, pooler="transaction")
    await pooled.reach()
    yield pooled
    await pooled.close()


@contextlib.asynccontextmanager
async def on_the_users_pool(dsn: str) -> AsyncIterator[Database]:
    async with asyncpg.create_pool(dsn, min_size=0, max_size=8, server_settings={"application_name": "tests"}) as pool:
        pooled = Database.around(pool, "jobqueue")
        await pooled.reach()
        yield pooled
        await pooled.close()
        assert not pool.is_closing(), "a user's pool is the user's to close"


Opened = Callable[[str], contextlib.AbstractAsyncContextManager[Database]]


@pytest.mark.parametrize("opened", [own, behind_a_pooler, on_the_users_pool])
async def test_engine_statements_hold_under_any_default_isolation(database: str, opened: Opened) -> None:
    """In a database that is serializable by default, claims skip what is locked, and wake-ups ask for sleepers."""
    async with connect(database) as owner:
        name = await owner.fetchval("select quote_ident(current_database())")
        await owner.execute(f"alter database {name} set default_transaction_isolation = 'serializable'")
    async with opened(database) as pooled, connect(database, application_name="listener") as listener:
        assert (opened is not own) == pooled._pins_isolation, "on our own connections it costs no round trip"
        assert "serializable" == await listener.fetchval("show default_transaction_isolation")
        heard: list[object] = []
        await listener.add_listener(CHANNEL, lambda *said: heard.append(said[-1]))
        one, two = Session(pooled), Session(pooled)
        await insert(one, *new_jobs(600))
        taken = await asyncio.gather(*(drain(session) for session in (one, two)))
        async with one.transaction():
            await insert(one, new_job())
        await pooled.fetch("working")
        await listener.execute("select pg_notify($1, 'mark')", CHANNEL)
        await one.close()
        await two.close()

    assert 600 == sum(taken)
    assert ["mark"] == heard, "notified though nobody sleeps: not in read committed"


async def drain(session: Session) -> int:
    done = 0
    while rows := await claim(session, 40):
        while rows:  # the other's claim may have locked some for a moment, before it saw that they were taken
            written = await finish(session, *rows)
            done += len(written)
            rows = [row for row in rows if row["id"] not in written]
    return done


async def test_a_users_pool_keeps_its_codecs(database: str) -> None:
    """A pool whose connections turn json into objects and uuid into text works as any other."""

    async def set_codecs(connection: Any) -> None:
        for kind in ("json", "jsonb"):
            await connection.set_type_codec(kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str)

    async with asyncpg.create_pool(database, min_size=0, max_size=4, init=set_codecs) as pool:
        pooled = Database.around(pool, "jobqueue")
        await pooled.reach()
        session = Session(pooled)
        first, second = await insert(session, *new_jobs(2, args='{"a": 1}', meta='{"b": 2}'))
        row = await claim_one(session)
        assert 1 == len(await finish(session, row))
        found = [await find_job(pooled, id) for id in (first, second)]
        listed = await list_jobs(session, Wanted(), after=None, limit=5, payload=True)
        await session.close()

    assert [first, second] == [job.id for job in found if job is not None]
    assert {first, second} == {job.id for job in listed}
    assert [{"a": 1}, {"a": 1}] == [job.args for job in listed]
    assert WORKER == next(job.worker_id for job in listed if job.id == first)


async def test_a_session_gives_back_a_connection_of_the_users_pool_when_idle(database: str) -> None:
    """What rests keeps its own pool's connection, and not one of the user's pool."""
    async with open_database(database) as pooled:
        session = Session(pooled)
        await session.ready()
        await session.rest()
        assert pooled.pool.get_idle_size() == 0
        await session.close()
    async with on_the_users_pool(database) as pooled:
        session = Session(pooled)
        await session.ready()
        await session.rest()
        assert pooled.pool.get_idle_size() == 1


async def test_closing_is_no_failure_when_the_server_has_gone(database: str) -> None:
    """A connection that breaks in the very moment of its farewell fails nobody who closes the pool."""
    async with open_database(database) as db:
        async with db.connection() as connection:
            ours: Any = connection
            transport = ours._transport  # asyncpg's own, as is what it stands for
        transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await db.close()
