"""When a failed job runs again: pure rules, no clock of their own.

A policy is any callable `(job, error) -> seconds | datetime | None`, sync or async; None ends the job as dead.
`job.attempt` is the attempt that has just failed, 1 for the first.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import TypeAlias

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import Job

Moment: TypeAlias = float | datetime | None
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
        if not all(0 <= seconds < inf for seconds in (self.first, self.step, self.cap)) or not 1 <= self.factor < inf:
            raise ConfigurationError("retry: first, step and cap must be at least 0, factor at least 1")
        if not 0 <= self.jitter < 1:
            raise ConfigurationError("retry: jitter must be from 0 to below 1")

    def __call__(self, job: Job, error: BaseException) -> float:
        before = job.attempt - 1
        try:
            delay = min(self.cap, self.first * self.factor**before + self.step * before)
        except OverflowError:  # a float power is out of range long after it has met the cap
            delay = self.cap
        return delay * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - spreads load, guards nothing


@dataclass(frozen=True, slots=True)
class Steps:
    """Fixed delays, one an attempt; the last one repeats."""

    delays: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.delays or not all(0 <= delay < inf for delay in self.delays):
            raise ConfigurationError("retry: steps needs at least one delay, none below 0")

    def __call__(self, job: Job, error: BaseException) -> float:
        return self.delays[min(job.attempt, len(self.delays)) - 1]


def exponential(first: float = 2, factor: float = 2, cap: float = 3600, jitter: float = 0.2) -> Backoff:
    """Delays of `first`, `first * factor`, ... seconds up to `cap`, each ± `jitter` (a share: 0.2 is 20 %)."""
    return Backoff(first, factor, 0, cap, jitter)


def linear(first: float = 2, step: float = 2, cap: float = 3600, jitter: float = 0.2) -> Backoff:
    """Delays of `first`, `first + step`, ... seconds up to `cap`, each ± `jitter`."""
    return Backoff(first, 1, step, cap, jitter)


def steps(*delays: float) -> Steps:
    """The given delays in seconds, one an attempt; the last repeats: `steps(0, 30, 300)`."""
    return Steps(delays)


DEFAULT_RETRY = exponential()
"""With 20 attempts: about nine hours from the first to the last."""
