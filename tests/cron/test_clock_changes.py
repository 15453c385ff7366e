"""Cron expressions where clocks change, against a brute-force oracle of Debian's rule, minute by minute."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from jobqueue.base.flows.cron import Cron

ZONES = (
    "Europe/Vienna", "Europe/London", "Europe/Dublin", "Europe/Lisbon", "America/New_York", "America/Los_Angeles",
    "America/Sao_Paulo", "America/St_Johns", "America/Havana", "America/Asuncion", "America/Santiago", "Africa/Cairo",
    "Africa/Casablanca", "Asia/Beirut", "Asia/Jerusalem", "Asia/Kolkata", "Australia/Lord_Howe", "Australia/Sydney",
    "Pacific/Auckland", "Pacific/Chatham",
)  # fmt: skip
MINUTES, HOURS = frozenset(range(60)), frozenset(range(24))
EXPRESSIONS: dict[str, tuple[frozenset[int], frozenset[int], frozenset[int]]] = {
    "* * * * *": (MINUTES, HOURS, frozenset(range(7))),
    "*/15 * * * *": (frozenset({0, 15, 30, 45}), HOURS, frozenset(range(7))),
    "30 * * * *": (frozenset({30}), HOURS, frozenset(range(7))),
    "30 2 * * *": (frozenset({30}), frozenset({2}), frozenset(range(7))),
    "0 0 * * *": (frozenset({0}), frozenset({0}), frozenset(range(7))),
    "15 1 * * 0": (frozenset({15}), frozenset({1}), frozenset({6})),
    "0,30 1-3 * * *": (frozenset({0, 30}), frozenset({1, 2, 3}), frozenset(range(7))),
    "* 2 * * *": (MINUTES, frozenset({2}), frozenset(range(7))),
    "0 */2 * * *": (frozenset({0}), frozenset(range(0, 24, 2)), frozenset(range(7))),
    "59 23 * * 6": (frozenset({59}), frozenset({23}), frozenset({5})),
    "5 0,3 * * 1-5": (frozenset({5}), frozenset({0, 3}), frozenset(range(5))),
    "45 1,2 * * *": (frozenset({45}), frozenset({1, 2}), frozenset(range(7))),
}
"""Each with its minutes, hours and days of the week, Monday 0: what the oracle goes by."""
SINCE, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
AROUND = timedelta(hours=30)
MINUTE = timedelta(minutes=1)


def changes(zone: ZoneInfo) -> list[datetime]:
    """The hours in which its clocks change; without any an ordinary day."""
    hours = [SINCE + timedelta(hours=n) for n in range(int((UNTIL - SINCE) / timedelta(hours=1)))]
    offsets = [hour.astimezone(zone).utcoffset() for hour in hours]
    return [hour for hour, now, then in zip(hours, offsets, offsets[1:], strict=False) if now != then] or [hours[2000]]


@dataclass(frozen=True)
class Stretch:
    """The minutes around a change, looked at once for all expressions."""

    passing: list[tuple[datetime, datetime]]
    """Each minute that passes, and what clocks show then."""
    shown: list[tuple[datetime, datetime]]
    """Each minute of the wall clock, and when that is: of one that comes twice the first, else the end of the gap."""


def stretch(zone: ZoneInfo, since: datetime, until: datetime) -> Stretch:
    """What lies after `since` and before `until`."""
    first = since.replace(second=0) + MINUTE
    passing = [first + n * MINUTE for n in range(int((until - first) / MINUTE))]
    return Stretch(
        [(minute, minute.astimezone(zone)) for minute in passing],
        [(real(wall, zone), wall) for wall in walls(zone, since, until)],
    )


def oracle(text: str, around: Stretch, since: datetime, until: datetime) -> list[datetime]:
    """The planned times after `since` and before `until`.

    Where minute or hour begin with a star, each minute that passes is looked at; else each minute of the wall clock.
    """
    minutes, hours, days = EXPRESSIONS[text]

    def matches(wall: datetime) -> bool:
        return wall.minute in minutes and wall.hour in hours and wall.weekday() in days

    if text.split()[0].startswith("*") or text.split()[1].startswith("*"):
        return [minute for minute, wall in around.passing if matches(wall)]
    found = {moment for moment, wall in around.shown if matches(wall)}
    return sorted(moment for moment in found if since < moment < until)


def walls(zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
    wall = (since - timedelta(hours=3)).astimezone(zone).replace(tzinfo=None, second=0)
    last = (until + timedelta(hours=3)).astimezone(zone).replace(tzinfo=None)
    while wall < last:
        yield wall
        wall += MINUTE


def real(wall: datetime, zone: ZoneInfo) -> datetime:
    while (there := wall.replace(tzinfo=zone)).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != wall:
        wall += MINUTE
    return there.astimezone(UTC)


@pytest.mark.parametrize("name", ZONES)
def test_planned_times_where_clocks_change(name: str) -> None:
    """The daylight-saving table: every expression, around every change of a year, wherever a worker begins."""
    zone = ZoneInfo(name)
    for change in changes(zone):
        since, until = change - AROUND, change + AROUND
        around = stretch(zone, since, until)
        for text in EXPRESSIONS:
            cron = Cron(text, name)
            found = list(takewhile(until.__gt__, cron.after(since)))
            assert oracle(text, around, since, until) == found, f"{text} around {change}"
            begun = [change + timedelta(minutes=n) for n in range(-90, 91, 17)]
            later = [next(time for time in [*found, None] if time is None or time > begin) for begin in begun]
            assert later == [cron.next(begin) if late else None for begin, late in zip(begun, later, strict=True)], text


def test_seconds_belong_to_planned_minutes() -> None:
    """A seconds field changes nothing of which minutes are planned: 02:30 in spring comes after the gap, once."""
    spring = datetime(2026, 3, 29, tzinfo=UTC)
    cron = Cron("10,40 30 2 * * *", "Europe/Vienna")
    found = list(takewhile(lambda time: time < spring + timedelta(days=1), cron.after(spring)))
    assert [spring.replace(hour=1, minute=0, second=second) for second in (10, 40)] == found


def test_a_start_within_a_minute_misses_no_second() -> None:
    """What comes after a moment may lie in the same minute."""
    moment = datetime(2026, 5, 1, 12, 0, 20, 500_000, tzinfo=UTC)
    cron = Cron("*/20 * * * * *")
    found = [next(times) for times in [cron.after(moment)] for _ in range(3)]
    assert [moment.replace(second=40, microsecond=0), moment.replace(minute=1, second=0, microsecond=0),
            moment.replace(minute=1, second=20, microsecond=0)] == found  # fmt: skip
