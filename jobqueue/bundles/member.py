"""What a running member, or a callback, does with its bundle: it adds to it, and reads what others have given."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from jobqueue.base.errors import ClaimLost
from jobqueue.base.flows.bundle import Bundle
from jobqueue.base.job import NewJob, Sent
from jobqueue.bundles.bundles import Bundles
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.pool import Session
from jobqueue.store.flows import bundles
from jobqueue.store.intake import insert_all
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.run.middleware import DeferMiddleware, store_through
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.sender import Sender

R = TypeVar("R")


class Members:
    """Gives running jobs their bundles."""

    def __init__(
        self, opening: Opening, around_defer: Sequence[DeferMiddleware], sender: Sender, bundles: Bundles
    ) -> None:
        self.opening = opening
        self.around_defer = around_defer
        self.sender = sender
        self.bundles = bundles

    def of(self, bundle_id: UUID, job_id: UUID, fence: int) -> "Member":
        """The bundle of a job that runs, as proved by its fence."""
        return Member(self, bundle_id, job_id, fence)


class Member:
    """A `Membership`, which documents its methods."""

    def __init__(self, members: Members, bundle_id: UUID, job_id: UUID, fence: int) -> None:
        self.id = bundle_id
        self._members = members
        self._job_id = job_id
        self._fence = fence

    async def get(self) -> Bundle:
        """The bundle as it stands now."""
        return await self._members.bundles.get(self.id)

    async def add(self, job: NewJob[R]) -> JobHandle[R]:
        """Store one more member."""
        return (await self.add_many([job]))[0]

    async def add_many(self, jobs: Iterable[NewJob[Any]]) -> list[JobHandle[Any]]:
        """Store several, all or none."""
        new = list(jobs)
        if not new:
            return []
        around = self._members.around_defer
        sent = await (store_through(around, new, self._store) if around else self._store(new))
        return [JobHandle.of(job, one, self._members.sender) for job, one in zip(new, sent, strict=True)]

    async def results(self, task: Any) -> dict[UUID, Any]:
        """The results of completed members of a task."""
        return await self._members.bundles.results(self.id, task)

    async def _store(self, jobs: Sequence[NewJob[Any]]) -> list[Sent]:
        with EDGE:
            session = Session(await self._members.opening.database())
            try:
                async with session.transaction():
                    sent = await insert_all(session, [replace(job, bundle=self.id) for job in jobs], always=False)
                    added = sum(not one.duplicate for one in sent)
                    if not await bundles.note_added(session, self.id, added, self._job_id, self._fence):
                        raise ClaimLost(self._job_id)
                    await bundles.touch_bundle(session, self.id)
                    return sent
            finally:
                await session.close()
