"""What a look at one schedule comes to: which planned times are fired, which left out, which comes next."""

from datetime import UTC, datetime, timedelta

import pytest

from jobqueue.base.flows.schedule import Missed, Schedule, Timing
from jobqueue.cron.planning import GRACE, PAGE, Plan, plan

NOW = datetime(2026, 5, 1, 12, 0, 30, tzinfo=UTC)
NOON = NOW.replace(second=0)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def looked_at(
    missed: Missed, since: datetime, cron: str = "* * * * *", now: datetime = NOW, ends_at: datetime | None = None
) -> Plan:
    """The plan of a schedule that has been due since then."""
    timing = Timing(cron, missed=missed, ends_at=ends_at)
    return plan(Schedule("s", "stored", "task", "default", timing, since), now)


@pytest.mark.parametrize("missed", ["skip", "once"])
def test_what_is_not_late_stands_for_what_was_missed(missed: Missed) -> None:
    """After three hours without a worker this minute is fired, and the 180 before it are left out."""
    found = looked_at(missed, NOON - 3 * HOUR)

    assert Plan([NOON], NOON + MINUTE, [NOON - 3 * HOUR, NOON - MINUTE], 180) == found


def test_a_page_of_those_that_are_made_up_for() -> None:
    """So many in one transaction, the earliest first; the next one is due still, and then comes the rest."""
    since = NOON - 3 * HOUR
    found = looked_at("all", since)
    assert found.next is not None
    rest = looked_at("all", found.next)

    planned = [since + n * MINUTE for n in range(181)]
    assert (planned[:PAGE], planned[PAGE:]) == (found.fire, rest.fire)
    assert (planned[PAGE], NOON + MINUTE, 0) == (found.next, rest.next, found.count + rest.count)


@pytest.mark.parametrize(("late", "fired"), [(GRACE, True), (GRACE + datetime.resolution, False)])
def test_a_minute_late_is_in_time(late: timedelta, fired: bool) -> None:
    """One that is fired a minute late was not missed; one that would be later is."""
    found = looked_at("skip", NOON, "@hourly", NOON + late)

    assert ([NOON] if fired else [], 0 if fired else 1) == (found.fire, found.count)


def test_none_comes_after_the_end() -> None:
    """The last planned time that is not after the end is fired, and none is next: not even one that is to come."""
    assert Plan([NOON], None) == looked_at("skip", NOON, ends_at=NOON + MINUTE - datetime.resolution)
    assert Plan([NOON], NOON + MINUTE) == looked_at("skip", NOON, ends_at=NOON + MINUTE)
