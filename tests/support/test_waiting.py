"""The waiting that all other tests rely on."""

import asyncio

import pytest

from tests.support.waiting import wait_until


async def test_waits_until_the_condition_holds() -> None:
    """Waiting ends as soon as a plain or an async condition is true."""
    asked: list[int] = []

    def third_time() -> bool:
        asked.append(1)
        return len(asked) >= 3

    async def at_once() -> bool:
        return True

    await wait_until(third_time, "asked three times")
    await wait_until(at_once, "asked once")

    assert 3 == len(asked)


async def test_names_what_it_waited_for() -> None:
    """Waiting in vain fails with the words it was given."""
    with pytest.raises(AssertionError, match="until the cows come home"):
        await wait_until(lambda: False, "the cows come home", timeout=0.02)


async def test_lets_a_cancellation_through() -> None:
    """A waiting task can be cancelled."""
    task = asyncio.create_task(wait_until(lambda: False, "never"))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
