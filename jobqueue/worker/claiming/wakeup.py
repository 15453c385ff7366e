"""Turns hints into "look now": notifications and timers, for the claimer and the stager.

Hints may be lost or wrong; whoever waits here has a timer as well.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection

import anyio

READY, DUE, CANCEL, READING, FACTS = "r:", "d:", "c:", "l:", "f:"


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


def router(
    claimer: Wakeup,
    stager: Wakeup,
    admitter: Wakeup,
    serves: Callable[[str], bool],
    gap: Callable[[], None],
    cancel: Callable[[Collection[int]], None],
    somebody_reads: Callable[[], None],
    facts: Callable[[], None],
) -> Callable[[str | None], None]:
    """What a listener calls with each payload of `wake()`; None means that some may have been missed: a gap."""

    def hear(payload: str | None) -> None:
        if payload is None:
            gap()
            claimer.ring()
            stager.ring()
            admitter.ring()
            facts()
        elif payload == DUE:  # of no queue: somebody stands at a gate
            admitter.ring()
        elif payload.startswith(DUE):
            stager.ring()
        elif payload.startswith(CANCEL):
            with contextlib.suppress(ValueError):  # hints may be wrong
                cancel({int(payload.removeprefix(CANCEL))})
        elif payload == READING:
            somebody_reads()
        elif payload == FACTS:
            facts()
        elif serves(payload.removeprefix(READY)):
            claimer.ring()

    return hear
