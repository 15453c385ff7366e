"""What a running member, or a callback, does with its bundle: it adds to it, and reads what others have given."""

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload
from uuid import UUID

from jobqueue.base.flows.bundle import Bundle, NewBundle
from jobqueue.base.job import Claimed, NewJob
from jobqueue.bundles.storing import Part, Stores
from jobqueue.tasks.after import After, AfterWhen, coming_after
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.sending.sender import Sender

if TYPE_CHECKING:
    from jobqueue.bundles.bundles import Bundles  # an app loads it when it is first asked for

R = TypeVar("R")


class Member:
    """A `Membership`, which documents its methods."""

    def __init__(self, id: UUID, by: Claimed, storing: Stores, sender: Sender, bundles: "Bundles") -> None:
        """`id` is the bundle's, `by` the job that runs."""
        self.id = id
        self._by = by
        self._storing = storing
        self._sender = sender
        self._bundles = bundles

    async def get(self) -> Bundle:
        """The bundle as it stands now."""
        return await self._bundles.get(self.id)

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
        if not new:
            return []
        part = Part(NewBundle(self.id, ""), new, first=False, last=False, by=self._by)
        sent = await self._storing.store(part, connection)
        return [JobHandle.of(job, one, self._sender) for job, one in zip(new, sent, strict=True)]

    @overload
    async def results(self, task: Callable[..., Coroutine[Any, Any, R]]) -> dict[UUID, R]: ...
    @overload
    async def results(self, task: Callable[..., R]) -> dict[UUID, R]: ...
    async def results(self, task: Callable[..., Any]) -> dict[UUID, Any]:
        """The results of completed members of a task."""
        return await self._bundles.results(self.id, task)

    async def results_before(self, task: Callable[..., Any]) -> list[Any]:
        """The same of those that this job came after."""
        return [*await self._bundles.results_before(self.id, self._by.job, task)]
