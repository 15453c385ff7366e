"""The one range of lengths and moments, and timedeltas in every place of seconds."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobqueue.base.errors import ConfigurationError, InvalidOption
from jobqueue.base.moments import EARLIEST, LATEST, LONGEST, check_delay, check_seconds, check_time
from jobqueue.base.outcome import Retry, Snooze
from jobqueue.base.retry import exponential, linear, steps
from jobqueue.base.settings import Settings
from jobqueue.tasks.options import DeferOptions, TaskOptions, Unique
from jobqueue.tasks.router import Router

VIENNA = ZoneInfo("Europe/Vienna")
TOO_LONG: list[Any] = [LONGEST + 1, 10**400, float("inf"), float("nan"), -1, timedelta.max, timedelta.min]
NO_LENGTH: list[Any] = ["5", True, 1j, [5]]
OUT_OF_RANGE = [
    datetime.min.replace(tzinfo=VIENNA),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime.max.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
    EARLIEST - timedelta(microseconds=1),
    LATEST + timedelta(microseconds=1),
]


def with_knob(knob: str, given: Any) -> Settings:
    return Settings(**{"lease": LONGEST if knob == "beat" else 20.0, knob: given})


MAKERS: dict[str, Callable[[Any], object]] = {
    "delay": lambda given: DeferOptions(delay=given),
    "timeout": lambda given: DeferOptions(timeout=given),
    "budget": lambda given: DeferOptions(budget=given),
    "expires": lambda given: DeferOptions(expires=given),
    "task timeout": lambda given: TaskOptions(timeout=given),
    "task budget": lambda given: TaskOptions(budget=given),
    "task expires": lambda given: TaskOptions(expires=given),
    "unique": lambda given: Unique("k", "period", given),
    "Retry delay": lambda given: Retry(given),
    "Snooze delay": lambda given: Snooze(given),
    "wait": lambda given: Router().batch_task(wait=given),
    "exponential first": lambda given: exponential(first=given),
    "exponential cap": lambda given: exponential(cap=given),
    "linear first": lambda given: linear(first=given),
    "linear step": lambda given: linear(step=given),
    "linear cap": lambda given: linear(cap=given),
    "steps": lambda given: steps(1, given),
    **{
        knob: partial(with_knob, knob)
        for knob in ("lease", "beat", "rescue_interval", "poll", "drain_timeout", "aside_max_age", "keep_completed")
    },
    "keep_other": partial(with_knob, "keep_other"),
}


@pytest.mark.parametrize("given", [*TOO_LONG, *NO_LENGTH], ids=str)
@pytest.mark.parametrize("place", MAKERS)
def test_a_length_out_of_the_range_is_refused_by_name(place: str, given: Any) -> None:
    """Wherever a length of time is said, what is too long, below 0 or no length is refused, and the error names it."""
    with pytest.raises((InvalidOption, ConfigurationError), match=rf"^(retry: )?{place.split()[-1]}: must be"):
        MAKERS[place](given)


@pytest.mark.parametrize("place", MAKERS)
def test_a_timedelta_is_as_good_as_seconds(place: str) -> None:
    """Wherever seconds are said, a timedelta may stand."""
    assert MAKERS[place](timedelta(minutes=16)) is not None


def test_a_length_is_kept_in_seconds() -> None:
    """What was said as a timedelta is a number from there on."""
    settings = Settings(drain_timeout=timedelta(minutes=1), keep_other=timedelta(days=90))

    assert (60.0, 90 * 86_400.0) == (settings.drain_timeout, settings.keep_other)
    assert (90.0, 0.5) == (Retry(timedelta(minutes=1.5)).delay, Snooze(timedelta(milliseconds=500)).delay)
    assert (120.0, 2.0) == (DeferOptions(delay=timedelta(minutes=2)).delay, check_seconds("timeout", 2))
    assert (0.0, LONGEST) == (check_delay("delay", 0), check_delay("delay", LONGEST))


@pytest.mark.parametrize("at", OUT_OF_RANGE, ids=str)
def test_a_moment_out_of_the_range_is_refused_by_name(at: datetime) -> None:
    """A year that Python or PostgreSQL could not compute with is refused where it is said."""
    for make in (Retry, Snooze, DeferOptions):
        with pytest.raises(InvalidOption, match=r"^at: must be between the years 1970 and 3000"):
            make(at=at)


@pytest.mark.parametrize("at", [EARLIEST, LATEST, datetime(2030, 1, 1, tzinfo=VIENNA)], ids=str)
def test_a_moment_within_the_range_passes(at: datetime) -> None:
    """Both ends of the range belong to it, in any zone."""
    assert at == check_time("at", at)


@pytest.mark.parametrize("at", ["2030-01-01", 1.5, datetime(2030, 1, 1)], ids=str)
def test_what_is_no_moment_is_refused(at: Any) -> None:
    """Text, numbers and times without a zone are no moments."""
    with pytest.raises(InvalidOption, match=r"^at: must be (a )?timezone-aware"):
        check_time("at", at)
