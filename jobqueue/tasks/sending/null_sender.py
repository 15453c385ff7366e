"""Where the tasks of `App.null()` send their jobs: nowhere."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from jobqueue.base.errors import ConfigurationError, JobNotFound
from jobqueue.base.job import Job, NewJob, Sent
from jobqueue.base.new_jobs import NewJobs
from jobqueue.base.steering import Change
from jobqueue.tasks.phases.result import signal_text
from jobqueue.tasks.run.middleware import DeferMiddleware, nested
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.sync_producer import store_sync


class NullSender:
    """A `Sender`, which documents its methods. Checks and drops, as strict as the one with a database."""

    def __init__(self, opening: Opening, around_defer: Sequence[DeferMiddleware]) -> None:
        self.settings = opening.settings
        self.origin = opening.name
        self._opening = opening
        self._around_defer = around_defer

    async def open(self) -> None:
        """There is nothing to connect to."""
        self._opening.allow()

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        """Drop one job."""
        self._opening.check_defer(connection)
        return await nested(self._around_defer, _drop)(job)

    async def send_many(self, jobs: NewJobs, connection: object | None) -> list[Sent]:
        """Drop them."""
        return [await self.send(job, connection) for job in jobs.all()]

    def send_many_sync(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        """Drop them."""
        self._opening.check_defer(connection)
        return store_sync(self._around_defer, jobs, _drop_all)

    async def find(self, id: UUID) -> Job:
        """Raise JobNotFound."""
        self._opening.refuse_if_closed()
        raise JobNotFound(id)

    async def wait_final(self, id: UUID, timeout: float | None) -> Job:
        """Raise JobNotFound."""
        return await self.find(id)

    async def cancel(self, id: UUID) -> Change:
        """There is no such job."""
        self._opening.refuse_if_closed()
        return Change.NOT_FOUND

    async def signal(self, id: UUID, name: str, payload: Any) -> Change:
        """There is no such job."""
        signal_text(payload, self.settings.max_payload)
        return await self.cancel(id)


def no_database() -> str:
    """In place of a connection string."""
    raise ConfigurationError("App.null() has no database; make an App(...) for what needs one")


async def _drop(job: NewJob[Any]) -> Sent:
    return Sent(job.id)


async def _drop_all(jobs: Sequence[NewJob[Any]]) -> list[Sent]:
    return [Sent(job.id) for job in jobs]
