"""Lengths of time and moments as they are written on the command line."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import read_length, read_moment
from jobqueue.cli.terminal.failures import ExitCode, Refusal

T = TypeVar("T")


def seconds(option: str, text: str | None) -> float | None:
    """The seconds of `90`, `45s`, `10m`, `2h` or `1d`: above 0, at most ten years. Raises Refusal."""
    return _read(read_length, option, text)


def pause_of(length: str | None, until: str | None) -> tuple[float | None, datetime | None]:
    """How long, or until when: `--for` or `--until`, or neither. Raises Refusal."""
    if length is not None and until is not None:
        raise Refusal("give either --for or --until, not both", ExitCode.USAGE)
    return seconds("--for", length), moment_of("--until", until)


def moment_of(option: str, text: str | None) -> datetime | None:
    """The moment of an ISO 8601 text, which must have a zone. Raises Refusal."""
    return _read(read_moment, option, text)


def _read(read: Callable[[str, str], T], option: str, text: str | None) -> T | None:
    try:
        return None if text is None else read(option, text)
    except InvalidOption as error:
        raise Refusal(str(error), ExitCode.USAGE) from None
