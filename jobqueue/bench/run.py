"""The door: takes measurements, ours and what stands beside it in turns, so that what else happens hits both."""

from collections.abc import Callable, Sequence

import anyio

from jobqueue.base.errors import JobQueueError
from jobqueue.bench.figures import Sample, Series
from jobqueue.bench.ground import Ground
from jobqueue.bench.side import Side
from jobqueue.bench.workloads import Workload


class TooSlow(JobQueueError):
    """Raised when one sample took longer than anything can take that does not hang."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"{name}: one run was not done within {seconds:g} s")
        self.name = name


async def measure(
    ground: Ground, workloads: Sequence[Workload], repeats: int, tell: Callable[[Series, bool], None]
) -> list[Series]:
    """Take each measurement so many times; `tell` is called after each sample, with whether it was the last one.

    Raises TooSlow, ChildFailed, and whatever the database raises. Cancelled, it ends its processes first.
    """
    found = []
    for workload in workloads:
        against = "empty table" if workload.beside else "raw limit"
        series = Series(workload.name, workload.lines, workload.unit, against)
        found.append(series)
        for step in range(1, repeats + 1):
            tell(series, False)
            series.ours.append(await _sample(workload, ground, ground.ours))
            tell(series, False)
            other: Side = ground.ours if workload.beside else ground.raw
            series.beside.append(await _sample(workload.beside or workload, ground, other))
            if step == repeats:
                tell(series, True)
    return found


async def _sample(workload: Workload, ground: Ground, side: Side) -> Sample:
    try:
        with anyio.fail_after(ground.limit):
            await ground.clear()
            return await workload.run(ground, side)
    except TimeoutError:
        raise TooSlow(workload.name, ground.limit) from None
