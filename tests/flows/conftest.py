"""Flows under faults have a server of their own, since what they do to it would hurt every other test."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
import pytest_asyncio

from jobqueue.base.errors import ConfigurationError
from tests.support.leaks import Surroundings, find_leaks
from tests.support.postgres.own_server import TEMPLATE, OwnServer, own_server


@pytest.fixture(scope="package")
def server() -> Iterator[OwnServer]:
    """A PostgreSQL that a test may stop, kill and reconfigure."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(own_server())
        except ConfigurationError as error:
            pytest.skip(f"these flows need the programs of the extra 'embedded': {error}")
        yield server


@pytest_asyncio.fixture
async def own(server: OwnServer) -> AsyncIterator[str]:
    """A fresh database with the schema on that server; afterwards nothing of the test may still be connected."""
    await server.start()
    with server.databases.temporary(TEMPLATE) as dsn:
        before = Surroundings.now()
        yield dsn
        await server.start()
        await server.change("alter system reset all; select pg_reload_conf()")  # a commit of ours must not hang
        assert [] == await find_leaks(before, server.databases.backends(dsn))
