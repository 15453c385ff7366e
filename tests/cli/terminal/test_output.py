"""Times as people say them."""

from datetime import UTC, datetime, timedelta

import pytest

from jobqueue.telling.spans import ago, duration

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "now"),
        (-0.4, "now"),
        (3, "3 s ago"),
        (119, "119 s ago"),
        (300, "5 min ago"),
        (7_200, "2 h ago"),
        (172_800, "2 days ago"),
        (-3, "in 3 s"),
        (-3_600, "in 60 min"),
    ],
)
def test_how_long_ago(seconds: float, said: str) -> None:
    """A time is said by its distance, in the unit that gives a small whole number."""
    assert said == ago(NOW - timedelta(seconds=seconds), NOW)


def test_no_time_and_no_duration() -> None:
    """What has not happened yet is nothing; a duration of nothing is 0 s."""
    assert ago(None) is None
    assert "0 s" == duration(0)
