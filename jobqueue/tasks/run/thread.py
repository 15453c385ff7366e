"""One call in a thread that its caller can give up: before it has begun it never begins, later it goes on alone."""

import asyncio
import contextlib
from collections.abc import Callable
from threading import Lock, get_ident
from typing import Any

import anyio
import anyio.to_thread


class ThreadCall:
    """Makes sure that each call either never begins, or tells its end."""

    def __init__(self, call: Callable[[], Any], began: Callable[[int], None], ended: Callable[[], None]) -> None:
        """`began` is called in the thread, with its identity; `ended` on the event loop once the thread has returned.

        `began` may raise what the call is to raise instead.
        """
        self._call, self._began, self._ended = call, began, ended
        self._ticket = Lock()
        self._loop = asyncio.get_running_loop()

    async def run(self, limiter: anyio.CapacityLimiter | None) -> Any:
        """Give what the call gives. Cancelled, it returns at once: see `never_begins`."""
        return await anyio.to_thread.run_sync(self._body, abandon_on_cancel=True, limiter=limiter)

    def never_begins(self) -> bool:
        """True if no thread has come to the call; none will from here on."""
        return self._ticket.acquire(blocking=False)

    def _body(self) -> Any:
        if not self._ticket.acquire(blocking=False):
            return None  # given up before a thread came to it
        try:
            self._began(get_ident())
            return self._call()
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for this thread any more
                self._loop.call_soon_threadsafe(self._ended)
