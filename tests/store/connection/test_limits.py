"""Limits: a network that is silent, cut or refused ends every call in time, and is used again once it is back."""

import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from jobqueue.base.job import Sent
from jobqueue.store.connection import pool as rooms
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.intake import insert_all
from tests.support.jobs.store import connect, insert, new_jobs, open_database, open_session
from tests.support.patience import scaled
from tests.support.postgres.backends import becomes
from tests.support.postgres.proxy import proxied

OURS = "application_name = 'tests'"


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(rooms, "CONNECT_LIMIT", 0.4)
    monkeypatch.setattr(rooms, "STATEMENT_LIMIT", 0.5)
    monkeypatch.setattr(rooms, "CLOSE_LIMIT", 0.6)


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Fail if the block takes longer; it is not cancelled, since a bound that only cancelling keeps is none."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < scaled(seconds)


async def test_a_silent_network_ends_a_statement_in_time(database: str, short_limits: None) -> None:
    """No answer at all: the statement ends within its limit, so does the release, and the session goes on later."""
    async with proxied(database) as proxy, open_session(proxy.dsn) as session:
        await session.fetch("working")
        proxy.stall()
        async with within(3):
            with pytest.raises(TimeoutError):
                await session.fetch("working")
        async with within(3):
            with pytest.raises(TimeoutError):
                await session.fetch("working")  # a new connection cannot be had either
        async with within(3):
            with pytest.raises(TimeoutError):
                await session.database.fetch("working")
        proxy.let_pass()

        assert [] == await session.fetch("working")


async def test_a_lost_answer_is_safe_to_ask_for_again(database: str, short_limits: None) -> None:
    """S0-11: the insert went in and its answer was lost: the same ids again store nothing twice."""
    jobs = new_jobs(3)
    async with proxied(database) as proxy, open_session(proxy.dsn) as session, connect(database) as connection:
        await session.ready()
        proxy.lose_answer_to(jobs[0].id.hex.encode())
        async with within(3):
            with pytest.raises(TimeoutError):
                await insert(session, *jobs)
        assert 3 == await connection.fetchval("select count(*) from jobqueue.job")
        proxy.cut()
        proxy.let_pass()

        again = [replace(job, resent=True) for job in jobs]
        assert [Sent(job.id, duplicate=True) for job in jobs] == await insert_all(session, again, always=False)
        assert 3 == await connection.fetchval("select count(*) from jobqueue.job")


async def test_a_network_that_comes_back_is_used_at_once(database: str, short_limits: None) -> None:
    """Cut, refused, and there again: each call ends in time with an error that is expected, then works."""
    async with proxied(database) as proxy, open_session(proxy.dsn) as session:
        for _ in range(3):
            await session.fetch("working")
            proxy.break_all()
            for _ in range(3):
                async with within(3):
                    with pytest.raises(DATABASE_ERRORS):
                        await session.fetch("working")
            proxy.let_pass()


async def test_whoever_finds_no_free_connection_waits_only_so_long(database: str, short_limits: None) -> None:
    """With every connection taken, a call ends within the limit for connecting."""
    async with open_database(database, max_size=1) as pooled, pooled.connection(), within(3):
        with pytest.raises(TimeoutError):
            await pooled.fetch("working")


async def test_closing_does_not_wait_for_who_holds_a_connection(database: str, short_limits: None) -> None:
    """Closing ends within its limit although a connection is held, cuts that one, and may be done twice."""
    pooled = await Database.open(database, "jobqueue", name="tests", max_size=2)
    session = Session(pooled)
    await session.ready()

    async with within(3):
        await pooled.close()
    await becomes(database, 0, OURS)
    async with within(1):
        await pooled.close()
        await session.close()
    with pytest.raises(asyncpg.InterfaceError):
        await session.fetch("working")


async def test_connections_notice_a_cut_network(database: str) -> None:
    """A connection over TCP is probed after seconds of silence; nobody says it is dead otherwise."""
    async with proxied(database) as proxy, open_session(proxy.dsn) as session:
        await session.ready()
        plug = session._connection._transport.get_extra_info("socket")

        assert plug.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert 5 == plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        assert 3 == plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
