"""An app whose jobs have gates, and note how many of them run at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from jobqueue.app import App
from jobqueue.base.flows.limit import Limit
from jobqueue.base.outcome import Retry
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.task import Task
from tests.support.jobs.gates import declare_limits
from tests.support.jobs.working import new_app
from tests.support.patience import NEVER


class Site:
    """An app whose jobs note how many of a key run at once, and hold on until they are let go."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.app: App = new_app(dsn, poll=NEVER)
        self.running, self.most = Counter[str](), Counter[str]()
        self.go = asyncio.Event()

        async def run(ctx: JobContext, key: str = "a", how: str = "") -> None:
            await self.run(ctx, key, how)

        self.task: Task[..., Any] = self.app.task(run)

    async def run(self, ctx: JobContext, key: str, how: str) -> None:
        self.running[key] += 1
        self.most[key] = max(self.most[key], self.running[key])
        with ExitStack() as place:
            place.callback(self.running.subtract, [key])
            await self.go.wait()
            await asyncio.sleep(0)
            if how == "fails once" and ctx.attempt == 1:
                raise Retry(delay=0)
            if how == "in transaction":
                async with ctx.transaction():
                    ctx.complete(None)
                    place.close()  # with the commit another may begin, perhaps before we hear of it

    async def send(self, count: int, *gates: str, key: str = "a", how: str = "") -> list[JobHandle[Any]]:
        """Defer so many jobs with these gates."""
        return await self.app.defer_many([replace(self.task.job(key, how), gates=gates) for _ in range(count)])

    def limit(self, limit: Limit) -> None:
        """The task has this limit from now on."""
        self.app.task(limit=limit)(self.task.function)


@asynccontextmanager
async def site_with(dsn: str, *limits: tuple[str, int]) -> AsyncIterator[Site]:
    """A site with these limits, open."""
    await declare_limits(dsn, *limits)
    site = Site(dsn)
    async with site.app:
        yield site
