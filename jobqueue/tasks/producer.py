"""The producing side on one event loop: the pool, and the two things that share statements on it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from jobqueue.base.errors import DeferUnknown
from jobqueue.base.job import Job, NewJob, Sent
from jobqueue.store.caller import OnPsycopg, executor_on
from jobqueue.store.faults import DATABASE_ERRORS, Fault, classify, refused_row
from jobqueue.store.intake import Executor, insert_all
from jobqueue.store.pool import Database, Session
from jobqueue.tasks.coalescer import Coalescer
from jobqueue.tasks.waiting import Waiters


class Producer:
    """Stores jobs and waits for them. Owns no task and no listening connection while nobody waits."""

    def __init__(self, database: Database, *, listens: bool) -> None:
        self.database = database
        self._coalescer = Coalescer(database)
        self._waiters = Waiters(database, listens=listens)

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        """Store one job. With a key, an id or a connection of the caller's it is never coalesced with others."""
        if connection is None and job.key is None and not job.resent:
            return await self._coalescer.send(job)
        return (await self.send_many([job], connection))[0]

    async def send_many(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        """Store all jobs or none."""
        if not jobs:
            return []
        if connection is not None:
            return await _insert(executor_on(connection, self.database.schema), jobs, always=True)
        session = Session(self.database)
        try:
            return await _insert(session, jobs, always=False)
        except DATABASE_ERRORS as error:
            if classify(error) is Fault.UNKNOWN and len(jobs) == 1:
                raise DeferUnknown(jobs[0].id) from error
            raise
        finally:
            await session.close()

    async def wait_final(self, id: UUID) -> Job:
        """The job once it has ended."""
        return await self._waiters.final(id)

    async def close(self) -> None:
        """Wait for what is being written, then close everything. Bounded."""
        await self._waiters.close()
        await self._coalescer.close()
        await self.database.close()


async def _insert(executor: Executor, jobs: Sequence[NewJob[Any]], *, always: bool) -> list[Sent]:
    try:
        return await insert_all(executor, jobs, always=always)
    except DATABASE_ERRORS as error:
        if classify(error) is Fault.BAD_DATA:
            raise refused_row(jobs[0].task if len(jobs) == 1 else f"{len(jobs)} jobs: one", error) from None
        raise


def send_sync(job: NewJob[Any], connection: object, schema: str) -> Sent:
    """Store one job on a synchronous psycopg connection: the same code, which there never has anything to await."""
    inserting = _insert(OnPsycopg(connection, schema), [job], always=True)
    try:
        inserting.send(None)
    except StopIteration as done:
        sent: list[Sent] = done.value
        return sent[0]
    inserting.close()
    raise AssertionError("a synchronous insert had to wait")
