"""Starts what a claim has brought in growing lots, and leaves to others what it would only keep waiting.

A job that blocks the event loop keeps every other job of its worker from running. The first few tell: if the loop does
not come back from them at once, the rest is given back, and for a while only one job is claimed at a time. So workers
beside this one get their share of such jobs.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from jobqueue.store.claims import Claim
from jobqueue.worker.keeping.holds import Hold
from jobqueue.worker.slots.slots import Slots

_BLOCKED = 0.25
"""Seconds of one turn of the loop after which it counts as blocked."""
_CAREFUL = 5.0
_FIRST, _GROWTH = 1, 4
_TRUSTED = 1.0
"""Seconds for which jobs start all at once after some that did not block: lots are felt at thousands a second."""


class Lots:
    """How fast one worker takes in jobs."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._careful_until = self._trusted_until = 0.0

    @property
    def room(self) -> int:
        """How many jobs to claim now."""
        room = self._slots.room
        return min(room, 1) if self._is_careful else room

    @property
    def _is_careful(self) -> bool:
        return time.monotonic() < self._careful_until

    async def start(self, rows: Sequence[Claim], lease_ends: float) -> None:
        """Start these jobs. Cancelled between two lots, it gives the rest back."""
        left = deque([self._slots.hold(row, lease_ends) for row in rows])
        lot = len(left) if time.monotonic() < self._trusted_until else _FIRST
        try:
            while left and not await self._start(left, lot):
                lot *= _GROWTH
        finally:
            for hold in left:
                self._slots.give_back(hold)

    async def _start(self, left: deque[Hold], lot: int) -> bool:
        """Start so many of them; True if that blocks the loop."""
        while left and lot > 0:
            hold = left.popleft()
            self._slots.start(hold)
            if lot <= len(left):  # a batch is one call, however many jobs come together for it
                lot -= not self._slots.gathers(hold)
        if not left and not self._is_careful:
            return False
        before = time.monotonic()
        await asyncio.sleep(0)
        blocked = time.monotonic() - before > _BLOCKED
        now = time.monotonic()
        if blocked:
            self._careful_until = now + _CAREFUL
        self._trusted_until = 0.0 if blocked else now + _TRUSTED
        return blocked
