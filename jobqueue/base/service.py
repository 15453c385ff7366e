"""What long-running parts share: patience after errors, and the shape of a service."""

import asyncio
import contextlib
import random
import time
from typing import Any, Protocol, runtime_checkable

import anyio
from anyio.abc import TaskStatus


class Service(Protocol):
    """Runs until cancelled; `started()` is called once its work has really begun."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        ...


class FirstLook:
    """Tells whoever starts a service that it has had its first look, or tried to: then the next one may have its own.

    Together they would each open a connection for one question.
    """

    def __init__(self, task_status: TaskStatus[None]) -> None:
        self._status: TaskStatus[None] | None = task_status

    def over(self) -> None:
        """To be called after each look."""
        if self._status is not None:
            self._status.started()
            self._status = None


class Wakeup:
    """One sleeper's alarm: `ring` it from anywhere on the loop."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """End the current wait, or the next one."""
        self._rung.set()

    def clear(self) -> None:
        """Forget earlier rings: the look that follows makes up for them."""
        self._rung.clear()

    async def wait(self, seconds: float) -> bool:
        """Wait to be rung, at most this long; True if rung."""
        with anyio.move_on_after(max(0.0, seconds)):
            await self._rung.wait()
        return self._rung.is_set()


@runtime_checkable
class Planner(Service, Protocol):
    """A service that does things at planned times, and sleeps until the next one."""

    wakeup: Wakeup
    """Rung when a nearer time is written."""
    fired: int
    missed: int


async def outlast(future: "asyncio.Future[Any]", limit: float | None = None) -> bool:
    """Wait until it is done, whatever cancellations come, at most `limit` seconds; True if it is.

    For a caller who was cancelled already and raises that on afterwards: no shield holds off a second native cancel.
    """
    deadline = float("inf") if limit is None else time.monotonic() + limit
    with anyio.CancelScope(shield=True):
        while not future.done() and (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({future}, timeout=None if limit is None else left)
    return future.done()


class Patience:
    """Growing, capped, jittered delays between tries. Seconds."""

    def __init__(self, first: float = 0.1, cap: float = 5.0) -> None:
        self._first = first
        self._cap = cap
        self._tries = 0

    def next(self) -> float:
        """The delay before the next try: doubling from `first` to `cap`, each ± 30 %."""
        delay = min(self._cap, self._first * 2.0 ** min(self._tries, 32))
        self._tries += 1
        return delay * random.uniform(0.7, 1.3)  # noqa: S311 - spreads load, guards nothing

    def reset(self) -> bool:
        """Begin anew after a success; True if there had been failures."""
        failed, self._tries = self._tries > 0, 0
        return failed


class Seldom:
    """True at most once in `interval` seconds: keeps a failing loop from filling the log."""

    def __init__(self, interval: float = 1.0) -> None:
        self._interval = interval
        self._last = float("-inf")

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._interval:
            return False
        self._last = now
        return True
