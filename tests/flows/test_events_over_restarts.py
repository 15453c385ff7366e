"""PostgreSQL is restarted, or crashes, under readers of the log: they miss nothing, and read nothing twice."""

import pytest

from jobqueue.app import App
from tests.flows.test_database_away import Fault, all_killed, fast, immediate
from tests.support.jobs.told import cancelled, jobs, taken
from tests.support.postgres.own_server import OwnServer


@pytest.mark.parametrize("fault", [fast, immediate, all_killed])
async def test_a_stream_goes_on_over_a_restart(server: OwnServer, own: str, fault: Fault) -> None:
    """S4-93: a stream that was open, and one that goes on from before the restart, have all events once, in order."""
    app = App(own)
    async with app:
        async with app.events() as events:
            before = await cancelled(app, 3)
            first = await taken(events, 2)
            await fault(server, own)
            await server.start()
            after = await cancelled(app, 2)
            rest = await taken(events, 3)
        async with app.events(first[0].id) as again:
            assert [event.id for event in (*first[1:], *rest)] == [event.id for event in await taken(again, 4)]

    assert [*before, *after] == jobs([*first, *rest])
