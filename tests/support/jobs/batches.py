"""A batch of three that runs until a test lets it go, for tests of how its items end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.tasks.handle import JobHandle
from jobqueue.worker.work import Work
from tests.support.jobs.working import asleep, end_of
from tests.support.patience import stretched
from tests.support.waiting import wait_until

LONG = 3600.0
"""Seconds that no test waits: the most that a batch may wait for more items."""
LIMIT = stretched(0.6)
"""Seconds: the timeout of items that have one, more than what they wait for the others of their batch."""


class Handler:
    """Stays until it is let go; when it is cancelled it cleans up, as long as it must, and goes."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.let_go = asyncio.Event()
        self.cancelled = 0
        self.may_go = asyncio.Event()
        self.gone = 0

    async def __call__(self, numbers: list[int]) -> list[str]:
        self.calls.append(numbers)
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await self.may_go.wait()
            raise
        finally:
            self.gone += 1
        return [f"did {number}" for number in numbers]


@dataclass
class Running:
    """A batch of three that runs in one of a worker's two slots; nothing else is on its way."""

    dsn: str
    app: App
    worker: Work
    handles: list[JobHandle[str]]

    async def heard(self) -> None:
        """Return once the worker has heard all that it was told so far: notifications come one after the other."""
        ping = self.app.registry.find("ping")
        assert ping is not None
        await asleep(self.dsn)
        await end_of(self.app, await ping.defer())

    async def timed_out(self) -> None:
        """Return once a timeout of LIMIT seconds is over that begins now."""
        endless = self.app.registry.find("endless")
        assert endless is not None
        await end_of(self.app, await endless.defer())

    async def states(self) -> list[JobState]:
        return [await handle.status() for handle in self.handles]


def declare_signals(app: App) -> None:
    """What `Running` defers to learn how far the worker is."""

    @app.task
    async def ping() -> None: ...

    @app.task(timeout=LIMIT, max_attempts=1)
    async def endless() -> None:
        await anyio.sleep_forever()


@asynccontextmanager
async def three_running(dsn: str, app: App, handler: Handler, *limits: float, **options: Any) -> AsyncIterator[Running]:
    """`limits` are the timeouts of the first items."""
    wait = LONG if not limits and "timeout" not in options else LIMIT / 2

    @app.batch_task(size=3, wait=wait, **options)
    async def work(numbers: list[int]) -> list[str]:
        return await handler(numbers)

    declare_signals(app)
    async with app:
        tasks = [work.options(timeout=limit) for limit in limits] + [work] * (3 - len(limits))
        handles = await app.defer_many([task.job(number) for number, task in enumerate(tasks)])
        async with app.worker(concurrency=2) as worker:
            await wait_until(lambda: handler.calls, "they run")
            yield Running(dsn, app, worker, handles)
