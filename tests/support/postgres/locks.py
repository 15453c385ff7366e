"""Statements that wait: another session holds the table, so that a test can look at what is under way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from tests.support.jobs.store import connect
from tests.support.postgres.backends import WAITS_FOR_LOCK, backends, becomes
from tests.support.waiting import wait_until


class Hold:
    """A lock on the table of unfinished jobs: whoever writes or reads there waits until `release`."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._held = connect(dsn)

    async def take(self) -> None:
        self._connection = await self._held.__aenter__()
        self._transaction = self._connection.transaction()
        await self._transaction.start()
        await self._connection.execute("lock table jobqueue.job in access exclusive mode")

    async def release(self) -> None:
        """Let them go on."""
        if self._connection.is_in_transaction():
            await self._transaction.rollback()

    async def waited_for_by(self, count: int) -> None:
        """Return once exactly so many statements wait for the lock."""
        await becomes(self._dsn, count, WAITS_FOR_LOCK)

    async def waited_for(self) -> None:
        """Return once some statement waits for the lock: how many do may be a matter of chance."""
        await wait_until(lambda: backends(self._dsn, WAITS_FOR_LOCK), "a statement waits for the lock")

    async def close(self) -> None:
        await self.release()
        await self._held.__aexit__(None, None, None)


@asynccontextmanager
async def row_held(dsn: str, id: UUID) -> AsyncIterator[None]:
    """Somebody's open transaction has the row of a job inside the block."""
    async with connect(dsn) as connection, connection.transaction():
        await connection.execute("select from jobqueue.job where id = $1 for update", id)
        yield


@asynccontextmanager
async def jobs_held(dsn: str) -> AsyncIterator[Hold]:
    """Nobody else gets at unfinished jobs inside the block, or until `release`."""
    hold = Hold(dsn)
    await hold.take()
    try:
        yield hold
    finally:
        await hold.close()
