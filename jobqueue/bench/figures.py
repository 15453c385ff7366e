"""What was measured, as plain values: one sample, what its processes cost, and medians with their ratio."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

RATE = "/s"
LATENCY = "ms"


@dataclass(frozen=True, slots=True)
class Cost:
    """What the processes of one side took: CPU seconds for 1,000 jobs of all together, the largest's peak of memory in
    MiB, and seconds from the first process's start to its first job; None where no job was waiting for it."""

    cpu: float
    rss: float
    start: float | None

    @classmethod
    def middle(cls, costs: Sequence["Cost"]) -> "Cost | None":
        """The median of each; None of none."""
        if not costs:
            return None
        starts = [cost.start for cost in costs if cost.start is not None]
        return cls(
            cpu=median(cost.cpu for cost in costs),
            rss=median(cost.rss for cost in costs),
            start=median(starts) if starts else None,
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run gave: a value for each line of its measurement."""

    values: tuple[float, ...]
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. What was not measured yet is None."""

    what: str
    unit: str
    ours: float | None
    beside: float | None

    @property
    def ratio(self) -> float | None:
        """Ours divided by what stands beside it: of rates the more the better, of latencies the less."""
        return self.ours / self.beside if self.ours is not None and self.beside else None


@dataclass(slots=True)
class Series:
    """All samples of one measurement."""

    name: str
    lines: tuple[str, ...]
    unit: str
    against: str
    """What it is compared with: `raw limit`, or `empty table` for our own drain there."""
    ours: list[Sample] = field(default_factory=list)
    beside: list[Sample] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """A row for each line, from the samples so far."""
        return [
            Row(line, self.unit, _middle(self.ours, place), _middle(self.beside, place))
            for place, line in enumerate(self.lines)
        ]

    @property
    def costs(self) -> tuple[Cost | None, Cost | None]:
        """Of ours, and of what stands beside it."""
        ours, beside = (
            Cost.middle([sample.cost for sample in samples if sample.cost]) for samples in (self.ours, self.beside)
        )
        return ours, beside


def percentile(values: Iterable[float], share: float) -> float:
    """The least value that is not less than this share of them all. Raises ValueError if there is none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _middle(samples: Sequence[Sample], place: int) -> float | None:
    return median(sample.values[place] for sample in samples) if samples else None
