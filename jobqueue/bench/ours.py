"""Our own side: the tasks of `tasks.py`, stored by their App, run by `python -m jobqueue worker`."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from jobqueue.base.job import NewJob
from jobqueue.bench.side import Load, bare
from jobqueue.bench.sql import OUR_FINISHED, OUR_TALLY
from jobqueue.bench.tasks import app_on, gather, nap, noop, stamp
from jobqueue.store.dialing.dial import Connection
from jobqueue.tasks.handle import JobHandle

NAP = 0.05
"""Seconds that a job sleeps which waits for something."""


class Ours:
    """jobqueue, as users use it."""

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
        """See `Side`."""
        await noop.defer(number)

    async def stamp(self) -> None:
        """See `Side`."""
        await stamp.defer(time.monotonic())

    async def fill(self, load: Load) -> None:
        """See `Side`."""
        if load.plain and load.task != "nap":
            task = gather if load.task == "gather" else noop
            self._handles = await task.defer_many(range(load.count))
        else:
            self._handles = await self.app.defer_many([_job(load, number) for number in range(load.count)])

    async def filled(self) -> None:
        """See `Side`."""
        self._last, self._handles = self._handles[-1].id, ()

    async def finished(self) -> bool:
        """See `Side`."""
        return bool(await self._connection.fetchval(OUR_FINISHED, self._last))

    async def tally(self, since: datetime, from_due: bool) -> tuple[int, float]:
        """See `Side`."""
        row = await self._connection.fetchrow(OUR_TALLY, since, from_due)
        assert row is not None  # noqa: S101 - it is an aggregate
        return row[0], row[1]

    def worker(self, concurrency: int) -> Sequence[str]:
        """See `Side`."""
        words = ("jobqueue", "worker", "jobqueue.bench.tasks:app", "--silent", "--child", "{line}")
        return (*words, "--concurrency", str(concurrency))

    async def close(self) -> None:
        """See `Side`."""
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
