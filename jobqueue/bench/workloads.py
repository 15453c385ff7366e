"""The measurements, in the order in which they are shown. To add one, add an entry to `WORKLOADS`.

Each is written once, and run on both sides. Where `beside` is another measurement, that one is run on our own side
instead of the raw limit.
"""

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import anyio

from jobqueue.bench.children import cost, team
from jobqueue.bench.crowds import backlog, history, old_snapshot, quiet_queues, scheduled
from jobqueue.bench.figures import LATENCY, RATE, Sample, percentile
from jobqueue.bench.ground import Ground
from jobqueue.bench.producing import MOST_CONNECTIONS, Order
from jobqueue.bench.side import Load, Side

CONCURRENCY = 100
_MOST_STAMPS = 150


class Workload(Protocol):
    """One measurement."""

    @property
    def name(self) -> str:
        """For `--only`."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is measured, a line for each value of a sample."""

    @property
    def unit(self) -> str:
        """Of all values."""

    @property
    def beside(self) -> "Workload | None":
        """What it is compared with on our own side; None for the raw limit."""

    async def run(self, ground: Ground, side: Side) -> Sample:
        """Measure once. Raises ChildFailed, and whatever the database raises."""


@dataclass(frozen=True, slots=True)
class Defer:
    """Storing jobs: how many a second, from their first call to the last answer."""

    name: str
    what: str
    share: float
    callers: int = 1
    processes: int = 1
    bulk: bool = False
    unique: bool = False
    unit: str = RATE
    beside: Workload | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """See `Workload`."""
        return (self.what,)

    async def run(self, ground: Ground, side: Side) -> Sample:
        """See `Workload`."""
        order = Order(
            side=side.name, count=ground.some(self.share) // self.processes, limit=ground.limit, callers=self.callers,
            connections=min(self.callers, MOST_CONNECTIONS // self.processes), bulk=self.bulk, unique=self.unique,
        )  # fmt: skip
        async with team(order.words, self.processes, ground.place) as producers:
            await producers.ready()
            reports = await producers.told()
        seconds = max(report.last for report in reports) - min(report.first for report in reports)
        return Sample((order.count * self.processes / seconds,), cost(reports, started=False))


@dataclass(frozen=True, slots=True)
class Drain:
    """Working off what is stored: how many a second on the database's clock, from the first claim to the last end."""

    name: str
    what: str
    share: float = 1.0
    processes: int = 1
    task: str = "noop"
    priorities: int = 1
    unique: bool = False
    amid: Callable[[Ground], AbstractAsyncContextManager[None]] | None = None
    unit: str = RATE
    beside: Workload | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """See `Workload`."""
        return (self.what,)

    async def run(self, ground: Ground, side: Side) -> Sample:
        """See `Workload`."""
        load = Load(ground.some(self.share), self.task, self.priorities, self.unique)
        async with self.amid(ground) if self.amid else nullcontext():
            await side.fill(load)
            await side.filled()
            if self.amid is backlog:
                await side.fill(Load(ground.crowd))  # behind the jobs that are waited for
            since = await ground.now()
            async with team(side.worker(CONCURRENCY), self.processes, ground.place) as workers:
                await workers.until(side)
                reports = await workers.told()
            jobs, seconds = await side.tally(since, from_due=False)
        return Sample((jobs / seconds,), cost(reports, started=True))


@dataclass(frozen=True, slots=True)
class Due:
    """Delayed jobs, all due at the same moment: how many a second from then on, in a worker that slept until then."""

    name: str
    what: str
    share: float
    unit: str = RATE
    beside: Workload | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """See `Workload`."""
        return (self.what,)

    async def run(self, ground: Ground, side: Side) -> Sample:
        """See `Workload`."""
        count = ground.some(self.share)
        delay = 1.0 + count / 5_000  # they must all be stored before
        while True:
            since = await ground.now()
            async with team(side.worker(CONCURRENCY), 1, ground.place) as workers:
                await workers.ready()
                began = await ground.now()
                await side.fill(Load(count, delay=delay))
                in_time = (await ground.now() - began).total_seconds() < delay
                await side.filled()
                await workers.until(side)
                reports = await workers.told()
            if in_time:
                jobs, seconds = await side.tally(since, from_due=True)
                return Sample((jobs / seconds,), cost(reports, started=False))
            delay *= 2
            await ground.clear()


@dataclass(frozen=True, slots=True)
class Latency:
    """From the call that stores a job to its first line, in a worker that has nothing else to do."""

    name: str
    what: str
    unit: str = LATENCY
    beside: Workload | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """See `Workload`."""
        return tuple(f"{self.what}, p{share}" for share in (50, 90, 99))

    async def run(self, ground: Ground, side: Side) -> Sample:
        """See `Workload`."""
        async with team(side.worker(CONCURRENCY), 1, ground.place) as workers:
            await workers.ready()
            for _ in range(min(_MOST_STAMPS, ground.some(0.05))):
                await anyio.sleep(random.uniform(0.01, 0.03))  # noqa: S311 - spreads load, guards nothing
                await side.stamp()
            await anyio.sleep(0.1)
            (report,) = await workers.told()
        delays = report.delays[1:]  # the first is slower: nothing was prepared yet
        return Sample(tuple(1000 * percentile(delays, share) for share in (0.5, 0.9, 0.99)))


_EMPTY = Drain("drain", "drain of no-ops, 1 worker process")

WORKLOADS: tuple[Workload, ...] = (
    Defer("defer-1", "defer one by one, 1 coroutine", 0.1),
    Defer("defer-20", "the same, 20 coroutines", 0.4, callers=20),
    Defer("defer-200", "the same, 200 coroutines", 0.4, callers=200),
    Defer("defer-4x20", "the same, 4 processes of 20", 0.4, callers=20, processes=4),
    Defer("bulk", "defer_many, in one call", 1.0, bulk=True),
    Defer("bulk-unique", "the same, unique jobs", 0.5, bulk=True, unique=True),
    _EMPTY,
    Drain("drain-2", "the same, 2 worker processes", 2.0, processes=2),
    Drain("batch", "the same, a batch task of 100", task="gather"),
    Drain("unique", "the same, unique jobs", 0.5, unique=True),
    Drain("priorities", "the same, 5 priorities", priorities=5),
    Due("delayed", "delayed jobs, all due at once", 0.5),
    Latency("latency", "start latency, idle worker"),
    Drain("sleeps", "sleeps of 50 ms, 100 at once", 0.2, task="nap"),
    Drain("history", "history in the archive", amid=history, beside=_EMPTY),
    Drain("backlog", "a large ready backlog", amid=backlog, beside=_EMPTY),
    Drain("scheduled", "many scheduled jobs", amid=scheduled, beside=_EMPTY),
    Drain("snapshot", "an old snapshot, 5 priorities", priorities=5, amid=old_snapshot, beside=_EMPTY),
    Drain("queues", "100 queues known, 1 busy", amid=quiet_queues, beside=_EMPTY),
)
"""The drains at the end are those among other things: each beside the one on empty tables."""
