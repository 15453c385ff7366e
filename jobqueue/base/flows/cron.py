"""Cron expressions: which times are planned. The only file that knows cronsim.

Five fields as in crontab(5): minute, hour, day of the month, month, day of the week; or six, with seconds before them.
Where clocks change it is as in Debian: a time of the day that is left out comes right after the gap, one that comes
twice is planned once; what has a `*` for its minute or hour goes by the time that really passes. A seconds field
changes nothing of that: it only says which seconds of a planned minute are meant.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import LATEST

_LENGTH = 200
_WORDS = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_FIELDS = 'must have five fields, as in "0 7 * * *" (minute hour day month weekday), or six with seconds first'
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


class Cron:
    """An expression in a time zone, checked. Raises InvalidOption, which says what is wrong with `cron` or `tz`."""

    __slots__ = ("_minutes", "_seconds", "_zone")

    def __init__(self, text: str, tz: str = "UTC") -> None:
        self._zone = _zone(tz)
        self._minutes, self._seconds = _read(text)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The planned times after a moment, in UTC, in their order; they end after some fifty years without one."""
        before = moment.astimezone(UTC).replace(second=0, microsecond=0) - _SECOND
        stars = any(field.startswith("*") for field in self._minutes.split()[:2])
        for minute in self._passing(before) if stars and self._zone is not UTC else self._walls(before):
            if minute >= LATEST:
                return
            # Begun within an hour that comes twice, the first one is looked at again.
            yield from (time for second in self._seconds if (time := minute + second * _SECOND) > moment)

    def next(self, moment: datetime) -> datetime | None:
        """The first planned time after a moment; None if there is none any more."""
        return next(self.after(moment), None)

    def _walls(self, before: datetime) -> Iterator[datetime]:
        """Planned minutes by the clock on the wall."""
        return (minute.astimezone(UTC) for minute in CronSim(self._minutes, before.astimezone(self._zone)))

    def _passing(self, before: datetime) -> Iterator[datetime]:
        """Planned minutes by the time that passes, a stretch without a change of clocks after the other.

        Where clocks change by half an hour, or not at a full hour, cronsim would step over some.
        """
        while True:
            offset = self._offset(before + _SECOND)
            for planned in CronSim(self._minutes, before.astimezone(timezone(offset))):
                change = self._change(before, planned.astimezone(UTC), offset)
                if change is not None:
                    before = change - _SECOND
                    break
                before = planned.astimezone(UTC)
                yield before
            else:
                return

    def _change(self, since: datetime, until: datetime, offset: timedelta) -> datetime | None:
        """The first minute in which clocks are no more that far from UTC."""
        while since < until:
            later = min(since + _DAY, until)
            if self._offset(later) != offset:
                while later - since > _SECOND:
                    middle = since + (later - since) // _SECOND // 2 * _SECOND
                    since, later = (middle, later) if self._offset(middle) == offset else (since, middle)
                return later
            since = later
        return None

    def _offset(self, moment: datetime) -> timedelta:
        return moment.astimezone(self._zone).utcoffset() or timedelta()

    def latest(self, since: datetime, until: datetime, most: int) -> list[datetime]:
        """The last planned times after `since`, up to `until` inclusive, in their order: at most so many."""
        span = timedelta(hours=1)
        while True:
            begin = max(since, until - span)
            found = deque(takewhile(lambda time: time <= until, self.after(begin)), most)
            if len(found) == most or begin == since:
                return list(found)
            span *= 8


@lru_cache(1_000)
def _zone(tz: str) -> tzinfo:
    if tz == "UTC":
        return UTC  # cronsim is quicker by this one
    try:
        return ZoneInfo(tz)
    except (LookupError, OSError, ValueError, TypeError):
        rule = 'is no time zone; give a name such as "Europe/Vienna"; where there are none at all, pip install tzdata'
    raise InvalidOption("tz", rule)


@lru_cache(1_000)
def _read(text: str) -> tuple[str, tuple[int, ...]]:
    """What says the minutes, and the seconds of each."""
    given: object = text
    if not isinstance(given, str) or len(given) > _LENGTH:
        raise InvalidOption("cron", f"{_FIELDS}, at most {_LENGTH} characters")
    fields = _WORDS.get(text.strip().lower(), text).split()
    if len(fields) not in (5, 6):
        raise InvalidOption("cron", _FIELDS)
    minutes = " ".join(fields[-5:])
    try:
        sim = CronSim(" ".join(fields), _SOME_DAY)
        seconds = tuple(sorted(sim.seconds))
        first = next(CronSim(minutes, _SOME_DAY), None)
    except Exception as error:  # whatever its parser makes of what nobody has thought of
        raise InvalidOption("cron", f"{_what(error)}; {_FIELDS}") from None
    if first is None:
        raise InvalidOption("cron", "names no day that ever comes")
    return minutes, seconds


def _what(error: Exception) -> str:
    """cronsim names the field, and quotes nothing."""
    return str(error).replace("Bad", "cannot read the field", 1) if type(error).__name__ == "CronSimError" else "is odd"
