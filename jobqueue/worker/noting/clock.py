"""When a minute of the database's clock ends."""

import time


class MinuteClock:
    """Guesses by this machine's clock until the database has said what its own says."""

    def __init__(self, minute: float = 60.0) -> None:
        """`minute`: its length in seconds, shorter for those who test."""
        self._minute = minute
        self._ahead = time.time() - time.monotonic()

    def heard(self, second: float) -> None:
        """The database's clock stands at this second of its minute."""
        self._ahead = second - time.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the minute is over."""
        return self._minute - (time.monotonic() + self._ahead) % self._minute
