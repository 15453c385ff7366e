"""When a failed job runs again: pure rules, no clock of their own.

A policy is any callable `(job, error) -> seconds | timedelta | datetime | None`, sync or async; None ends the job as
dead. `job.attempt` is the attempt that has just failed, 1 for the first; `error` is what its handler raised, or the one
leaf of an exception group that has no other. If the policy itself fails, by an error or by an answer that is no length
of time or moment within the range of `moments.py`, the default policy decides instead, and both errors are stored.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import TypeAlias

from jobqueue.base.errors import ConfigurationError, InvalidOption
from jobqueue.base.job import Job
from jobqueue.base.moments import LONGEST, Seconds, check_delay

Moment: TypeAlias = float | timedelta | datetime | None
RetryPolicy: TypeAlias = Callable[[Job, BaseException], Moment | Awaitable[Moment]]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds that grow with the attempt: `first * factor ** (attempt - 1)`, plus `step` each, at most `cap`."""

    first: float
    factor: float
    step: float
    cap: float
    jitter: float

    def __post_init__(self) -> None:
        factor, jitter = _number("factor", self.factor), _number("jitter", self.jitter)
        if not 1 <= factor < inf:
            raise ConfigurationError("retry: factor must be at least 1")
        if not 0 <= jitter < 1:
            raise ConfigurationError("retry: jitter must be from 0 to below 1")

    def __call__(self, job: Job, error: BaseException) -> float:
        before = job.attempt - 1
        try:
            delay = min(self.cap, self.first * self.factor**before + self.step * before)
        except OverflowError:  # a float power is out of range long after it has met the cap
            delay = self.cap
        spread = random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - spreads load, guards nothing
        return min(LONGEST, delay * spread)


@dataclass(frozen=True, slots=True)
class Steps:
    """Fixed delays, one an attempt; the last one repeats."""

    delays: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.delays:
            raise ConfigurationError("retry: steps needs at least one delay")

    def __call__(self, job: Job, error: BaseException) -> float:
        return self.delays[min(job.attempt, len(self.delays)) - 1]


def exponential(first: Seconds = 2, factor: float = 2, cap: Seconds = 3600, jitter: float = 0.2) -> Backoff:
    """Delays of `first`, `first * factor`, ... up to `cap`, each ± `jitter` (a share: 0.2 is 20 %).

    `first` and `cap` are seconds or timedeltas. Raises ConfigurationError.
    """
    return Backoff(_delay("first", first), factor, 0, _delay("cap", cap), jitter)


def linear(first: Seconds = 2, step: Seconds = 2, cap: Seconds = 3600, jitter: float = 0.2) -> Backoff:
    """Delays of `first`, `first + step`, ... up to `cap`, each ± `jitter`. Otherwise as `exponential`."""
    return Backoff(_delay("first", first), 1, _delay("step", step), _delay("cap", cap), jitter)


def steps(*delays: Seconds) -> Steps:
    """The given delays, one an attempt; the last repeats: `steps(0, 30, 300)`. Seconds or timedeltas.

    Raises ConfigurationError.
    """
    return Steps(tuple(_delay("steps", delay) for delay in delays))


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"retry: {name} must be a number, not {type(value).__name__}")
    return value


def _delay(name: str, length: Seconds) -> float:
    try:
        return check_delay(name, length)
    except InvalidOption as error:
        rule = str(error)
    raise ConfigurationError(f"retry: {rule}")


DEFAULT_RETRY = exponential()
"""With 20 attempts: about nine hours from the first to the last."""
