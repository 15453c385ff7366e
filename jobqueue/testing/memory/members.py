"""`ctx.bundle` and `app.bundles` of bundles in memory."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

from jobqueue.base.flows.bundle import Bundle, NewBundle
from jobqueue.base.job import NewJob
from jobqueue.base.moments import Seconds
from jobqueue.base.steering import Changes
from jobqueue.bundles.bundles import Bundles, task_of
from jobqueue.bundles.storing import Part
from jobqueue.store.connection.pool import Database
from jobqueue.tasks.after import After, AfterWhen, coming_after
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.jobs import Jobs
from jobqueue.tasks.options import check_id
from jobqueue.testing.memory.kept import Kept
from jobqueue.testing.memory.sender import MemorySender

R = TypeVar("R")


class KeptMember:
    """A `Membership`, which documents its methods."""

    def __init__(self, kept: Kept, sender: MemorySender) -> None:
        assert kept.new.bundle is not None  # noqa: S101 - a member has one
        self.id = kept.new.bundle
        self._kept = kept
        self._sender = sender

    async def get(self) -> Bundle:
        """The bundle as it stands now."""
        return self._sender.bundles.get(self.id).snapshot()

    async def add(
        self, job: NewJob[R], *, after: After = (), when: AfterWhen = "completed", connection: object | None = None
    ) -> JobHandle[R]:
        """Store one more member."""
        return (await self.add_many([job], after=after, when=when, connection=connection))[0]

    async def add_many(
        self, jobs: Iterable[NewJob[Any]], *, after: After = (), when: AfterWhen = "completed",
        connection: object | None = None,
    ) -> list[JobHandle[Any]]:  # fmt: skip
        """Store several, all or none."""
        new = [coming_after(job, after, when) for job in jobs]
        part = Part(NewBundle(self.id, ""), new, first=False, last=False, by=(self._kept.id, 0))
        sent = await self._sender.store(part, connection) if new else []
        return [JobHandle.of(job, one, self._sender) for job, one in zip(new, sent, strict=True)]

    async def results(self, task: Callable[..., Any]) -> dict[UUID, Any]:
        """The results of completed members of a task."""
        return self._sender.bundles.results(self.id, task_of(task))

    async def results_before(self, task: Callable[..., Any]) -> list[Any]:
        """The same of those that this job came after."""
        return self._sender.bundles.results_before(self._kept, task_of(task))


class MemoryBundles(Bundles):
    """Reads bundles in memory; what else there is of `Bundles` needs a database, and says so."""

    def __init__(self, sender: MemorySender, database: Callable[[], Awaitable[Database]], jobs: Jobs) -> None:
        super().__init__(database, None, jobs)
        self._sender = sender

    async def get(self, id: UUID | str, *, connection: object | None = None) -> Bundle:
        """The bundle as it stands now. Raises BundleNotFound."""
        return self._sender.bundles.get(check_id(id)).snapshot()

    async def results(self, id: UUID | str, task: Callable[..., Any]) -> dict[UUID, Any]:
        """The results of its completed members of one task."""
        return self._sender.bundles.results(check_id(id), task_of(task))

    async def wait(
        self, id: UUID | str, timeout: Seconds | None = None, *, looked: Callable[[Bundle], object] | None = None
    ) -> Bundle:
        """The bundle, if it has ended: nobody else would end it. Raises BundleNotFound, TimeoutError."""
        bundle = await self.get(id)
        if looked is not None:
            looked(bundle)
        if not bundle.finished:
            raise TimeoutError(f"bundle {bundle.id} has not ended: {bundle.pending} jobs left; `await t.drain()` first")
        return bundle

    async def cancel(self, id: UUID | str) -> Changes:
        """End what has not ended of it."""
        bundle, done = self._sender.bundles.get(check_id(id)), Changes()
        self._sender.bundles.cancel(bundle, lambda kept: done.each.update({kept.id: self._sender.end(kept)}))
        return done
