"""The raw limit of a worker, a program: two connections, one that claims and one that finishes, both in batches.

No lease, no retry, no fence, no log. A job runs in a task of its own, as ours do.
"""

import asyncio
import contextlib
import json
import os
import sys
import time

import asyncpg

from jobqueue.bench.child import SCHEMA, Line, Meter, run
from jobqueue.bench.sql import CLAIM, FINISH, NEXT

AHEAD = 1_000
"""Jobs claimed and not finished, at the most: as many as our worker claims ahead."""
POLL = 0.5


class RawWorker:
    """Runs jobs until it is told to stop."""

    def __init__(self, concurrency: int, line: Line) -> None:
        self._line = line
        self._slots = asyncio.Semaphore(concurrency)
        self._ahead = max(AHEAD, concurrency)
        self._held = 0
        self._done: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        """Jobs came, room came, or the end."""
        self._ended = asyncio.Event()
        """A job has ended."""
        self.meter = Meter()

    async def work(self, claimer: asyncpg.Connection, finisher: asyncpg.Connection, channel: str) -> None:
        """Until told. What it holds then, it finishes."""
        await claimer.add_listener(channel, lambda *_: self._wake.set())
        claim, finish = await claimer.prepare(CLAIM), await finisher.prepare(FINISH)
        finishing = asyncio.create_task(self._finish_on(finish))
        self._line.ready(self._wake.set)
        while not self._line.told.is_set() and not finishing.done():
            self._wake.clear()
            room = self._ahead - self._held
            rows = await claim.fetch(room)
            self._held += len(rows)
            for row in rows:
                task = asyncio.create_task(self._run(*row))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if len(rows) < room:
                await self._woken(POLL if rows else min(POLL, await claimer.fetchval(NEXT) or POLL))
            while self._held > self._ahead // 2 and not finishing.done():
                await self._woken()
        while self._held and not finishing.done():
            await self._woken()
        if finishing.done():
            finishing.result()
        finishing.cancel()

    async def _woken(self, limit: float = POLL) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(limit, 0.0))
        self._wake.clear()

    async def _run(self, id: int, task: str, args: str) -> None:
        async with self._slots:
            given = json.loads(args)
            if task == "stamp":
                self.meter.delays.append(time.monotonic() - given["sent"])
            else:
                self.meter.job()
            if task == "nap":
                await asyncio.sleep(given["seconds"])
        self._done.append(id)
        self._ended.set()

    async def _finish_on(self, finish: "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]") -> None:
        while True:
            await self._ended.wait()
            self._ended.clear()
            batch, self._done = self._done, []
            await finish.fetch(batch)
            self._held -= len(batch)
            self._wake.set()


async def main(descriptor: int, concurrency: int, channel: str) -> None:
    """Work as the bench says."""
    line = Line(descriptor)
    settings = {"search_path": os.environ[SCHEMA]}
    dsn = os.environ["JOBQUEUE_DSN"]
    claimer, finisher = [await asyncpg.connect(dsn, server_settings=settings) for _ in range(2)]
    worker = RawWorker(concurrency, line)
    await worker.work(claimer, finisher, channel)
    worker.meter.report()
    await claimer.close()
    await finisher.close()


if __name__ == "__main__":
    run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
