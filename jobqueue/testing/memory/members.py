"""`app.bundles` of bundles in memory, on which `ctx.bundle` stands as well."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.errors import WaitTimeout
from jobqueue.base.flows.bundle import Bundle
from jobqueue.base.moments import Seconds, check_delay
from jobqueue.base.steering import Changes
from jobqueue.bundles.bundles import Bundles, task_of
from jobqueue.store.connection.pool import Database
from jobqueue.tasks.jobs import Jobs
from jobqueue.tasks.options import check_id
from jobqueue.testing.memory.sender import MemorySender

R = TypeVar("R")


class MemoryBundles(Bundles):
    """Reads bundles in memory; what else there is of `Bundles` needs a database, and says so."""

    def __init__(self, sender: MemorySender, database: Callable[[], Awaitable[Database]], jobs: Jobs) -> None:
        super().__init__(database, None, jobs)
        self._sender = sender

    async def get(self, id: UUID | str, *, connection: object | None = None) -> Bundle:
        """The bundle as it stands now. Raises BundleNotFound."""
        return self._sender.bundles.get(check_id(id)).snapshot()

    async def results(
        self, id: UUID | str, task: Callable[..., Any], *, connection: object | None = None
    ) -> dict[UUID, Any]:
        """The results of its completed members of one task."""
        return self._sender.bundles.results(check_id(id), task_of(task))

    async def results_before(self, id: UUID, job: UUID, task: Callable[..., Any]) -> list[Any]:
        """What `ctx.results(task)` gives this job of the bundle."""
        return self._sender.bundles.results_before(job, task_of(task))

    async def wait(
        self, id: UUID | str, timeout: Seconds | None = None, *, looked: Callable[[Bundle], object] | None = None
    ) -> Bundle:
        """The bundle, if it has ended: nobody else would end it. Raises BundleNotFound, WaitTimeout."""
        bundle = await self.get(id)
        if looked is not None:
            looked(bundle)
        if not bundle.finished:
            limit = 0.0 if timeout is None else check_delay("timeout", timeout)
            raise WaitTimeout("bundle", bundle.id, limit, f"{bundle.pending} jobs are left; `await t.drain()` first")
        return bundle

    async def cancel(self, id: UUID | str, *, by: Doer | None = None) -> Changes:
        """End what has not ended of it."""
        By.of(by)
        bundle, done = self._sender.bundles.get(check_id(id)), Changes()
        self._sender.bundles.cancel(bundle, lambda kept: done.each.update({kept.id: self._sender.end(kept)}))
        return done
