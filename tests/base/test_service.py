"""Patience after errors."""

import pytest

from jobqueue.base.service import Patience, Seldom


def test_delays_grow_to_the_cap() -> None:
    """Each delay doubles within its jitter, and none passes the cap by more than that."""
    patience = Patience(first=0.1, cap=5.0)
    delays = [patience.next() for _ in range(100)]

    assert 0.07 <= delays[0] <= 0.13
    assert 0.14 <= delays[1] <= 0.26
    assert all(3.5 <= delay <= 6.5 for delay in delays[7:])


def test_a_success_begins_anew() -> None:
    """After a reset the first delay is short again; the reset tells whether there had been failures."""
    patience = Patience(first=0.1, cap=5.0)
    for _ in range(10):
        patience.next()

    assert patience.reset() is True
    assert patience.reset() is False
    assert patience.next() <= 0.13


@pytest.mark.parametrize(("interval", "second"), [(1e9, False), (0.0, True)])
def test_seldom_is_true_once_in_an_interval(interval: float, second: bool) -> None:
    """The first call is true; the next ones only when the interval has passed."""
    seldom = Seldom(interval)

    assert seldom() is True
    assert seldom() is second
