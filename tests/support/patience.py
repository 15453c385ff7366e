"""How long tests wait for what may never come: measured once a run, since machines differ and are busy.

Whether a test passes is decided by conditions. Limits only end what hangs, and all of them are made here.
`JOBQUEUE_TEST_SLOWNESS` holds the measurement for parallel test processes and for the programs that tests start;
whoever sets it says how slow the machine is: `make test JOBQUEUE_TEST_SLOWNESS=5`.
"""

import os
import time
from typing import Final

import pytest

VARIABLE = "JOBQUEUE_TEST_SLOWNESS"
REFERENCE = 0.15
"""Seconds that `measured_slowness` computes on the machine on which the numbers in the tests were chosen."""


def measured_slowness() -> float:
    """How many times slower than the reference a program gets on here, with all that runs beside it; at least 1."""
    began = time.perf_counter()
    number = 0
    for step in range(2_000_000):
        number = (number * 31 + step) & 0xFFFF_FFFF
    took = time.perf_counter() - began
    return max(1.0, took / REFERENCE)


SLOWNESS: Final = float(os.environ.get(VARIABLE) or measured_slowness())
os.environ[VARIABLE] = f"{SLOWNESS:.3g}"

PATIENCE: Final = 30.0 * SLOWNESS
"""Seconds after which what should have come hangs: some twenty times what it takes."""
NEVER: Final = 1_000 * PATIENCE
"""Seconds, for what must not come as long as a test runs: a poll, a sleep."""


def scaled(seconds: float) -> float:
    """The most that something may take which takes so long on the reference machine."""
    return seconds * SLOWNESS


def stretched(seconds: float) -> float:
    """A time that a test waits out, such as a lease: longer here as well, but no test should wait for minutes."""
    return seconds * min(SLOWNESS, 2.0)


def scale_limit(item: pytest.Item) -> None:
    """Let the limit of a test, its own or that of all, grow with the slowness; one given by hand holds as it is."""
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        item.add_marker(pytest.mark.timeout(scaled(marker.args[0])), append=False)
    elif item.config.getoption("timeout") is None:
        item.add_marker(pytest.mark.timeout(scaled(float(item.config.getini("timeout")))))
