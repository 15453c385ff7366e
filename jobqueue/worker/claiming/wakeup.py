"""Turns hints into "look now": notifications and timers, for the claimer and the stager.

Hints may be lost or wrong; whoever waits here has a timer as well.
"""

import contextlib
from collections.abc import Callable, Collection

from jobqueue.base.service import Wakeup

READY, DUE, CANCEL, READING, FACTS, SCHEDULES, BULKS = "r:", "d:", "c:", "l:", "f:", "s:", "b:"


def router(
    claimer: Wakeup,
    stager: Wakeup,
    admitter: Wakeup,
    serves: Callable[[str], bool],
    gap: Callable[[], None],
    cancel: Callable[[Collection[int]], None],
    somebody_reads: Callable[[], None],
    facts: Callable[[], None],
    schedules: Callable[[], None],
    bulks: Callable[[], None] = lambda: None,
) -> Callable[[str | None], None]:
    """What a listener calls with each payload of `wake()`; None means that some may have been missed: a gap."""

    told = {READING: somebody_reads, FACTS: facts, SCHEDULES: schedules, BULKS: bulks}

    def hear(payload: str | None) -> None:
        if payload is None:
            gap()
            claimer.ring()
            stager.ring()
            admitter.ring()
            facts()
            schedules()
            bulks()
        elif payload == DUE:  # of no queue: somebody stands at a gate
            admitter.ring()
        elif payload.startswith(DUE):
            stager.ring()
        elif payload.startswith(CANCEL):
            with contextlib.suppress(ValueError):  # hints may be wrong
                cancel({int(payload.removeprefix(CANCEL))})
        elif payload in told:
            told[payload]()
        elif serves(payload.removeprefix(READY)):
            claimer.ring()

    return hear
