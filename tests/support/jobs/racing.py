"""Jobs that come just when a worker goes to sleep: the race that a wake-up must not lose."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.support.jobs.store import Connection, connect
from tests.support.jobs.working import new_app
from tests.support.patience import scaled

LATE = scaled(10.0)
"""Seconds after which a job counts as lost: only the poll, which comes after the test, would find it."""
SLOW_COMMIT = {"commit_delay": "2000", "commit_siblings": "0"}
"""Microseconds more between the write of a commit and the moment when others see it: where wake-ups get lost."""
LONGEST_PAUSE = 0.016
"""Seconds within which a worker that has nothing to do has gone to sleep."""

Defer: TypeAlias = Callable[[str, str], Awaitable[object]]


@dataclass
class Race:
    """One worker for each lane, asleep again after every job; producers of all kinds insert at random moments."""

    dsn: str
    seed: int
    lost: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    _ran: dict[str, asyncio.Event] = field(default_factory=dict)

    async def run(self, jobs: int, lanes: int) -> None:
        """Defer so many jobs over all lanes, each one once the one before has run and a random moment has passed."""
        app = new_app(self.dsn, name="racer")
        slow = new_app(slowly_committing(self.dsn))

        async def touch(key: str) -> None:
            self._ran[key].set()

        task, slow_task = app.task(touch), slow.task(touch)

        async def by_defer(key: str, queue: str) -> None:
            await task.options(queue=queue).defer(key)

        async def by_slow_defer(key: str, queue: str) -> None:
            await slow_task.options(queue=queue).defer(key)

        async with AsyncExitStack() as stack:
            for opened in (app, slow):
                await stack.enter_async_context(opened)
            ways: list[list[Defer]] = []
            for lane in range(lanes):
                await stack.enter_async_context(app.worker(queues=[f"lane-{lane}"], concurrency=1))
                connection = await stack.enter_async_context(connect(self.dsn, **SLOW_COMMIT))
                ways.append([by_defer, by_slow_defer, *plain_ways(connection, task.options)])
            async with asyncio.TaskGroup() as group:
                for lane in range(lanes):
                    group.create_task(self._drive(lane, jobs // lanes, ways[lane]))

    async def _drive(self, lane: int, jobs: int, ways: list[Defer]) -> None:
        chosen = random.Random(f"{self.seed}-{lane}")  # noqa: S311 - a seed to repeat it by
        clock = asyncio.get_running_loop().time
        for number in range(jobs):
            if len(self.lost) > 5:
                return
            await asyncio.sleep(chosen.uniform(0, LONGEST_PAUSE))
            key, defer = f"{lane}-{number}", chosen.choice(ways)
            ran = self._ran[key] = asyncio.Event()
            await defer(key, f"lane-{lane}")
            committed = clock()
            try:
                async with asyncio.timeout(LATE):
                    await ran.wait()
            except TimeoutError:
                self.lost.append(f"{key} by {defer.__name__}")
            self.latencies.append(clock() - committed)
            del self._ran[key]


def plain_ways(connection: Connection, options: Callable[..., object]) -> list[Defer]:
    """The ways of deferring a job on a connection of one's own."""

    async def in_transaction(key: str, queue: str) -> None:
        async with connection.transaction():
            await options(queue=queue, connection=connection).defer(key)  # type: ignore[attr-defined]

    async def in_repeatable_read(key: str, queue: str) -> None:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetch("select 1")
            await asyncio.sleep(0.001)
            await options(queue=queue, connection=connection).defer(key)  # type: ignore[attr-defined]

    async def by_function(key: str, queue: str) -> None:
        await connection.fetch("select jobqueue.defer('touch', $1, queue => $2)", f'{{"key": "{key}"}}', queue)

    async def by_bare_insert(key: str, queue: str) -> None:
        await connection.execute(
            "insert into jobqueue.job (task, args, queue) values ('touch', $1::text::json, $2)",
            f'{{"key": "{key}"}}',
            queue,
        )

    return [in_transaction, in_repeatable_read, by_function, by_bare_insert]


def slowly_committing(dsn: str) -> str:
    """The same DSN, for connections whose commits take two milliseconds more."""
    separator = "&" if "?" in dsn else "?"
    return dsn + separator + "&".join(f"{name}={value}" for name, value in SLOW_COMMIT.items())


async def race_for_due_times(dsn: str, rounds: int) -> list[float]:
    """Defer a job with a short delay just when the only worker's stager promotes another one and goes to sleep again.

    Returns how late each of these started, in seconds; ends early when some were never promoted in time.
    """
    app, slow = new_app(dsn), new_app(slowly_committing(dsn))
    chosen = random.Random(rounds)  # noqa: S311 - a seed to repeat it by
    clock = asyncio.get_running_loop().time
    started = asyncio.Event()
    late: list[float] = []

    async def touch(second: bool) -> None:
        if second:
            started.set()

    task, slow_task = app.task(touch), slow.task(touch)
    async with app, slow, app.worker():
        while len(late) < rounds and sum(seconds > LATE / 2 for seconds in late) < 3:
            await task.options(delay=0.02).defer(False)
            await asyncio.sleep(chosen.uniform(0.012, 0.024))
            started.clear()
            await slow_task.options(delay=0.01).defer(True)
            deferred = clock()
            try:
                async with asyncio.timeout(LATE):
                    await started.wait()
            except TimeoutError:
                await task.defer(False)
            late.append(clock() - deferred - 0.01)
    return late
