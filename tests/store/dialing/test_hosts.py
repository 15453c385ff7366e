"""A connection string with several hosts: one that hangs, is gone or takes no writes hides none of the others."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from jobqueue.store.dialing.dial import Dialer
from tests.support.postgres.own_server import free_port
from tests.support.postgres.proxy import Proxy, proxied

LIMIT = 1.0
"""Seconds for a connection, so that a test can wait for a part of it."""


def through(*ways: str) -> str:
    """The DSN that names all these hosts, in this order."""
    parts = [urlsplit(way) for way in ways]
    user = parts[0].netloc.rpartition("@")[0]
    hosts = ",".join(part.netloc.rpartition("@")[2] for part in parts)
    return parts[0]._replace(netloc=f"{user}@{hosts}").geturl()


@asynccontextmanager
async def two_ways(dsn: str) -> AsyncIterator[tuple[Proxy, Proxy, str]]:
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(proxied(dsn)) for _ in range(2)]
        yield first, second, through(first.dsn, second.dsn)


async def reached(dialer: Dialer, dsn: str) -> int:
    """The port of the host that answered."""
    connection = await dialer(dsn, timeout=LIMIT)
    try:
        return int(connection._addr[1])  # type: ignore[attr-defined]
    finally:
        await connection.close()


def port(proxy: Proxy) -> int:
    found = urlsplit(proxy.dsn).port
    assert found is not None
    return found


async def test_a_host_that_hangs_hides_no_other(database: str) -> None:
    """Each host gets its share of the time; the one that answered is asked first from then on."""
    dialer = Dialer()
    async with two_ways(database) as (first, second, dsn):
        first.stall()
        assert port(second) == await reached(dialer, dsn)
        first.let_pass()
        assert port(second) == await reached(dialer, dsn)

        second.stall()
        assert port(first) == await reached(dialer, dsn)


async def test_a_host_that_is_gone_hides_no_other(database: str) -> None:
    """A refused connection leads to the next host, whether by name, number or the port apart."""
    async with proxied(database) as proxy:
        gone = f"postgresql://somebody@127.0.0.1:{free_port()}/x"
        parts = urlsplit(proxy.dsn)
        apart = f"?host=localhost,127.0.0.1&port={free_port()},{port(proxy)}"
        user = parts.netloc.rpartition("@")[0]

        assert port(proxy) == await reached(Dialer(), through(proxy.dsn, gone))
        assert port(proxy) == await reached(Dialer(), through(proxy.dsn, gone).replace("@", "@[::1]:1,", 1))
        assert port(proxy) == await reached(Dialer(), f"postgresql://{user}@{parts.path}{apart}")


async def test_what_no_host_can_do_is_told_at_once(database: str) -> None:
    """A wrong database is wrong on every host: no other is asked. Where none answers, the last error counts."""
    async with two_ways(database) as (first, second, dsn):
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await reached(Dialer(), urlsplit(dsn)._replace(path="/nowhere").geturl())
        first.stall()
        second.stall()
        with pytest.raises(TimeoutError):
            await reached(Dialer(), dsn)


async def test_the_string_may_leave_less_time(database: str) -> None:
    """`connect_timeout` of the string holds for each host."""
    async with proxied(database) as proxy:
        proxy.stall()
        with pytest.raises(TimeoutError):
            await Dialer()(f"{proxy.dsn}?connect_timeout=1", timeout=60)
