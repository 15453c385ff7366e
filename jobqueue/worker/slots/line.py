"""The line: jobs that are claimed ahead and wait for a slot, and how many it is worth to have there."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from jobqueue.worker.keeping.holds import Hold

AHEAD = 0.03
"""Seconds of work that are claimed ahead: enough that the next claim comes before the last one is used up."""
_MOST_AHEAD = 1_000
"""Claimed ahead at the most. Claims come one after the other, each waits for the disk: with 450, of 0.02 s, a worker of
no-ops waited for them half of the time. It did 28 300 a second, and 31 900 with these; 1 500 were no faster (medians of
five, in turns). All are kept from other workers, and a crash counts against all."""
_HELD_UP = 0.1
"""Seconds after which jobs claimed ahead are given back: a slow one has taken the slot that they waited for."""


class Line:
    """The waiting jobs, first come first."""

    def __init__(self, prefetch: int | None, give_back: Callable[[Hold], None], held_up: Callable[[], None]) -> None:
        """`prefetch` is how many may wait; None: measured. `give_back` lets go of one that has waited for too long.

        `held_up` is called when the line has not moved on.
        """
        self.waiting: deque[Hold] = deque()
        """First come, first served."""
        self._prefetch = prefetch
        self._give_back, self._when_held_up = give_back, held_up
        self.ahead = prefetch or 0
        """How many are claimed ahead at the most."""
        self._ended_since, self._measured_at = 0, 0.0
        self._pace = 0.0
        """Jobs a second, as of late."""
        self._watched = False
        """Whether somebody will look if it moves on."""

    def __len__(self) -> int:
        return len(self.waiting)

    def __contains__(self, hold: Hold) -> bool:
        return hold in self.waiting

    def __iter__(self) -> Iterator[Hold]:
        return iter(tuple(self.waiting))

    def join(self, hold: Hold) -> None:
        """It waits from now on."""
        self.waiting.append(hold)
        if not self._watched and len(self.waiting) > (self._prefetch or 0):
            self._watch()

    def leave(self, hold: Hold) -> None:
        """It waits no more."""
        self.waiting.remove(hold)

    def shorten(self, kept: int) -> None:
        """Give back the latest until so many are left."""
        while len(self.waiting) > kept:
            self._give_back(self.waiting.pop())

    def one_ended(self) -> None:
        """A job has ended: that sets the pace."""
        self._ended_since += 1

    def measure(self) -> None:
        """Claim ahead what ends in AHEAD seconds: what is claimed waits no longer for its slot, but for seats."""
        if self._prefetch is not None:
            return
        now = asyncio.get_running_loop().time()
        if (passed := now - self._measured_at) >= AHEAD / 4:
            # The mean of a while: jobs that began together end together, and are no faster for that.
            self._pace += (self._ended_since / passed - self._pace) * min(1.0, passed / _HELD_UP)
            self.ahead = min(_MOST_AHEAD, int(self._pace * AHEAD))
            self._ended_since, self._measured_at = 0, now

    @property
    def lasts(self) -> float:
        """Seconds until a quarter of what may wait has begun, at the pace measured last: no claim is needed before.

        Never long: more may wait than that, for the seats of a batch, and the pace may be that of slow jobs.
        """
        surplus = len(self.waiting) - 0.75 * self.ahead
        return min(AHEAD / 4, surplus / self._pace) if surplus > 0 and self._pace > 0 else 0.0

    def _watch(self) -> None:
        self._watched = True
        asyncio.get_running_loop().call_later(_HELD_UP, self._look, self.waiting[-1])

    def _look(self, newest: Hold) -> None:
        """Give back what has not moved on as fast as its claim supposed. As many may wait as the settings say."""
        self._watched = False
        if newest in self.waiting:
            self.ahead = self._prefetch or 0
            self.shorten(self.ahead)
            self._when_held_up()
        elif len(self.waiting) > (self._prefetch or 0):
            self._watch()
