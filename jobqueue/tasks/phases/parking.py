"""Puts a run to sleep once nothing of it does anything else: the one moment in which several sleeps become one."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NoReturn

from jobqueue.base.outcome import Suspended

_CALM = 50
"""Turns of the event loop; a task that ends has woken the one that waits for it one or two turns later."""


class Parking:
    """The sleeps and waits that a run has come to, and the phases that run beside them."""

    def __init__(self, suspend: Callable[[Suspended], None]) -> None:
        """`suspend` ends the run."""
        self._suspend = suspend
        self._busy = 0
        """Phases that run, and waits that do not know yet until when."""
        self._parked: dict[str, tuple[datetime, int | None]] = {}
        self._futures: set[asyncio.Future[None]] = set()
        self._closed = False
        self._calm: int | None = None
        """For how many turns of the event loop nothing but sleepers was there; None if nobody counts them."""

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While the block runs, the run is not put to sleep: what it does would be done again."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if self._parked:
                self._look_soon()

    async def park(self, name: str, until: datetime, seen: int | None) -> NoReturn:
        """Sleep: the run ends here, as soon as no phase runs beside. Never returns."""
        if self._closed:
            raise asyncio.CancelledError
        future = asyncio.get_running_loop().create_future()
        self._futures.add(future)
        self._parked[name] = until, seen
        self._look_soon()
        try:
            await future
        finally:
            self._parked.pop(name, None)
            self._futures.discard(future)
        raise asyncio.CancelledError  # the run has ended, and whoever waits here outlived it

    def close(self) -> None:
        """The handler has ended: nobody sleeps here any more, however detached from it, and nothing is put to sleep."""
        self._closed = True
        for future in list(self._futures):
            future.cancel()

    def _look_soon(self) -> None:
        """In some turns of the loop: whoever has ended a phase has begun the one after it by then, and the error of one
        that failed has come to the handler, through all groups between them."""
        if self._calm is None:
            asyncio.get_running_loop().call_soon(self._look)
        self._calm = 0

    def _look(self) -> None:
        if self._closed or self._busy or not self._parked or self._calm is None:
            self._calm = None
            return
        self._calm += 1
        if self._calm < _CALM:
            asyncio.get_running_loop().call_soon(self._look)
            return
        self._calm = None
        moments, counts = zip(*self._parked.values(), strict=True)
        heard = [seen for seen in counts if seen is not None]
        self._suspend(Suspended(min(moments), min(heard, default=None)))
