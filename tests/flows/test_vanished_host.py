"""A host vanishes, with packets lost and nobody told: what its sessions had locked is free within a lease."""

from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.support.jobs.store import Connection, connect
from tests.support.patience import scaled
from tests.support.postgres.own_server import OwnServer
from tests.support.programs.far_away import far_away
from tests.support.waiting import wait_until

LOCK = """
import asyncio, sys
from jobqueue.store.connection.pool import Database
from jobqueue.store.dialing import silence
soon = {"idle": 1, "interval": 1, "count": 2}
silence.SILENCE.update({f"tcp_keepalives_{name}": str(value) for name, value in soon.items()}, tcp_user_timeout="3000")
silence.WATCHED.update(client_connection_check_interval="500")

async def main(dsn, statement):
    database = await Database.open(dsn, "jobqueue", name="vanished", max_size=1)
    await database.reach()
    handlers = await database.open_for_handlers(1)
    async with handlers.connection() as connection, connection.transaction():
        await connection.execute("insert into jobqueue.queue (name) values ('locked')")
        print("locked", flush=True)
        await connection.execute(statement)
        await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("statement", ["select 1", "select pg_sleep(3600)"], ids=["thinks", "waits for a statement"])
async def test_what_a_vanished_host_has_locked_is_free_soon(server: OwnServer, own: str, statement: str) -> None:
    """A handler's transaction ends with its machine, whether it was thinking or in the middle of a statement."""
    async with far_away(server) as place:
        dsn = urlsplit(own)._replace(netloc=f"postgres@{place.host}:{server.port}").geturl()
        client = await place.run(LOCK, dsn, statement)
        assert client.stdout is not None
        assert b"locked\n" == await client.stdout.readline()
        place.vanish()

        async with connect(own) as other:
            await wait_until(lambda: gone(other), "the server has ended the session", timeout=scaled(30.0))
            assert "INSERT 0 1" == await other.execute("insert into jobqueue.queue (name) values ('locked')")
        with suppress(ProcessLookupError):  # it may have noticed as well
            client.kill()
        await client.wait()


async def gone(other: Connection) -> bool:
    """Tell whether the transaction of the vanished host has ended."""
    theirs = "application_name = 'vanished' and xact_start is not null"
    return not await other.fetchval(f"select count(*) from pg_stat_activity where {theirs}")
