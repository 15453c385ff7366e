"""The waiting that all other tests rely on."""

import asyncio
from functools import partial

import pytest

from tests.support.patience import scaled
from tests.support.waiting import let_midnight_pass, wait_until


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


def test_no_test_begins_just_before_midnight() -> None:
    """It waits for the next day, and at other times for nothing."""
    waits: list[float] = []
    for left in (86_400.0, 43_200.0, scaled(21.0), scaled(19.0), 0.5):
        let_midnight_pass(partial(float, 7 * 86_400.0 - left), waits.append)

    assert [scaled(19.0), 0.5] == pytest.approx(waits)
