"""A connection string that names a standby as well: jobs are written, so the primary is looked for."""

from collections.abc import Iterator

import pytest

from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.own_server import TEMPLATE, OwnServer, own_server


@pytest.fixture
def read_only() -> Iterator[OwnServer]:
    """A server that takes no writes, as a standby does not."""
    with own_server() as server:
        yield server


async def test_the_host_that_takes_writes_is_looked_for(server: OwnServer, own: str, read_only: OwnServer) -> None:
    """The first host only reads: a defer and a worker reach the second one, without `target_session_attrs`."""
    name = own.rpartition("/")[2]
    await read_only.change(f"create database {name} template {TEMPLATE}")
    await read_only.change("alter system set default_transaction_read_only = on; select pg_reload_conf()")
    app = new_app(own.replace("@", f"@127.0.0.1:{read_only.port},", 1))

    @app.task
    async def work() -> str:
        return "done"

    async with app, app.worker():
        handle = await work.defer()
        assert "done" == await handle.result(timeout=PATIENCE)
