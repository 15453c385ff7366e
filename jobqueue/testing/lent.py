"""`app.testing(connection=...)`: all inside one transaction, which the test rolls back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from jobqueue.base.errors import ConfigurationError, JobNotFound, ResultTimeout
from jobqueue.base.job import Job, JobState, NewJob, Sent
from jobqueue.base.new_jobs import NewJobs, job_from
from jobqueue.base.steering import Change
from jobqueue.bundles.storing import Part, Stores
from jobqueue.ground import Ground, Site
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.lent import LentDatabase
from jobqueue.store.connection.location import Nowhere
from jobqueue.store.looking.lookup import find_job
from jobqueue.tasks.sending.sender import Sender
from jobqueue.worker.one_by_one import OneByOne

_ONE_CONNECTION = (
    "app.testing(connection=...) has that one connection: `await t.drain()` runs jobs; for a worker take jobqueue_app"
)
_NOT_SYNC = (
    "app.testing(connection=...): its transaction is asynchronous, defer_sync cannot be in it; use `await task.defer`"
)
_TIME = (
    "app.testing(connection=...): time stands still in a transaction; `await app.jobs.reschedule(id, delay=0)` makes a "
    "job due"
)


class LentSender:
    """A `Sender` and `Stores`, which document their methods. What names no connection goes to the one that was lent."""

    def __init__(self, sender: Sender, storing: Stores, connection: object, database: LentDatabase) -> None:
        self.settings = sender.settings
        self.origin = sender.origin
        self.sent: dict[UUID, Job] = {}
        """What was sent, as it stood when that was looked at last."""
        self._sender = sender
        self._storing = storing
        self._connection = connection
        self._database = database

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        """Store one job."""
        return self._note([job], [await self._sender.send(job, connection or self._connection)])[0]

    async def send_many(self, jobs: NewJobs, connection: object | None) -> list[Sent]:
        """Store all jobs or none."""
        return self._note(jobs.all(), await self._sender.send_many(jobs, connection or self._connection))

    def send_many_sync(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        """Store jobs on the connection that is given, which is another one."""
        if connection is None:
            raise ConfigurationError(_NOT_SYNC)
        return self._sender.send_many_sync(jobs, connection)

    async def store(self, part: Part, connection: object | None) -> list[Sent]:
        """Store a part of a bundle."""
        return self._note(part.jobs, await self._storing.store(part, connection or self._connection))

    async def find(self, id: UUID) -> Job:
        """The job as it stands now."""
        with EDGE:
            job = await find_job(self._database, id)
        if job is None:
            raise JobNotFound(id)
        return job

    async def wait_final(self, id: UUID, timeout: float | None) -> Job:
        """The job, if it has ended: nobody else would run it."""
        job = await self.find(id)
        if not job.state.final:
            why = f"it is {job.state}, and nothing runs it before `await t.drain()`"
            raise ResultTimeout(id, job.task, timeout or 0.0, job.state, why)
        return job

    async def cancel(self, id: UUID) -> Change:
        """End the job."""
        return await self._sender.cancel(id)

    async def signal(self, id: UUID, name: str, payload: Any) -> Change:
        """Send a signal to the job."""
        return await self._sender.signal(id, name, payload)

    async def look(self) -> None:
        """Look at all that was sent; what a savepoint has rolled back since is gone."""
        with EDGE:
            found = [await find_job(self._database, id) for id in self.sent]
        self.sent = {job.id: job for job in found if job is not None}

    def _note(self, jobs: Sequence[NewJob[Any]], sent: list[Sent]) -> list[Sent]:
        now = datetime.now(UTC)
        for job, one in zip(jobs, sent, strict=True):
            due = job.at or now + timedelta(seconds=job.delay or 0)
            state = JobState.SCHEDULED if due > now else JobState.READY
            if not one.duplicate:
                self.sent[one.id] = job_from(replace(job, id=one.id), state, now, due_at=due)
        return sent


class Lent:
    """A `Stage` on a caller's connection. It has what was deferred there as it stood at the end of the last drain."""

    def __init__(self, site: Site, resources: Mapping[type, Any], connection: object) -> None:
        opening, before = site.opening, site.before
        database = LentDatabase(connection, opening.schema)
        self._opening = opening
        self._load_tasks = site.load_tasks
        self._sender = LentSender(before.sender, before.storing, connection, database)
        self._burst = OneByOne(
            opening.name, database, site.tasks, site.middleware, opening.settings, resources, site.bundle
        )
        lent = Nowhere(opening.schema, _ONE_CONNECTION, database)
        self.ground = Ground(self._sender, self._sender, before.views, lent)

    def begin(self) -> None:
        """What a worker does first."""
        self._load_tasks()

    @property
    def clock(self) -> NoReturn:
        """There is none."""
        raise ConfigurationError(_TIME)

    @property
    def jobs(self) -> list[Job]:
        """What was deferred."""
        return [*self._sender.sent.values()]

    @property
    def unsure(self) -> Collection[UUID]:
        """None: a drain looks at what is still there."""
        return ()

    async def drain(self, queue: str | None) -> list[Job]:
        """Run what is ready, and what comes of that."""
        self._opening.allow()
        with EDGE:
            ran = await self._burst.drain(queue)
            await self._sender.look()
        return [await self._sender.find(id) for id in ran]
