"""The time in a block of `app.testing()`: it stands still, so that no slow machine changes what is due."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from jobqueue.base.moments import Seconds, check_delay


class Clock:
    """Delays, retries, sleeps, schedules, `expires` and `budget` go by it. Time limits of a run are real seconds."""

    def __init__(self, planned: Callable[[], datetime | None], fire: Callable[[], object]) -> None:
        """`planned` is the next time at which something is to be fired, `fire` does that."""
        self.now = datetime.now(UTC)
        """The moment in which the block began, moved on by `advance`."""
        self._planned = planned
        self._fire = fire

    def advance(self, seconds: Seconds) -> None:
        """Move on by so many seconds, or a timedelta. Schedules fire on the way; `await t.drain()` runs what is due.

        Your own code's `datetime.now()` stays as it is.
        """
        until = self.now + timedelta(seconds=check_delay("seconds", seconds))
        while (planned := self._planned()) is not None and planned <= until:
            self.now = max(self.now, planned)
            self._fire()
        self.now = until

    def due(self, delay: float | None, at: datetime | None) -> datetime:
        """When a job is due that is to run in `delay` seconds or at `at`: now, if that has passed by any clock."""
        if at is None:
            return self.now + timedelta(seconds=delay or 0.0)
        return self.now if at <= max(self.now, datetime.now(UTC)) else at
