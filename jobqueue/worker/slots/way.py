"""Room for one job that must run alone: its worker starts nothing beside it, and first lets end what runs.

A job that is one crash from its end is such a job. Nobody else can be the cause of a crash then, and no innocent dies.
"""

import time

from jobqueue.worker.keeping.holds import Hold

MADE_FOR = 20.0
"""Seconds for which a worker starts nothing new; if others still run then, it works on for as long."""


class Way:
    """Whether a worker makes way, and for whom."""

    def __init__(self) -> None:
        self.hold: Hold | None = None
        """The job that runs alone, until its outcome is on record: before that nothing may begin that could crash."""
        self.hinted = False
        """Whether there may be another: worth a look when nothing else is ready."""
        self._until = self._again_at = float("-inf")

    @property
    def made(self) -> bool:
        """Whether nothing new may start, so that the worker comes to have nothing that runs."""
        return time.monotonic() < self._until

    def make(self) -> None:
        """Somebody waits to run alone."""
        self.hinted = True
        now = time.monotonic()
        if now >= self._again_at:
            self._until, self._again_at = now + MADE_FOR, now + 2 * MADE_FOR

    def over(self, *, found: bool) -> None:
        """There was a look for one."""
        self._until, self.hinted = float("-inf"), found

    def takes(self, hold: Hold) -> None:
        """It runs, and nothing beside it."""
        self.hold, self._again_at = hold, float("-inf")

    def leaves(self) -> None:
        """It has ended, and its outcome is written."""
        self.hold = None
