"""What a task needs of the app that includes it: a narrow view, so that no task holds the App."""

from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from jobqueue.base.job import Job, NewJob, Sent
from jobqueue.base.new_jobs import NewJobs
from jobqueue.base.settings import Settings
from jobqueue.base.steering import Change


class Sender(Protocol):
    """Sends new jobs and looks at stored ones."""

    @property
    def settings(self) -> Settings:
        """The app's settings: limits and defaults."""
        ...

    @property
    def origin(self) -> str:
        """Who defers, unless a call says otherwise: the app's name."""
        ...

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        """Store one job, coalesced with the defers that wait at this moment, or on the caller's `connection`."""
        ...

    async def send_many(self, jobs: NewJobs, connection: object | None) -> list[Sent]:
        """Store all jobs or none, in one transaction; answers in the order given. Raises what making them does."""
        ...

    async def find(self, id: UUID) -> Job:
        """The job as it stands now. Raises JobNotFound."""
        ...

    async def wait_final(self, id: UUID, timeout: float | None) -> Job:
        """The job once it has ended. Raises JobNotFound, ResultTimeout. Cancelling the wait leaves the job alone."""
        ...

    async def cancel(self, id: UUID) -> Change:
        """End the job, or ask its worker to."""
        ...

    async def signal(self, id: UUID, name: str, payload: Any) -> Change:
        """Send a signal to the job."""
        ...

    def send_many_sync(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        """Store all jobs or none, without an event loop: on a connection of this process's, or on the caller's."""
        ...
