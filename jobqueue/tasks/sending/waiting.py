"""Waits for jobs to end: one listening connection and one batched poll a loop, owned by those who wait.

A waiter marks its job row as awaited; the row's lock orders that against the finish, so either the finish notifies or
the waiter finds the job in the archive. The poll beneath makes a lost notification cost a second at most.

A mark is a write that stands in the way of the claim, and a connection to listen on takes 10 to 40 ms to open: longer
than most jobs take. So a wait only looks at first, a few times at growing intervals, and does all this if it goes on.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar
from uuid import UUID

import anyio

from jobqueue.base.errors import AppClosed, JobNotFound
from jobqueue.base.job import Job
from jobqueue.base.service import Patience
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.listener import Listener
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking.lookup import await_jobs, find_job, gone_jobs, is_gone
from jobqueue.tasks.context import CURRENT

T = TypeVar("T")

_LOOKS = (0.003, 0.006, 0.012, 0.024)
_LOCKED = tuple(0.001 * 2**step for step in range(8))
"""Pauses, in seconds, before a job is marked once more whose row others have locked."""
_LOOKERS = 20
"""Beyond so many waiters their single looks would cost more than the shared poll."""
_POLL_FIRST, _POLL_CAP = 0.05, 1.0


@contextlib.contextmanager
def awaiting(id: UUID) -> Iterator[None]:
    """A job that waits for another one or for a bundle holds its slot meanwhile, which its worker wants to know."""
    run = CURRENT.get(None)
    if run is None:
        yield
        return
    run.awaits += (id,)
    try:
        yield
    finally:
        at = run.awaits.index(id)
        run.awaits = run.awaits[:at] + run.awaits[at + 1 :]


class Waiters:
    """Those on one event loop who wait for jobs to end."""

    def __init__(self, database: Database, *, listens: bool) -> None:
        self._database = database
        self._listens = listens
        self._waiting: dict[UUID, list[asyncio.Event]] = {}
        self._watch: asyncio.Task[None] | None = None
        self._fresh = asyncio.Event()
        self._listening = asyncio.Event()
        self._closed = False

    async def final(self, id: UUID) -> Job:
        """The job once it has ended. Raises JobNotFound, AppClosed. Cancelling the wait leaves the job alone."""
        ended = asyncio.Event()
        self._waiting.setdefault(id, []).append(ended)
        try:
            with awaiting(id):
                job = await self._glance(id)
                while job is None:
                    ended.clear()  # before the look: whatever is heard from now on is news
                    job = await self._look(id)
                    if job is None:
                        self._start_watch()
                        await ended.wait()
                return job
        finally:
            await self._leave(id, ended)

    async def _glance(self, id: UUID) -> Job | None:
        """The job if it ends in a moment, else None."""
        for pause in (*_LOOKS, 0.0):
            if await self._patiently(lambda: is_gone(self._database, id)):
                job = await self._find(id)
                if job.state.final:
                    return job
            if len(self._waiting) > _LOOKERS:
                break
            await anyio.sleep(pause)
        return None

    async def _look(self, id: UUID) -> Job | None:
        """The job if it has ended; None if its finish will notify, or if only the poll can tell of its end."""
        for pause in (*_LOCKED, None):
            marked = await self._patiently(lambda: await_jobs(self._database, [id]))
            if marked.get(id):
                return None
            job = await self._find(id)
            if job.state.final:
                return job
            if pause is not None:  # somebody has the row: a finish, which has not seen us, ends in a moment
                await anyio.sleep(pause)
        return None

    async def _find(self, id: UUID) -> Job:
        job = await self._patiently(lambda: find_job(self._database, id))
        if job is None:
            raise JobNotFound(id)
        return job

    def _start_watch(self) -> None:
        """Listen and poll from now on."""
        if self._watch is None or self._watch.done():
            self._watch = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        elif not self._listening.is_set():
            self._fresh.set()

    async def close(self) -> None:
        """End the watch; whoever still waits gets AppClosed."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch}, timeout=5)
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def _leave(self, id: UUID, ended: asyncio.Event) -> None:
        self._waiting[id].remove(ended)
        if not self._waiting[id]:
            del self._waiting[id]
        if not self._waiting and self._watch is not None:
            watch, self._watch = self._watch, None
            watch.cancel()
            with anyio.move_on_after(5, shield=True):
                await asyncio.wait({watch})

    async def _run(self) -> None:
        self._listening.clear()
        async with anyio.create_task_group() as group:
            if self._listens:
                group.start_soon(Listener(self._database, "done", self._hear, [self._listening]).run)
            await self._poll()

    async def _poll(self) -> None:
        """Look for all who wait at growing intervals, anew for each newcomer whom nobody would notify."""
        pause = _POLL_FIRST
        while True:
            self._fresh.clear()
            with anyio.move_on_after(pause):
                await self._fresh.wait()
            pause = _POLL_FIRST if self._fresh.is_set() else min(_POLL_CAP, pause * 2)
            ids = list(self._waiting)
            try:
                self._tell(await gone_jobs(self._database, ids))
            except DATABASE_ERRORS:
                pause = _POLL_CAP

    def _hear(self, payload: str | None) -> None:
        if payload is None:
            self._fresh.set()
        else:
            self._tell({UUID(payload)})

    def _tell(self, ids: set[UUID]) -> None:
        for id in ids:
            for event in self._waiting.get(id, ()):
                event.set()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again while the database is away: the job is safe there, and whoever has no patience sets a timeout."""
        patience = Patience()
        while True:
            if self._closed:
                raise AppClosed
            try:
                return await ask()
            except DATABASE_ERRORS as error:
                if classify(error) in (Fault.SETUP, Fault.SCHEMA, Fault.BAD_DATA, Fault.OURS):
                    raise
                await anyio.sleep(patience.next())
