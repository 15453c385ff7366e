"""Where the tasks of an app send their jobs: into its database, or into the transaction of a caller's connection."""

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import anyio

from jobqueue.base.errors import DatabaseError, JobNotFound, ResultTimeout
from jobqueue.base.job import Job, JobState, NewJob, Sent
from jobqueue.base.new_jobs import NewJobs
from jobqueue.base.steering import Change
from jobqueue.store import steering
from jobqueue.store.connection.callers.choosing import sync_executor_on
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.executor import Executor
from jobqueue.store.looking.lookup import find_job
from jobqueue.tasks.phases.signalling import signal
from jobqueue.tasks.run.middleware import DeferMiddleware, nested, store_through
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.producer import insert_on
from jobqueue.tasks.sending.sync_producer import store_sync

_LAST_LOOK = 0.5


class DatabaseSender:
    """A `Sender`, which documents its methods. Sends through the middleware, and opens what it needs."""

    def __init__(self, opening: Opening, around_defer: Sequence[DeferMiddleware]) -> None:
        self.settings = opening.settings
        self.origin = opening.name
        self._opening = opening
        self._around_defer = around_defer

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        """Store one job."""
        self._opening.check_defer(connection)
        # A caller's connection is all that it takes: nothing is opened, which on a small pool might need that very one.
        store = (
            (await self._opening.producer()).send
            if connection is None
            else partial(_send_on, self._opening.executor_on(connection))
        )
        return await nested(self._around_defer, store)(job)

    async def send_many(self, jobs: NewJobs, connection: object | None) -> list[Sent]:
        """Store all jobs or none."""
        self._opening.check_defer(connection)
        store = (
            (await self._opening.producer()).send_many
            if connection is None
            else partial(_send_many_on, self._opening.executor_on(connection))
        )
        if not self._around_defer:
            return await store(jobs)
        return await store_through(self._around_defer, jobs.all(), lambda through: store(NewJobs(through)))

    def send_many_sync(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        """Store all jobs or none, without an event loop."""
        self._opening.check_defer(connection)
        store = (
            self._opening.sync_producer().send_many
            if connection is None
            else partial(insert_on, sync_executor_on(connection, self._opening.schema))
        )
        return store_sync(self._around_defer, jobs, store)

    async def find(self, id: UUID) -> Job:
        """The job as it stands now. Raises JobNotFound."""
        with EDGE:
            job = await find_job(await self._opening.database(), id)
        if job is None:
            raise JobNotFound(id)
        return job

    async def wait_final(self, id: UUID, timeout: float | None) -> Job:
        """The job once it has ended. Raises JobNotFound, ResultTimeout."""
        with anyio.move_on_after(timeout):
            return await (await self._opening.producer()).wait_final(id)
        assert timeout is not None  # noqa: S101 - nothing else ends the wait
        return await self._at_last(id, timeout)

    async def _at_last(self, id: UUID, timeout: float) -> Job:
        """The job if it has ended meanwhile: so it is told however short the limit, or slow the first look, was.

        If not, the caller is told why; neither must make them wait much longer.
        """
        with anyio.move_on_after(_LAST_LOOK), contextlib.suppress(DatabaseError):
            job = await self.find(id)
            if job.state.final:
                return job
            raise ResultTimeout(id, job.task, timeout, job.state, _standing(job))
        raise ResultTimeout(id, "?", timeout, None, "the database does not answer")

    async def cancel(self, id: UUID) -> Change:
        """End a job."""
        async with self._opening.session() as session:
            return (await steering.cancel(session, [id], False))[id]

    async def signal(self, id: UUID, name: str, payload: Any) -> Change:
        """Send a signal to a job."""
        async with self._opening.session() as session:
            return await signal(session, id, name, payload, self.settings.max_payload)


async def _send_on(executor: Executor, job: NewJob[Any]) -> Sent:
    return (await insert_on(executor, [job]))[0]


async def _send_many_on(executor: Executor, jobs: NewJobs) -> list[Sent]:
    """Once all are made: the caller's transaction may go on without them."""
    return await insert_on(executor, jobs.all())


def _standing(job: Job) -> str:
    """Why a job has not ended, as far as its row tells."""
    failed = f"; attempt {job.attempt} of {job.max_attempts} failed with {job.error.error_class}" if job.error else ""
    match job.state:
        case JobState.RUNNING:
            return f"it runs, attempt {job.attempt} of {job.max_attempts}"
        case JobState.SCHEDULED:
            return f"it is scheduled for {job.due_at:%Y-%m-%d %H:%M:%S} UTC{failed}"
        case JobState.READY:
            return f"it is ready in queue {job.queue!r}, and no worker has taken it{failed}; does one serve this queue?"
        case JobState.BLOCKED:
            return f"it waits for other jobs{failed}"
    return f"it is {job.state}{failed}"
