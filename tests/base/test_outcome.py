"""What a handler may raise to choose its outcome."""

from datetime import UTC, datetime, timedelta

import pytest

from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import check_moment
from jobqueue.base.outcome import Cancel, Fatal, Retry, Snooze

NAIVE = datetime(2030, 1, 1)
AWARE = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("delay", [0, 0.5, 86_400, None])
def test_sensible_delays_pass(delay: float | None) -> None:
    """Zero, fractions and long delays are fine, and so is none at all."""
    check_moment(delay, None)
    check_moment(None, AWARE)

    assert delay == Retry(delay=delay).delay


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), timedelta(days=4_000).total_seconds()])
def test_delays_out_of_limits_are_refused(delay: float) -> None:
    """A delay below zero, of more than ten years or not a number is refused where it is written."""
    for make in (Retry, Snooze):
        with pytest.raises(InvalidOption) as caught:
            make(delay=delay)
        assert "delay" == caught.value.option


def test_naive_times_are_refused() -> None:
    """`at` without a timezone is refused, for nobody knows whose clock it means."""
    for make in (Retry, Snooze):
        with pytest.raises(InvalidOption, match=r"at: .*timezone-aware"):
            make(at=NAIVE)


def test_delay_and_at_exclude_each_other() -> None:
    """A moment is given once."""
    with pytest.raises(InvalidOption, match="either delay= or at="):
        Retry(delay=1, at=AWARE)


def test_a_snooze_without_a_moment_is_a_minute() -> None:
    """`raise Snooze()` means in a minute; with `at` there is no delay."""
    assert 60.0 == Snooze().delay
    assert (None, AWARE) == (Snooze(at=AWARE).delay, Snooze(at=AWARE).at)


def test_what_is_raised_carries_what_was_said() -> None:
    """Queue, priority, reason, message and data arrive."""
    retry, cancel = Retry(queue="slow", priority=-5), Cancel("no longer wanted")
    fatal = Fatal("bad card", data={"a": 1})

    assert ("slow", -5, None, None) == (retry.queue, retry.priority, retry.delay, retry.at)
    assert ("no longer wanted", "no longer wanted") == (cancel.reason, str(cancel))
    assert ("bad card", {"a": 1}) == (str(fatal), fatal.data)
