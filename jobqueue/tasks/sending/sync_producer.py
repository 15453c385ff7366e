"""The producing side of a process for callers without an event loop: scripts, threads, views of Django's."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import NewJob, Sent
from jobqueue.base.new_jobs import NewJobs
from jobqueue.base.settings import Pooler
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.location import Leave, Location
from jobqueue.store.connection.sync_pool import SyncPool, SyncSession, at_once
from jobqueue.store.intake import insert_all
from jobqueue.tasks.run.middleware import DeferMiddleware, store_through
from jobqueue.tasks.sending.surely import insert_and_tell


class SyncProducer:
    """Stores jobs on a few connections of this process's own. What the database does to it is a DatabaseError."""

    def __init__(self, location: Location, name: str, pooler: Pooler) -> None:
        self._location = location
        self._leave: Leave | None = None
        self._pool = SyncPool(self._find, location.schema, name, pooler)

    def prepare(self) -> None:
        """To be called before, outside of any event loop: the middleware may bring one. Raises ConfigurationError."""
        with EDGE:
            self._pool.prepare()

    async def send_many(self, jobs: Sequence[NewJob[Any]]) -> list[Sent]:
        """Store all jobs or none; never suspends. If the connection breaks, once more under the same ids."""
        session = SyncSession(self._pool)
        try:
            with EDGE:
                session.ready()
                return await insert_and_tell(session, NewJobs(jobs), _insert)
        finally:
            session.close()

    async def close(self) -> None:
        """Close what nobody uses."""
        self._pool.close()
        leave, self._leave = self._leave, None
        if leave is not None:
            await leave()

    def _find(self) -> str:
        dsn, self._leave = asyncio.run(self._location.dsn_to_keep())
        return dsn


async def _insert(session: SyncSession, jobs: NewJobs) -> list[Sent]:
    return await insert_all(session, jobs.all(), always=False)


def refuse_running_loop(called: str, instead: str) -> None:
    """Raise ConfigurationError inside a running event loop, which a synchronous call would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigurationError(f"{called} would block the running event loop; use `await {instead}`")


def store_sync(
    layers: Sequence[DeferMiddleware],
    jobs: Sequence[NewJob[Any]],
    store: Callable[[Sequence[NewJob[Any]]], Awaitable[list[Sent]]],
) -> list[Sent]:
    """Send jobs through the middleware, in an event loop for these alone, and store them; without any, just store."""
    if not jobs:
        return []
    if layers:
        return asyncio.run(store_through(layers, jobs, store))
    sent: list[Sent] = at_once(store(jobs))
    return sent
