"""The listening connection: hears what is told, and replaces itself when it is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from jobqueue.store.connection import listener as rooms
from jobqueue.store.connection.listener import Listener
from jobqueue.store.connection.pool import Database
from tests.support.jobs.store import connect, open_database
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import LISTENS, backends, becomes, terminate
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until


class Ears:
    """What a listener heard, None for "look once", and whether it says that notifications arrive."""

    def __init__(self) -> None:
        self.heard: list[str | None] = []
        self.listening = asyncio.Event()


@asynccontextmanager
async def listening(database: Database) -> AsyncIterator[Ears]:
    ears = Ears()
    async with anyio.create_task_group() as group:
        await group.start(Listener(database, "wake", ears.heard.append, [ears.listening]).run)
        yield ears
        group.cancel_scope.cancel()


async def say(dsn: str, word: str) -> None:
    async with connect(dsn) as connection:
        await connection.execute("select jobqueue.wake($1, null, true)", word)


async def test_started_means_that_it_listens(database: str) -> None:
    """Once started, the listener has said "look once", and hears every payload."""
    async with open_database(database) as pooled, listening(pooled) as ears:
        assert [None] == ears.heard
        assert ears.listening.is_set()
        await say(database, "a")
        await say(database, "b")
        await wait_until(lambda: len(ears.heard) == 3, "both are heard")

        assert [None, "r:a", "r:b"] == ears.heard


async def test_a_lost_connection_is_replaced(database: str) -> None:
    """S1-09: ended by the server, the listener connects again and says "look once", for something may be missed."""
    async with open_database(database) as pooled, listening(pooled) as ears:
        for times in (2, 3):
            assert 1 == await terminate(database, LISTENS)
            await wait_until(lambda: ears.heard == [None] * times, "it listens again")  # noqa: B023 - awaited at once
            assert ears.listening.is_set()
        await say(database, "a")
        await wait_until(lambda: ears.heard[-1] == "r:a", "it hears again")
        await becomes(database, 1, LISTENS)


async def test_a_silent_network_is_noticed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1-09: a connection that brings nothing any more is found by probing, and replaced once the network is back."""
    monkeypatch.setattr(rooms, "_PROBE_INTERVAL", 0.1)
    monkeypatch.setattr(rooms, "_PROBE_LIMIT", 0.2)
    async with proxied(database) as proxy, open_database(proxy.dsn) as pooled, listening(pooled) as ears:
        proxy.stall()
        await wait_until(lambda: not ears.listening.is_set(), "the silence is noticed")
        proxy.cut()
        proxy.let_pass()
        await asyncio.wait_for(ears.listening.wait(), PATIENCE)

        await say(database, "a")
        await wait_until(lambda: ears.heard[-1] == "r:a", "it hears again")
        assert [None, None, "r:a"] == ears.heard


async def test_it_starts_without_a_database(database: str) -> None:
    """If nobody can be reached at first it counts as started all the same: whoever waits for it polls meanwhile."""
    async with proxied(database) as proxy:
        proxy.break_all()
        pooled = await Database.open(proxy.dsn, "jobqueue", name="tests", max_size=2)
        async with asyncio.timeout(PATIENCE), listening(pooled) as ears:
            assert [] == ears.heard
            assert not ears.listening.is_set()
            proxy.let_pass()
            await ears.listening.wait()
            assert [None] == ears.heard
        await pooled.close()


async def test_it_leaves_no_connection_that_listens(database: str) -> None:
    """Cancelled, it takes its connection along: no other user of the pool inherits a LISTEN."""
    async with open_database(database, max_size=1) as pooled:
        async with listening(pooled):
            pass
        await becomes(database, 0, LISTENS)
        await pooled.fetch("working")
        assert [] == await backends(database, LISTENS)


async def test_a_server_that_ends_idle_sessions_keeps_its_listener(database: str) -> None:
    """The connection is probed before the server's limit for idle ones, and so never lost by it."""
    async with connect(database) as owner:
        name = await owner.fetchval("select quote_ident(current_database())")
        await owner.execute(f"alter database {name} set idle_session_timeout = '1s'")
    async with open_database(database) as pooled, listening(pooled) as ears:
        (first,) = await backends(database, LISTENS)
        await wait_until(lambda: probed_after(database, first, 2.0), "it is there after twice the limit")

        assert [None] == ears.heard


async def probed_after(dsn: str, pid: int, seconds: float) -> bool:
    """Tell whether this session has asked something so long after it began."""
    age = "pid = $1 and state_change > backend_start + make_interval(secs => $2)"
    assert await backends(dsn, "pid = $1", pid), "the server has ended it"
    return bool(await backends(dsn, age, pid, seconds))
