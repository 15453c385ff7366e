"""The raw limit: the least SQL that stores, claims and finishes jobs, and keeps what has ended; see `raw_worker.py`."""

import time
from collections.abc import Sequence
from datetime import datetime

import asyncpg
import orjson

from jobqueue.bench.ours import NAP
from jobqueue.bench.side import Load
from jobqueue.bench.sql import (
    INSERT,
    INSERT_AND_WAKE,
    INSERT_MANY,
    INSERT_SPECIAL,
    RAW_FINISHED,
    RAW_LAST,
    RAW_TALLY,
)

CHUNK = 5_000
"""Rows of one statement: more are no faster."""


class Raw:
    """asyncpg, and nothing around it."""

    name = "limit"

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", channel: str) -> None:
        self._pool = pool
        self._channel = channel
        self._last = 0

    @classmethod
    async def open(cls, dsn: str, schema: str, limit: float, connections: int = 2) -> "Raw":
        """Connect, so that no measurement has to."""
        pool = await asyncpg.create_pool(
            dsn, min_size=connections, max_size=connections, command_timeout=limit, timeout=10,
            server_settings={"search_path": schema},
        )  # fmt: skip
        return cls(pool, f"{schema}_raw")

    async def send(self, number: int) -> None:
        """See `Side`."""
        await self._pool.execute(INSERT, "noop", orjson.dumps({"n": number}).decode())

    async def stamp(self) -> None:
        """See `Side`."""
        sent = orjson.dumps({"sent": time.monotonic()}).decode()
        await self._pool.execute(INSERT_AND_WAKE, "stamp", sent, self._channel)

    async def fill(self, load: Load) -> None:
        """See `Side`."""
        async with self._pool.acquire() as connection, connection.transaction():
            for first in range(0, load.count, CHUNK):
                numbers = range(first, min(first + CHUNK, load.count))
                if load.task == "nap":
                    args = [f'{{"seconds":{NAP}}}'] * len(numbers)
                else:
                    args = [orjson.dumps({"n": number}).decode() for number in numbers]
                task = "nap" if load.task == "nap" else "noop"
                if load.plain:
                    await connection.execute(INSERT_MANY, task, args)
                    continue
                priorities, keys = zip(*((load.priority(number), load.key(number)) for number in numbers), strict=True)
                await connection.execute(INSERT_SPECIAL, task, args, priorities, keys, load.delay or 0.0)

    async def filled(self) -> None:
        """See `Side`."""
        self._last = await self._pool.fetchval(RAW_LAST)

    async def finished(self) -> bool:
        """See `Side`."""
        return bool(await self._pool.fetchval(RAW_FINISHED, self._last))

    async def tally(self, since: datetime, from_due: bool) -> tuple[int, float]:
        """See `Side`."""
        row = await self._pool.fetchrow(RAW_TALLY, since, from_due)
        assert row is not None  # noqa: S101 - it is an aggregate
        return row[0], row[1]

    def worker(self, concurrency: int) -> Sequence[str]:
        """See `Side`."""
        return ("jobqueue.bench.raw_worker", "{line}", str(concurrency), self._channel)

    async def close(self) -> None:
        """See `Side`."""
        await self._pool.close()
