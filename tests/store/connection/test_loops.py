"""One value per event loop: made once, closed with its loop, never shared with another loop or a fork."""

import asyncio
import gc
import warnings

import anyio
import pytest

from jobqueue.store.connection.loops import PerLoop
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from tests.support.postgres.backends import becomes


class Things:
    """Makes numbers, and remembers which were made and which closed."""

    def __init__(self) -> None:
        self.made: list[int] = []
        self.closed: list[int] = []
        self.abandoned: list[int] = []
        self.gate: asyncio.Event | None = None
        self.failures = 0

    async def make(self) -> int:
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.made.append(len(self.made))
        return self.made[-1]

    async def close(self, thing: int) -> None:
        await asyncio.sleep(0)
        self.closed.append(thing)

    async def abandon(self, thing: int) -> None:
        await asyncio.sleep(0)
        self.abandoned.append(thing)


@pytest.fixture
def things() -> Things:
    return Things()


@pytest.fixture
def per_loop(things: Things) -> PerLoop[int]:
    return PerLoop(things.make, things.close, things.abandon)


async def test_a_value_is_made_once(things: Things, per_loop: PerLoop[int]) -> None:
    """Many who want the value at once get one and the same; after closing, the next use makes another."""
    assert {0} == set(await asyncio.gather(*(per_loop.get() for _ in range(20))))
    await per_loop.close()
    await per_loop.close()
    assert [0] == things.closed

    assert 1 == await per_loop.get()
    await per_loop.close()
    assert ([0, 1], [0, 1]) == (things.made, things.closed)


async def test_a_failed_first_use_is_tried_again(things: Things, per_loop: PerLoop[int]) -> None:
    """Whoever comes first gets the error; the next call tries again, and nothing is closed that was not made."""
    things.failures = 1
    with pytest.raises(ConnectionError):
        await per_loop.get()

    assert 0 == await per_loop.get()
    await per_loop.close()
    assert [0] == things.closed


async def test_a_cancelled_first_use_is_tried_again(things: Things, per_loop: PerLoop[int]) -> None:
    """Cancelled while the value is being made, nothing of it stays; those who wait behind make it anew."""
    things.gate = asyncio.Event()
    first, second = asyncio.create_task(per_loop.get()), asyncio.create_task(per_loop.get())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    things.gate.set()

    assert 0 == await second
    await per_loop.close()
    assert ([0], [0]) == (things.made, things.closed)


async def test_closing_waits_for_who_is_making(things: Things, per_loop: PerLoop[int]) -> None:
    """Closing while the value is being made closes that very value; who asks meanwhile gets a new one."""
    things.gate = asyncio.Event()
    using = asyncio.create_task(per_loop.get())
    await asyncio.sleep(0)
    closing = asyncio.create_task(per_loop.close())
    await asyncio.sleep(0)
    late = asyncio.create_task(per_loop.get())
    await asyncio.sleep(0)
    things.gate.set()

    assert 0 == await using
    await closing
    assert [0] == things.closed
    assert 1 == await late
    await per_loop.close()


def test_each_loop_has_its_own_and_ends_with_it(things: Things, per_loop: PerLoop[int]) -> None:
    """A loop's end closes its value, without close() and without a warning, however the loop was run."""

    async def use() -> int:
        return await per_loop.get()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 == asyncio.run(use())
        assert [0] == things.closed
        assert 1 == anyio.run(use)
        assert [0, 1] == things.closed
        with asyncio.Runner() as outer:
            assert 2 == outer.run(use())
            assert 2 == outer.run(use())
        assert [0, 1, 2] == things.closed
        gc.collect()
    assert not per_loop._places


def test_what_closed_loops_have_left_is_abandoned(things: Things, per_loop: PerLoop[int]) -> None:
    """A loop that was closed by hand closes nothing: the next use in another loop does, and close() there as well."""
    for expected in range(3):
        loop = asyncio.new_event_loop()
        assert expected == loop.run_until_complete(per_loop.get())
        loop.close()
        assert list(range(expected)) == things.abandoned

    asyncio.run(per_loop.close())
    assert ([0, 1, 2], []) == (things.abandoned, things.closed)
    assert not per_loop._places


def test_a_pool_leaves_nothing_behind_at_the_end_of_its_loop(database: str) -> None:
    """After asyncio.run no connection is left on the server, and nothing complains about an open socket."""

    async def make() -> Database:
        return await Database.open(database, "jobqueue", name="tests", max_size=3)

    async def use() -> None:
        session = Session(await pools.get())
        await session.fetch("working")
        await session.close()
        await (await pools.get()).fetch("working")

    pools = PerLoop(make, Database.close, Database.abandon)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(use())
        gc.collect()
        asyncio.run(use())
        gc.collect()

    asyncio.run(becomes(database, 0, "application_name = 'tests'"))
