"""`ctx.bundle`: what a running job has of the bundle that it belongs to."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeAlias, TypeVar, overload
from uuid import UUID

from jobqueue.base.flows.bundle import Bundle
from jobqueue.base.job import Claimed, NewJob
from jobqueue.tasks.after import After, AfterWhen
from jobqueue.tasks.handle import JobHandle

R = TypeVar("R")


class Membership(Protocol):
    """The bundle of a member, or of a callback, as its handler sees it."""

    @property
    def id(self) -> UUID:
        """The bundle's id."""
        ...

    async def get(self) -> Bundle:
        """The bundle as it stands now."""
        ...

    async def add(
        self, job: NewJob[R], *, after: After = (), when: AfterWhen = "completed", connection: object | None = None
    ) -> JobHandle[R]:
        """Store one more member, at once, or with the transaction of `connection`, as of `ctx.transaction()`.

        `after` and `when` as of a bundle in the making; `after=[ctx.job]` waits for the end of this very job. Added by
        a callback, it opens the bundle again, which ends once more. Raises ClaimLost if another worker has this job by
        now: nothing is stored then; and what a defer raises.
        """
        ...

    async def add_many(
        self,
        jobs: Iterable[NewJob[Any]],
        *,
        after: After = (),
        when: AfterWhen = "completed",
        connection: object | None = None,
    ) -> list[JobHandle[Any]]:
        """Store several, all or none."""
        ...

    @overload
    async def results(self, task: Callable[..., Coroutine[Any, Any, R]]) -> dict[UUID, R]: ...
    @overload
    async def results(self, task: Callable[..., R]) -> dict[UUID, R]: ...
    async def results(self, task: Callable[..., Any]) -> dict[UUID, Any]:
        """The results of completed members of a task, by their ids, in the order in which those were made."""
        ...

    async def results_before(self, task: Callable[..., Any]) -> list[Any]:
        """What `ctx.results` gives."""
        ...


MemberOf: TypeAlias = Callable[[UUID, Claimed], Membership | None]
"""What a handler has of a bundle: by the bundle's id, and the job that runs."""
