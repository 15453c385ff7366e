"""Our own side: the tasks of `tasks.py`, stored by their App, run by `python -m jobqueue worker`."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from jobqueue.base.job import NewJob
from jobqueue.bench import sql
from jobqueue.bench.side import NAP, Load, bare
from jobqueue.bench.tasks import app_on, gather, nap, noop, stamp
from jobqueue.store.dialing.dial import Connection
from jobqueue.tasks.handle import JobHandle


class Ours:
    """jobqueue, as its users use it; a `Side`."""

    name = "ours"

    def __init__(self, dsn: str, schema: str, connection: Connection) -> None:
        self.app = app_on(dsn, schema)
        self._connection = connection
        self._handles: Sequence[JobHandle[Any]] = ()
        self._last: UUID | None = None

    @classmethod
    async def open(cls, dsn: str, schema: str, limit: float) -> "Ours":
        """Connect."""
        return cls(dsn, schema, await bare(dsn, schema, limit))

    async def send(self, number: int) -> None:
        await noop.defer(number)

    async def stamp(self) -> None:
        self._handles = [await stamp.defer(time.monotonic())]

    async def fill(self, load: Load) -> None:
        if load.plain and load.task != "nap":
            task = gather if load.task == "gather" else noop
            self._handles = await task.defer_many(range(load.count))
        else:
            self._handles = await self.app.defer_many([_job(load, number) for number in range(load.count)])

    async def mark(self) -> None:
        self._last, self._handles = self._handles[-1].id, ()

    async def finished(self) -> bool:
        return bool(await self._connection.fetchval(sql.OUR_FINISHED, self._last))

    async def tally(self, since: datetime, from_due: bool) -> tuple[int, float]:
        jobs, seconds = (await self._connection.fetch(sql.OUR_TALLY, since, from_due))[0]
        return jobs, seconds

    def worker(self, concurrency: int) -> Sequence[str]:
        words = ("jobqueue", "worker", "jobqueue.bench.tasks:app", "--silent", "--child", "{line}")
        return (*words, "--concurrency", str(concurrency))

    async def close(self) -> None:
        await self.app.close()
        await self._connection.close(timeout=5)


def _job(load: Load, number: int) -> NewJob[None]:
    if load.task == "nap":
        return nap.job(NAP)
    if load.priorities > 1:
        return noop.options(priority=load.priority(number)).job(number)
    if load.unique:
        return noop.options(unique=load.key(number)).job(number)
    return noop.options(delay=load.delay).job(number)
