"""Cron expressions: what is read, what is refused, and in which words."""

from datetime import UTC, datetime, timedelta

import pytest

from jobqueue import InvalidOption
from jobqueue.base.flows.cron import Cron

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "next_time"),
    [
        ("@hourly", NEW_YEAR + timedelta(hours=1)),
        ("@DAILY", NEW_YEAR + timedelta(days=1)),
        ("0 7 * * MON", datetime(2026, 1, 5, 7, tzinfo=UTC)),
        ("0 0 L * *", datetime(2026, 1, 31, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2028, 2, 29, tzinfo=UTC)),
        ("30 0 0 * * *", NEW_YEAR + timedelta(seconds=30)),
        ("  0   0 2 * *  ", datetime(2026, 1, 2, tzinfo=UTC)),
    ],
)
def test_what_is_read(text: str, next_time: datetime) -> None:
    """Words, names, last days, leap days, seconds and any spaces."""
    assert next_time == Cron(text).next(NEW_YEAR)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "must have five fields"),
        ("* * * *", "must have five fields"),
        ("0 25 * * *", "cannot read the field hour"),
        ("61 * * * * *", "cannot read the field second"),
        ("0 0 31 2 *", "cannot read the field day-of-month"),
        ("0 0 * * 1#6", "cannot read the field day-of-week"),
        ("0 0 * * 1#5/2", "must have five fields"),
        ("0 0 * * ²", "cannot read the field day-of-week"),
        ("*/0 * * * *", "cannot read the field minute"),
        ("0 0 30 2 */2", "day"),
        ("* " * 200, "at most 200 characters"),
        ("1" * 150 + " * * * *", "cannot read the field minute"),
        ("@reboot", "must have five fields"),
        (7, "must have five fields"),
    ],
)
def test_what_is_refused(text: str, part: str) -> None:
    """One error at the earliest point, which names the option and what is wrong."""
    with pytest.raises(InvalidOption, match=part) as caught:
        Cron(text)
    assert str(caught.value).startswith("cron")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "Europe", "", "UTC\x00", "/etc/localtime", None])
def test_a_zone_that_there_is_not(zone: str) -> None:
    """A zone is the name of one, and no path."""
    with pytest.raises(InvalidOption, match="tz"):
        Cron("* * * * *", zone)


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_the_latest_times_of_a_long_span(most: int) -> None:
    """The last ones of three years of seconds are found without counting from the beginning."""
    until = NEW_YEAR + timedelta(days=1096, seconds=7)
    found = Cron("*/2 * * * * *").latest(NEW_YEAR, until, most)
    assert [until - timedelta(seconds=1 + 2 * n) for n in reversed(range(most))] == found


def test_the_latest_times_of_a_short_span() -> None:
    """No more than there are; the first moment is not part of the span, the last one is."""
    cron = Cron("@hourly")
    hours = [NEW_YEAR + timedelta(hours=n) for n in range(4)]
    assert hours[1:] == cron.latest(hours[0], hours[3], 9)
    assert [] == cron.latest(hours[0], hours[1] - timedelta(seconds=1), 9)
