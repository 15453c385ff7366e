"""What has happened lately, as numbers over time: points of charts, histograms, and what percentiles they give."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds of the histograms' buckets in seconds; the last bucket has none.

The database keeps such histograms: other bounds need a migration.
"""


@dataclass(frozen=True, slots=True)
class Rates:
    """What workers have counted from `at` on, for one step. Jobs are counted when their outcome is written."""

    at: datetime
    claimed: int
    completed: int
    retried: int
    """Attempts that failed and are made again."""
    dead: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class Deferred:
    """How many jobs were stored from `at` on, for one step; those retried by hand too."""

    at: datetime
    jobs: int


@dataclass(frozen=True, slots=True)
class DepthPoint:
    """How long a queue was from `at` on, at the highest of one step. None if nobody could look."""

    at: datetime
    ready: int | None
    scheduled: int | None
    blocked: int | None
    running: int | None
    oldest_due: float | None
    """Seconds for which the longest waiting job had been due; None as well if none waited."""


@dataclass(frozen=True, slots=True)
class Times:
    """How it went with the jobs of one task in one queue, or with all of a queue. Seconds; None if there were none."""

    queue: str
    task: str | None
    """None: all tasks of the queue together."""
    runs: int
    """Attempts that have ended: completed, failed or cancelled."""
    failed: int
    """Of them, those that were retried, or left the job dead."""
    wait_p50: float | None
    """From when the job was due until a worker took it."""
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


@dataclass(frozen=True, slots=True)
class Spark:
    """A few numbers for a small chart, one for each step; the last step is the one that is under way."""

    completed: tuple[int, ...]
    failed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sparks:
    """The small charts of an overview, by name of queue and of task."""

    since: datetime
    step: float
    queues: dict[str, Spark]
    tasks: dict[str, Spark]


def trimmed(buckets: Sequence[int]) -> list[int]:
    """A histogram as it is kept: without the zeros at its end."""
    end = len(buckets)
    while end and not buckets[end - 1]:
        end -= 1
    return list(buckets[:end])


def added(histograms: Iterable[Sequence[int]]) -> list[int]:
    """Histograms added up; each may lack zeros at its end."""
    total: list[int] = []
    for buckets in histograms:
        total += [0] * (len(buckets) - len(total))
        for place, number in enumerate(buckets):
            total[place] += number
    return total


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """Below how many seconds this share of a histogram lies; None if it is empty.

    Inside a bucket all is taken to be spread evenly. Of what is above the last bound only that bound is known.
    """
    counts = [max(0, number) for number in buckets]
    rank, below = share * sum(counts), 0
    for place, number in enumerate(counts):
        if number and below + number >= rank:
            if place >= len(BOUNDS):
                break
            low = BOUNDS[place - 1] if place else 0.0
            part = (rank - below) / number
            return low + (BOUNDS[place] - low) * min(1.0, max(0.0, part))
        below += number
    return BOUNDS[-1] if below or any(counts) else None
