"""The one range of every length of time and every moment that may be said, here and in the database.

What lies outside cannot be read by Python, or not be computed by PostgreSQL: a year before 1 or after 9999, infinity,
not a number. It is refused where it is said. `schema/` holds the tables to the same range.
"""

import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TypeAlias
from uuid import UUID

from jobqueue.base.errors import InvalidOption

Seconds: TypeAlias = float | timedelta
"""A length of time: a number of seconds, or a timedelta."""

LONGEST = 10 * 366 * 86_400.0
"""Ten years, in seconds."""
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


def plain_seconds(option: str, value: object) -> float:
    """A length as a number, whatever it is. Raises InvalidOption if it is neither a number nor a timedelta."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(option, f"must be a number of seconds or a timedelta, not {type(value).__name__}")
    return value


def check_seconds(option: str, value: Seconds | None) -> float | None:
    """A length above 0 and within the range, in seconds. Raises InvalidOption."""
    if value is None:
        return None
    seconds = plain_seconds(option, value)
    if not 0 < seconds <= LONGEST:  # not a number is refused too
        raise InvalidOption(option, "must be above 0 seconds, and at most ten years")
    return float(seconds)


def check_delay(option: str, value: Seconds) -> float:
    """A length from 0 on, within the range, in seconds. Raises InvalidOption."""
    seconds = plain_seconds(option, value)
    if not 0 <= seconds <= LONGEST:
        raise InvalidOption(option, "must be between 0 seconds and ten years")
    return float(seconds)


def check_time(option: str, value: datetime) -> datetime:
    """A moment with a zone, within the range. Raises InvalidOption."""
    given: object = value
    if not isinstance(given, datetime):
        raise InvalidOption(option, f"must be a timezone-aware datetime, not {type(given).__name__}")
    if value.utcoffset() is None:
        raise InvalidOption(option, "must be timezone-aware, e.g. datetime.now(UTC)")
    if not EARLIEST <= value <= LATEST:
        raise InvalidOption(option, f"must be between the years {EARLIEST.year} and {LATEST.year}")
    return value


def read_length(option: str, text: str) -> float:
    """The seconds of `90`, `45s`, `10m`, `2h` or `1d`: above 0, at most ten years. Raises InvalidOption."""
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([smhd]?)", text, re.ASCII)
    length = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < length <= LONGEST:
        raise InvalidOption(option, f"must be a length of time such as 90, 45s, 10m, 2h or 1d, not {text!r}")
    return length


def read_moment(option: str, text: str) -> datetime:
    """The moment of an ISO 8601 text, which must have a zone. Raises InvalidOption."""
    try:
        time = datetime.fromisoformat(text)
        at = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidOption(option, f"must be a time such as 2026-03-01T12:00+01:00, not {text!r}") from None
    if time.tzinfo is None:
        raise InvalidOption(option, "needs a zone, as in 2026-03-01T12:00Z or 2026-03-01T12:00+01:00")
    return check_time(option, at)


def id_at(moment: datetime, mark: bytes) -> UUID:
    """A UUIDv7 of a moment and a hash of `mark`: always the same one, and lists have them in the order of moments."""
    milliseconds = int(moment.timestamp() * 1000).to_bytes(6, "big")
    rest = bytearray(sha256(mark).digest()[:10])
    rest[0] = 0x70 | rest[0] & 0x0F
    rest[2] = 0x80 | rest[2] & 0x3F
    return UUID(bytes=milliseconds + bytes(rest))


def check_moment(delay: Seconds | None, at: datetime | None) -> tuple[float | None, datetime | None]:
    """When to run, if that is said: at most one of the two. Raises InvalidOption, which names it."""
    if delay is not None and at is not None:
        raise InvalidOption("delay", "give either delay= or at=, not both")
    return None if delay is None else check_delay("delay", delay), None if at is None else check_time("at", at)
