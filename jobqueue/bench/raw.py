"""The raw limit: the least SQL that stores, claims and finishes jobs, and keeps what has ended; see `raw_worker.py`."""

import time
from collections.abc import Sequence
from datetime import datetime

import asyncpg
import orjson

from jobqueue.bench import sql
from jobqueue.bench.side import NAP, Load

CHUNK = 5_000
"""Rows of one statement: more are no faster."""


class Raw:
    """asyncpg, and nothing around it; a `Side`."""

    name = "limit"

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", channel: str) -> None:
        self._pool = pool
        self._channel = channel
        self._last = 0

    @classmethod
    async def open(cls, dsn: str, schema: str, limit: float, connections: int = 1) -> "Raw":
        """Connect, so that no measurement has to."""
        pool = await asyncpg.create_pool(
            dsn, min_size=connections, max_size=connections, command_timeout=limit, timeout=10,
            server_settings={"search_path": schema}, reset=_nothing_to_reset,
        )  # fmt: skip
        return cls(pool, f"{schema}_raw")

    async def send(self, number: int) -> None:
        await self._pool.execute(sql.INSERT, "noop", _args(number))

    async def stamp(self) -> None:
        sent = orjson.dumps({"sent": time.monotonic()}).decode()
        await self._pool.execute(sql.INSERT_AND_WAKE, "stamp", sent, self._channel)

    async def fill(self, load: Load) -> None:
        task = "nap" if load.task == "nap" else "noop"  # a raw worker needs no batches
        async with self._pool.acquire() as connection, connection.transaction():
            for first in range(0, load.count, CHUNK):
                numbers = range(first, min(first + CHUNK, load.count))
                args = [f'{{"seconds":{NAP}}}' if task == "nap" else _args(number) for number in numbers]
                if load.plain:
                    await connection.execute(sql.INSERT_MANY, task, args)
                else:
                    more = [load.priority(number) for number in numbers], [load.key(number) for number in numbers]
                    await connection.execute(sql.INSERT_SPECIAL, task, args, *more, load.delay or 0.0)

    async def mark(self) -> None:
        self._last = await self._pool.fetchval(sql.RAW_LAST)

    async def finished(self) -> bool:
        return bool(await self._pool.fetchval(sql.RAW_FINISHED, self._last))

    async def tally(self, since: datetime, from_due: bool) -> tuple[int, float]:
        jobs, seconds = (await self._pool.fetch(sql.RAW_TALLY, since, from_due))[0]
        return jobs, seconds

    def worker(self, concurrency: int) -> Sequence[str]:
        return ("jobqueue.bench.raw_worker", "{line}", str(concurrency), self._channel)

    async def close(self) -> None:
        await self._pool.close()


async def _nothing_to_reset(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """By default it would be a second round trip for each call."""


def _args(number: int) -> str:
    return orjson.dumps({"n": number}).decode()
