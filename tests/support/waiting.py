"""The one place where a test may sleep: wait until something is true, and say what was waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable

from tests.support.patience import PATIENCE

PAUSE = 0.01


async def wait_until(
    condition: Callable[[], object] | Callable[[], Awaitable[object]], what: str, timeout: float = PATIENCE
) -> None:
    """Return as soon as `condition` gives something true; after `timeout` seconds fail, naming `what`."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + timeout
    while True:
        answer = condition()
        if isawaitable(answer):
            answer = await answer
        if answer:
            return
        if loop.time() >= give_up:
            raise AssertionError(f"waited {timeout:g} s in vain until {what}")
        await asyncio.sleep(PAUSE)
