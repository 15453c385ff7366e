"""What may stand around the jobs that are worked off: each is there while its block runs."""

import contextlib
from collections.abc import AsyncIterator

from jobqueue.bench import sql
from jobqueue.bench.ground import Ground
from jobqueue.bench.side import Load, bare
from jobqueue.bench.tasks import noop

_QUEUES = 100
_LATER = 86_400.0


@contextlib.asynccontextmanager
async def history(ground: Ground) -> AsyncIterator[None]:
    """Completed jobs in the archive."""
    await ground.connection.execute(sql.HISTORY, ground.crowd)
    yield


@contextlib.asynccontextmanager
async def backlog(ground: Ground) -> AsyncIterator[None]:
    """Ready jobs in the same queue."""
    await ground.ours.fill(Load(ground.crowd))
    yield


@contextlib.asynccontextmanager
async def scheduled(ground: Ground) -> AsyncIterator[None]:
    """Jobs that are due tomorrow."""
    await ground.ours.fill(Load(ground.crowd, delay=_LATER))
    yield


@contextlib.asynccontextmanager
async def old_snapshot(ground: Ground) -> AsyncIterator[None]:
    """A transaction on another connection, as a dump is: nothing that ends after it began can be cleared away."""
    holder = await bare(ground.dsn, ground.schema, ground.limit)
    try:
        async with holder.transaction(isolation="repeatable_read"):
            await holder.fetchval(sql.SNAPSHOT)
            yield
    finally:
        await holder.close(timeout=5)


@contextlib.asynccontextmanager
async def quiet_queues(ground: Ground) -> AsyncIterator[None]:
    """A worker that learns of many queues, and finds work in one."""
    await ground.ours.app.defer_many([noop.options(queue=f"quiet_{n}").job(n) for n in range(1, _QUEUES)])
    yield
