"""A name with several addresses: one that hangs, or is gone, hides none of the others."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from jobqueue.store.dialing.dial import Dialer
from tests.support.patience import scaled
from tests.support.postgres.proxy import Proxy, proxied

LIMIT = scaled(2.0)
NAME = "several.example"


@asynccontextmanager
async def named(dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Proxy, Proxy, str]]:
    """Two ways to a database, which are the two addresses of one name."""
    async with proxied(dsn) as first, proxied(dsn) as second:
        ways = [("127.0.0.1", urlsplit(way.dsn).port) for way in (first, second)]

        async def found(self: object, host: str, port: int, **how: Any) -> list[Any]:
            assert (NAME, 5432) == (host, port)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", way) for way in ways]

        monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", found)
        parts = urlsplit(first.dsn)
        yield first, second, parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{NAME}").geturl()


async def reached(dialer: Dialer, dsn: str, limit: float = LIMIT) -> int:
    """The port that it came to."""
    connection = await dialer(dsn, timeout=limit)
    try:
        assert 1 == await connection.fetchval("select 1")
        return int(connection._transport.get_extra_info("peername")[1])  # type: ignore[attr-defined]
    finally:
        await connection.close()


async def test_an_address_that_hangs_hides_no_other(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address gets its share of the time; the one that answered is asked first from then on."""
    dialer = Dialer()
    async with named(database, monkeypatch) as (first, second, dsn):
        there = urlsplit(second.dsn).port
        first.stall()
        assert there == await reached(dialer, dsn)
        first.let_pass()
        assert there == await reached(dialer, dsn)
        second.stall()
        assert urlsplit(first.dsn).port == await reached(dialer, dsn)
        first.stall()
        with pytest.raises(TimeoutError):
            await reached(dialer, dsn, limit=0.2)


async def test_an_address_that_is_gone_hides_no_other(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection leads to the next address."""
    async with named(database, monkeypatch) as (first, second, dsn):
        first.go_away()
        assert urlsplit(second.dsn).port == await reached(Dialer(), dsn)


async def test_whoever_gives_up_leaves_no_failure_behind(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled at whatever point, also between the connection and TLS: nothing is left that nobody has asked for."""
    told: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with named(database, monkeypatch) as (_, _, dsn):
        for turns in range(25):
            dialling = asyncio.create_task(Dialer()(f"{dsn}?sslmode=require"))
            for _ in range(turns):
                await asyncio.sleep(0)
            dialling.cancel()
            await asyncio.wait([dialling])
            assert dialling.cancelled() or dialling.exception()
        for _ in range(5):
            await asyncio.sleep(0)
        gc.collect()

    assert [] == told
