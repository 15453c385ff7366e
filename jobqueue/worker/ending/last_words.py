"""What is still to be said of jobs that are about to end: their progress, and their phases."""

import asyncio
from collections.abc import Collection

from jobqueue.base.service import Patience
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import STATEMENT_LIMIT
from jobqueue.worker.ending.progress import Reporter
from jobqueue.worker.ending.recording import Recorder
from jobqueue.worker.keeping.holds import Hold


class LastWords:
    """Whoever ends jobs has these written before."""

    def __init__(self, reporter: Reporter, recorder: Recorder) -> None:
        self._reporter = reporter
        self._recorder = recorder

    async def write(self, executor: Executor, holds: Collection[Hold]) -> Collection[Hold]:
        """Write them; the jobs that must not end yet, since somebody has them locked. Raises the database's errors."""
        locked = {*await self._reporter.write_last_words(executor, holds)}
        return locked.union(await self._recorder.write_last_words(executor, holds))

    async def write_with(self, transaction: Executor, hold: Hold) -> None:
        """Write those of a job that a transaction is about to end; its phases before, whatever becomes of that."""
        async with asyncio.timeout(STATEMENT_LIMIT):
            await self._recorder.written(hold)
            patience = Patience(first=0.005, cap=1.0)
            while True:
                if not await self._reporter.write_last_words(transaction, [hold]):
                    return
                await asyncio.sleep(patience.next())
