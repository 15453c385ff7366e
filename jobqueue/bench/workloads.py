"""The measurements, in the order in which they are shown. To add one, add an entry to `WORKLOADS`.

Each is written once, and run on both sides.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

import anyio

from jobqueue.bench.children import cost, team
from jobqueue.bench.crowds import backlog, history, old_snapshot, quiet_queues, scheduled
from jobqueue.bench.figures import LATENCY, RATE, Sample, percentile
from jobqueue.bench.ground import Ground
from jobqueue.bench.producing import MOST_CONNECTIONS, Order
from jobqueue.bench.side import Load, Side

CONCURRENCY = 100
_MOST_STAMPS = 150


@dataclass(frozen=True, slots=True)
class Workload(ABC):
    """One measurement. `share`: how many of all jobs it takes. `beside`: what our own side is compared with, if that is
    not the raw limit."""

    name: str
    what: str
    share: float = 1.0
    beside: "Workload | None" = None

    unit: ClassVar[str] = RATE

    @property
    def lines(self) -> tuple[str, ...]:
        """What is measured, a line for each value of a sample."""
        return (self.what,)

    @abstractmethod
    async def run(self, ground: Ground, side: Side) -> Sample:
        """Measure once, on empty tables. Raises ChildFailed, and whatever the database raises."""


@dataclass(frozen=True, slots=True)
class Defer(Workload):
    """Storing jobs: how many a second, from the first call of all to the last answer."""

    callers: int = 1
    processes: int = 1
    bulk: bool = False
    unique: bool = False

    async def run(self, ground: Ground, side: Side) -> Sample:
        order = Order(
            side=side.name, count=ground.some(self.share) // self.processes, limit=ground.limit, callers=self.callers,
            connections=min(self.callers, MOST_CONNECTIONS // self.processes), bulk=self.bulk, unique=self.unique,
        )  # fmt: skip
        async with team(order.words, self.processes, ground.environment) as producers:
            await producers.ready()
            reports = await producers.told()
        seconds = max(report.last for report in reports) - min(report.first for report in reports)
        return Sample((order.count * self.processes / seconds,), cost(reports, started=False))


@dataclass(frozen=True, slots=True)
class Drain(Workload):
    """Working off what is stored: how many a second on the database's clock, from the first claim to the last end.

    What it happens `amid` comes after the jobs, so that a backlog stands behind them.
    """

    processes: int = 1
    task: str = "noop"
    priorities: int = 1
    unique: bool = False
    amid: Callable[[Ground], AbstractAsyncContextManager[None]] | None = None

    async def run(self, ground: Ground, side: Side) -> Sample:
        load = Load(ground.some(self.share), self.task, self.priorities, self.unique)
        await side.fill(load)
        await side.mark()
        async with self.amid(ground) if self.amid else nullcontext():
            since = await ground.now()
            async with team(side.worker(CONCURRENCY), self.processes, ground.environment) as workers:
                await workers.until(_all_have_ended(side, since, load.count))
                await workers.ready()  # one that came too late for any job has to hear that it may end
                reports = await workers.told()
            rate = await _rate(side, since)
        return Sample((rate,), cost(reports, started=True))


@dataclass(frozen=True, slots=True)
class Due(Workload):
    """Delayed jobs, all due at the same moment: how many a second from then on, in a worker that slept until then."""

    async def run(self, ground: Ground, side: Side) -> Sample:
        count = ground.some(self.share)
        delay = 1.0 + count / 5_000
        while not (sample := await self._in_time(ground, side, count, delay)):
            delay *= 2
            await ground.clear()
        return sample

    async def _in_time(self, ground: Ground, side: Side, count: int, delay: float) -> Sample | None:
        """None if they were not all stored before they were due."""
        since = await ground.now()
        async with team(side.worker(CONCURRENCY), 1, ground.environment) as workers:
            await workers.ready()
            began = await ground.now()
            await side.fill(Load(count, delay=delay))
            if (await ground.now() - began).total_seconds() > delay:
                return None
            await side.mark()
            await workers.until(_all_have_ended(side, since, count))
            reports = await workers.told()
        return Sample((await _rate(side, since, from_due=True),), cost(reports, started=False))


@dataclass(frozen=True, slots=True)
class Latency(Workload):
    """From the call that stores a job to its first line, in a worker that has nothing else to do."""

    unit: ClassVar[str] = LATENCY

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(f"{self.what}, p{share}" for share in (50, 90, 99))

    async def run(self, ground: Ground, side: Side) -> Sample:
        async with team(side.worker(CONCURRENCY), 1, ground.environment) as workers:
            await workers.ready()
            for _ in range(min(_MOST_STAMPS, ground.some(self.share))):
                await anyio.sleep(random.uniform(0.01, 0.03))  # noqa: S311 - spreads load, guards nothing
                await side.stamp()
            await side.mark()
            await workers.until(side.finished)
            (report,) = await workers.told()
        delays = report.delays[1:]  # the first is slower: nothing was prepared yet
        return Sample(tuple(1000 * percentile(delays, share) for share in (0.5, 0.9, 0.99)))


def _all_have_ended(side: Side, since: datetime, count: int) -> Callable[[], Awaitable[bool]]:
    """The last is asked for first, which costs nothing; when it ends, others may still run, or were given back."""

    async def have_ended() -> bool:
        return await side.finished() and (await side.tally(since, False))[0] >= count

    return have_ended


async def _rate(side: Side, since: datetime, from_due: bool = False) -> float:
    """Jobs a second."""
    jobs, seconds = await side.tally(since, from_due)
    return jobs / seconds


_EMPTY = Drain("drain", "drain of no-ops, 1 worker process")

WORKLOADS: tuple[Workload, ...] = (
    Defer("defer-1", "defer, 1 coroutine", 0.1),
    Defer("defer-20", "defer, 20 coroutines", 0.4, callers=20),
    Defer("defer-200", "defer, 200 coroutines", 0.4, callers=200),
    Defer("defer-4x20", "defer, 4 processes of 20", 0.4, callers=20, processes=4),
    Defer("bulk", "defer_many in one call", bulk=True),
    Defer("bulk-unique", "defer_many, unique jobs", 0.5, bulk=True, unique=True),
    _EMPTY,
    Drain("drain-2", "drain, 2 worker processes", 2.0, processes=2),
    Drain("batch", "drain, batch task of 100", task="gather"),
    Drain("unique", "drain, unique jobs", 0.5, unique=True),
    Drain("priorities", "drain, 5 priorities", priorities=5),
    Due("delayed", "delayed jobs, all due at once", 0.5),
    Latency("latency", "start latency, idle worker", 0.05),
    Drain("sleeps", "sleeps of 50 ms, 100 at once", 0.2, task="nap"),
    Drain("history", "history in the archive", beside=_EMPTY, amid=history),
    Drain("backlog", "a large ready backlog", beside=_EMPTY, amid=backlog),
    Drain("scheduled", "many scheduled jobs", beside=_EMPTY, amid=scheduled),
    Drain("snapshot", "an old snapshot, 5 priorities", beside=_EMPTY, priorities=5, amid=old_snapshot),
    Drain("queues", "100 queues known, 1 busy", beside=_EMPTY, amid=quiet_queues),
)
"""Those at the end are the drain among other things, each beside the one on empty tables."""
