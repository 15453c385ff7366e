"""A long way in pieces: all seqs, from the newest down, each piece as wide as goes quickly.

An old snapshot anywhere on the server keeps the index entries of all that has gone. Whoever looks for a few rows among
them pays for every entry, so it goes a piece at a time and rests in between.
"""

import time
from collections import deque

BOTTOM, TOP = -(2**63), 2**63 - 1
"""Below and above every seq."""
_FIRST_WIDTH = 25_000
"""Whoever is new knows nothing of what has gone: some 20 ms if all has."""
_LEAST_WIDTH = 10_000
_QUICK, _LONG = 0.02, 0.05
REST, _LONGEST_REST = 20, 5.0
"""Who looks rests so many times as long as it took, at most so many seconds."""
_ODD = 0.1
"""As much of a lone long look counts: the machine is busy now and then, but not for that long."""


class Windows:
    """Where one looker is on its way down."""

    def __init__(self) -> None:
        self._width = self._span = self._top = _FIRST_WIDTH
        """Of the next piece; of the last one, as far as there are seqs; of the first one of the next round."""
        self._hard = False
        self._upto = TOP

    def piece(self, newest: int) -> tuple[int, int]:
        """Look at seqs above the first and up to the second; `newest` is the last one given out."""
        start = min(newest, self._upto)
        after = start - self._width
        self._span = min(self._width, start)
        return after if after > 0 else BOTTOM, self._upto

    def passed(self, after: int, seconds: float) -> bool:
        """That piece took so long; True if it was the last of the round."""
        if seconds > _LONG:
            self._width = max(_LEAST_WIDTH, self._span // 2)
            self._hard = True
        elif seconds < _QUICK:
            self._width = min(TOP, self._width * 2)
        if self._upto == TOP:
            self._top = self._width
        self._upto = after
        if after <= 0:
            self.again()
        return after <= 0

    def cut_short(self) -> None:
        """That piece took longer than a statement may."""
        self._width = self._top = max(_LEAST_WIDTH, self._span // 8)
        self._hard = True

    def again(self) -> None:
        """Begin a new round. After a hard one as carefully as that: it may have grown wide where nothing had gone."""
        self._upto = TOP
        if self._hard:
            self._width, self._hard = self._top, False


class Rest:
    """How long to rest between looks. One that is long only because the machine is busy just then does not count."""

    def __init__(self, longest: float = _LONGEST_REST) -> None:
        """`longest`: seconds."""
        self.over_at = 0.0
        self._longest = longest
        self._took = deque([0.0, 0.0], maxlen=3)

    def begin(self, seconds: float, times: float = REST) -> None:
        """A look has ended that took so long; the rest takes so many times as long."""
        self._took.append(seconds)
        least = max(min(self._took), seconds * _ODD)
        self.over_at = time.monotonic() + (min(self._longest, least * times) if least > _QUICK else 0.0)

    @property
    def left(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self.over_at - time.monotonic())

    def end(self) -> None:
        """The next look cannot wait."""
        self.over_at = 0.0


def is_long(seconds: float) -> bool:
    """True if it is time to let others go on."""
    return seconds > _LONG
