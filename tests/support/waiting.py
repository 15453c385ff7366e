"""The one place where a test may sleep: wait until something is true, and say what was waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable

from tests.support.patience import PATIENCE, scaled

PAUSE, LONGEST = 0.01, 0.05
"""Seconds between two looks: longer and longer, for most looks are work for a server that has other things to do."""
_DAY = 86_400.0
_LASTS = 20.0
"""Seconds that hardly any test takes."""


async def wait_until(
    condition: Callable[[], object] | Callable[[], Awaitable[object]], what: str, timeout: float = PATIENCE
) -> None:
    """Return as soon as `condition` gives something true; after `timeout` seconds fail, naming `what`."""
    loop = asyncio.get_running_loop()
    give_up, pause = loop.time() + timeout, PAUSE
    while True:
        answer = condition()
        if isawaitable(answer):
            answer = await answer
        if answer:
            return
        if loop.time() >= give_up:
            raise AssertionError(f"waited {timeout:g} s in vain until {what}")
        await asyncio.sleep(pause)
        pause = min(1.2 * pause, LONGEST)


def let_midnight_pass(now: Callable[[], float] = time.time, wait: Callable[[float], object] = time.sleep) -> None:
    """Return once the day, in UTC, lasts for as long as a test may take.

    Days of the archive are made before they are looked at: no test could say which day it is if that changed meanwhile.
    """
    left = _DAY - now() % _DAY
    if left < scaled(_LASTS):
        wait(left)
