"""The producing side on one event loop: the pool, and the two things that share statements on it."""

import asyncio
import contextvars
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol
from uuid import UUID

import anyio

from jobqueue.base.errors import AppClosed, DeferUnknown, KeyLocked
from jobqueue.base.job import Job, NewJob, Sent
from jobqueue.base.new_jobs import NewJobs
from jobqueue.store.bulk import insert_as_made
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.intake import insert_all
from jobqueue.tasks.sending.coalescer import Coalescer
from jobqueue.tasks.sending.surely import CANCEL_LIMIT, answer_of, insert_and_tell, refused
from jobqueue.tasks.sending.waiting import Waiters

_LONG_ENOUGH = 1.5
"""Seconds: who has waited so long in line for a key that then turns out to be locked does not wait on."""


class Companion(Protocol):
    """What lives on a producer's database, and ends before it."""

    async def close(self) -> None:
        """End it. Bounded."""
        ...


class Producer:
    """Stores jobs and waits for them. Owns no task and no listening connection while nobody waits.

    What the database or the network does to it is a DatabaseError.
    """

    def __init__(self, database: Database, *, listens: bool) -> None:
        self.database = database
        self.listens = listens
        self.companions: list[Companion] = []
        self._coalescer = Coalescer(database)
        self._waiters = Waiters(database, listens=listens)
        self._writes: set[_Write] = set()
        # Some may wait for a key that somebody has locked: the other half of the connections is for all else.
        self._room_of_waiting = asyncio.Semaphore(max(1, database.size // 2))
        self._room = asyncio.Semaphore(max(1, (database.size - 1) // 2))
        self._last: dict[str, _Write] = {}
        self._checking = asyncio.Lock()
        self._closed = False

    async def check(self) -> None:
        """Raise NotMigrated or SchemaTooNew unless the schema fits. However many ask at once, one looks."""
        if not self.database.checked:
            async with self._checking:
                if not self.database.checked:
                    with EDGE:
                        await self.database.check()

    async def send(self, job: NewJob[Any]) -> Sent:
        """Store one job. With a key or an id of the caller's it is never coalesced with others."""
        if job.key is not None or job.resent:
            return (await self._send_in_line(job))[0]
        self._refuse_if_closed()
        with EDGE:
            return await self._coalescer.send(job)

    async def send_many(self, jobs: NewJobs) -> list[Sent]:
        """Store all jobs or none. A cancelled call has either committed or never will.

        Raises DuplicateJob, and DeferUnknown with the first one's id if the network was cut: all are in, or none.
        """
        self._refuse_if_closed()
        if not jobs.made and not jobs.more():
            return []
        waits = any(job.key is not None or job.resent for job in jobs.made)
        return await self._answer_of(
            _Write(Session(self.database), jobs, self._room_of_waiting if waits else self._room)
        )

    async def _send_in_line(self, job: NewJob[Any]) -> list[Sent]:
        """Behind those of the same key: where that is locked, one of them waits on a connection, for all."""
        self._refuse_if_closed()
        name = job.key or str(job.id)
        jobs = NewJobs([job])
        jobs.more()
        write = _Write(Session(self.database), jobs, self._room_of_waiting, self._last.get(name))
        self._last[name] = write
        try:
            return await self._answer_of(write)
        finally:
            if self._last.get(name) is write:
                del self._last[name]

    async def _answer_of(self, write: "_Write") -> list[Sent]:
        self._writes.add(write)
        try:
            with EDGE:
                return await write.answer()
        finally:
            self._writes.discard(write)

    async def wait_final(self, id: UUID) -> Job:
        """The job once it has ended."""
        with EDGE:
            return await self._waiters.final(id)

    async def close(self) -> None:
        """Wait for what is being written, then close everything, each part even if another fails. Bounded."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with AsyncExitStack() as last_first:
                last_first.push_async_callback(self.database.close)
                last_first.push_async_callback(self._coalescer.close)
                last_first.push_async_callback(self._end_writes)
                last_first.push_async_callback(self._waiters.close)
                for companion in self.companions:
                    last_first.push_async_callback(companion.close)

    async def abandon(self) -> None:
        """End it from another event loop than its own, which is closed."""
        self._closed = True
        await self.database.abandon()

    async def _end_writes(self) -> None:
        await asyncio.gather(*(write.end(2 * CANCEL_LIMIT) for write in self._writes))

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise AppClosed


class _Write:
    """Jobs on their way, in a task of their own: no cancellation cuts through the middle."""

    def __init__(
        self, session: Session, jobs: NewJobs, room: asyncio.Semaphore, before: "_Write | None" = None
    ) -> None:
        self._session = session
        self._room = room
        self._jobs = jobs
        self._before = before
        self._sending = False
        self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        self._task.add_done_callback(_read_once)

    async def answer(self) -> list[Sent]:
        try:
            return await answer_of(self._task, self._jobs.made[0].id, lambda: self._sending, self._task.cancel)
        finally:
            await self.end(0)

    async def end(self, patience: float) -> None:
        """Wait, then cut it off: a connection that ends before the commit was sent has written nothing."""
        if self._task.done():
            return
        with anyio.CancelScope(shield=True):
            if patience:
                await asyncio.wait({self._task}, timeout=patience)
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CANCEL_LIMIT)

    async def _run(self) -> list[Sent]:
        try:
            await self._turn()
            async with self._room:
                return await self._send()
        except asyncio.CancelledError:
            raise (DeferUnknown(self._jobs.made[0].id) if self._sending else AppClosed()) from None

    async def _turn(self) -> None:
        """Wait for the one before in line; what it was told of the key after a while is told to this one as well."""
        if self._before is None:
            return
        came, before = time.monotonic(), self._before._task
        self._before = None  # or each would keep all that were before it
        await asyncio.wait({before})
        if before.cancelled() or time.monotonic() - came < _LONG_ENOUGH:
            return
        if isinstance(error := before.exception(), KeyLocked):
            raise KeyLocked(error.task, error.by)

    async def _send(self) -> list[Sent]:
        try:
            await self._session.ready()
            self._sending = True
            return await insert_and_tell(self._session, self._jobs, insert_as_made)
        finally:
            await self._session.close()


def _read_once(write: "asyncio.Task[list[Sent]]") -> None:
    """asyncio would log the error of a write whose caller has gone."""
    if not write.cancelled():
        write.exception()


async def insert_on(executor: Executor, jobs: Sequence[NewJob[Any]]) -> list[Sent]:
    """Store all jobs or none in a caller's transaction. Needs nothing of an app."""
    try:
        return await insert_all(executor, jobs, always=True) if jobs else []
    except DATABASE_ERRORS as error:
        if classify(error) is not Fault.BAD_DATA:
            raise
        fault = refused(jobs, error)
    raise fault  # out here, so that the row which the driver's error quotes is not its context
