"""Lengths of time and moments as they are written on the command line."""

import re
from datetime import UTC, datetime

from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import LONGEST, check_time
from jobqueue.cli.terminal.failures import ExitCode, Refusal

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds(option: str, text: str | None) -> float | None:
    """The seconds of `90`, `45s`, `10m`, `2h` or `1d`: above 0, at most ten years. Raises Refusal."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([smhd]?)", text, re.ASCII)
    length = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < length <= LONGEST:
        raise Refusal(
            f"{option}: must be a length of time such as 90, 45s, 10m, 2h or 1d, not {text!r}", ExitCode.USAGE
        )
    return length


def pause_of(length: str | None, until: str | None) -> tuple[float | None, datetime | None]:
    """How long, or until when: `--for` or `--until`, or neither. Raises Refusal."""
    if length is not None and until is not None:
        raise Refusal("give either --for or --until, not both", ExitCode.USAGE)
    return seconds("--for", length), moment_of("--until", until)


def moment_of(option: str, text: str | None) -> datetime | None:
    """The moment of an ISO 8601 text, which must have a zone. Raises Refusal."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        at = time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refusal(
            f"{option}: must be a time such as 2026-03-01T12:00+01:00, not {text!r}", ExitCode.USAGE
        ) from None
    if time.tzinfo is None:
        raise Refusal(f"{option}: needs a zone, as in 2026-03-01T12:00Z or 2026-03-01T12:00+01:00", ExitCode.USAGE)
    try:
        return check_time(option, at)
    except InvalidOption as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
