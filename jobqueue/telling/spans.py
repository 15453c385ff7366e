"""Times, spans of time and numbers, as people say them."""

from datetime import UTC, datetime

_UNITS = ((172_800, 86_400, "days"), (7_200, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))


def length(since: datetime, until: datetime) -> str:
    """How long it took, as people say it; under a second in milliseconds."""
    seconds = max((until - since).total_seconds(), 0.0)
    return duration(seconds) if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def ago(moment: datetime | None, now: datetime | None = None) -> str | None:
    """A time as people say it: `3 s ago`, `in 5 min`."""
    if moment is None:
        return None
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: `90 s`, `5 min`, `3 h`, `4 days`."""
    size, unit = next((size, unit) for least, size, unit in _UNITS if seconds >= least)
    return f"{seconds / size:.0f} {unit}"


def number(jobs: int, about: bool) -> str:
    """A number of jobs; ~ stands before what is estimated."""
    return f"~{jobs}" if about else str(jobs)


def moment(time: datetime | None, now: datetime | None = None) -> str | None:
    """A time to the second, and how long ago it is."""
    return None if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({ago(time, now)})"
