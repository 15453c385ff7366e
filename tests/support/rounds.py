"""How often a race is tried. Chance decides what happens in it, so that more tries find more; most runs need few."""

import os

LONG = bool(os.environ.get("JOBQUEUE_LONG"))
"""Whether this is a run for those who changed what the races guard: `make race`."""
_LONGER = 4


def rounds(number: int) -> int:
    """So many tries in the suite, several times as many in a long run."""
    return _LONGER * number if LONG else number
