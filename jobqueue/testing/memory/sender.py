"""Where tasks and bundles of an app send their jobs inside `app.testing("record")` and `app.testing("inline")`."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from math import ceil
from threading import RLock
from typing import Any
from uuid import UUID

import anyio

from jobqueue.base.errors import JobNotFound, ResultTimeout, TooManySignals
from jobqueue.base.job import Job, JobState, NewJob, Sent
from jobqueue.base.names import check_name
from jobqueue.base.new_jobs import NewJobs
from jobqueue.base.steering import LEGAL, Action, Change
from jobqueue.bundles.storing import Part
from jobqueue.tasks.context import CURRENT
from jobqueue.tasks.phases.result import signal_text
from jobqueue.tasks.run.middleware import DeferMiddleware, nested, store_through
from jobqueue.tasks.run.state import Why
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.sync_producer import store_sync
from jobqueue.testing.memory.bundles import KeptBundles
from jobqueue.testing.memory.clock import Clock
from jobqueue.testing.memory.kept import Kept
from jobqueue.testing.memory.shelf import Shelf

_MOST_SIGNALS = 1_000
Run = Callable[[Iterable[Kept]], Coroutine[Any, Any, None]]


class MemorySender:
    """A `Sender` and `Stores`, which document their methods. A connection is accepted, and left alone."""

    def __init__(
        self, opening: Opening, around_defer: Sequence[DeferMiddleware], shelf: Shelf, bundles: KeptBundles,
        clock: Clock, *, inline: bool,
    ) -> None:  # fmt: skip
        self.settings = opening.settings
        self.origin = opening.name
        self.bundles = bundles
        self.run: Run
        """Runs jobs, and what comes of them, as far as they are due."""
        self.came_with_connection = set[UUID]()
        self._opening = opening
        self._around_defer = around_defer
        self._shelf = shelf
        self._clock = clock
        self._inline = inline
        self._turn = RLock()
        """`defer_sync` comes from any thread."""

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        """Keep one job."""
        self._opening.check_defer(connection)

        async def keep(job: NewJob[Any]) -> Sent:
            return (await self._keep([job]))[0]

        return self._noted(connection, [await nested(self._around_defer, keep)(job)])[0]

    async def send_many(self, jobs: NewJobs, connection: object | None) -> list[Sent]:
        """Keep all or none."""
        self._opening.check_defer(connection)
        if not self._around_defer:
            return self._noted(connection, await self._keep(jobs.all()))
        return self._noted(connection, await store_through(self._around_defer, jobs.all(), self._keep))

    def send_many_sync(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        """Keep all or none; inline they run on an event loop of their own."""
        self._opening.check_defer(connection)
        if not self._inline:
            return self._noted(connection, store_sync(self._around_defer, jobs, self._keep))
        return asyncio.run(self.send_many(NewJobs(jobs), connection))

    async def store(self, part: Part, connection: object | None) -> list[Sent]:
        """Keep a part of a bundle."""
        self._opening.check_defer(connection)
        if not self._around_defer:
            return self._noted(connection, await self._store(part))
        stored = store_through(self._around_defer, part.jobs, lambda jobs: self._store(replace(part, jobs=jobs)))
        return self._noted(connection, await stored)

    async def find(self, id: UUID) -> Job:
        """The job as it stands now."""
        return self._kept(id).job(self._clock.now)

    async def wait_final(self, id: UUID, timeout: float | None) -> Job:
        """The job, if it has ended. One that runs is waited for; for a handler that asks, one that is due is run."""
        kept = self._kept(id)
        if kept.state is JobState.READY and CURRENT.get(None) is not None:
            await self.run([kept])
        while kept.state is JobState.RUNNING:
            future = asyncio.get_running_loop().create_future()
            kept.ended.append(future)
            with anyio.move_on_after(timeout) as limit:
                await future
            if limit.cancelled_caught:
                break
        if not kept.state.final:
            raise ResultTimeout(id, kept.new.task, timeout or 0.0, kept.state, self._why_not(kept))
        return kept.job(self._clock.now)

    async def cancel(self, id: UUID) -> Change:
        """End the job."""
        self._opening.refuse_if_closed()
        return self.end(self._shelf.jobs[id]) if id in self._shelf.jobs else Change.NOT_FOUND

    async def signal(self, id: UUID, name: str, payload: Any) -> Change:
        """Send a signal to the job."""
        self._opening.refuse_if_closed()
        text, kept = signal_text(payload, self.settings.max_payload), self._shelf.jobs.get(id)
        if kept is None or kept.state.final:
            return Change.NOT_FOUND if kept is None else Change.TOO_LATE
        if kept.phases.unread >= _MOST_SIGNALS:
            raise TooManySignals(id)
        kept.phases.send(check_name("name", name), text)
        if kept.heard is not None and kept.state is JobState.SCHEDULED:
            self._shelf.make_ready(kept)
            if self._inline:
                await self.run([kept])
        return Change.DONE

    def end(self, kept: Kept) -> Change:
        """Cancel a job, as it may be where it stands."""
        change = LEGAL[Action.CANCEL][kept.state]
        if change is Change.DONE:
            self._shelf.end(kept, JobState.CANCELLED, "requested", None)
            self.bundles.ended(kept)
        elif change is Change.ASKED:
            kept.cancel_asked = self._clock.now
            if kept.run is not None:
                kept.run.state.ask(Why.CANCEL)
        return change

    def _noted(self, connection: object | None, sent: list[Sent]) -> list[Sent]:
        if connection is not None:
            self.came_with_connection |= {one.id for one in sent if not one.duplicate}
        return sent

    def _put(self, jobs: Sequence[NewJob[Any]]) -> tuple[list[Sent], list[Kept]]:
        with self._turn, self._shelf.all_or_none():
            sent = [self._shelf.put(job) for job in jobs]
        return sent, [self._shelf.jobs[one.id] for one in sent]

    async def _keep(self, jobs: Sequence[NewJob[Any]]) -> list[Sent]:
        sent, kept = self._put(jobs)
        if self._inline:
            await self.run(kept)
        return sent

    async def _store(self, part: Part) -> list[Sent]:
        with self._turn:
            self._shelf.take_fresh()
            sent = self.bundles.store(part)
            ready = self._shelf.take_fresh()
        if self._inline:
            await self.run(ready)
        return sent

    def _kept(self, id: UUID) -> Kept:
        self._opening.refuse_if_closed()
        if id not in self._shelf.jobs:
            raise JobNotFound(id)
        return self._shelf.jobs[id]

    def _why_not(self, kept: Kept) -> str:
        failed = ""
        if kept.errors:
            failed = f"; attempt {kept.attempt} failed with {kept.errors[-1].error_class}: {kept.errors[-1].message}"
        match kept.state:
            case JobState.READY:
                return f"it is ready, and nothing runs it before `await t.drain()`{failed}"
            case JobState.SCHEDULED:
                seconds = ceil((kept.due_at - self._clock.now).total_seconds())  # retries are a bit early or late
                return f"it is due within {seconds} s: t.clock.advance({seconds}), then `await t.drain()`{failed}"
            case JobState.RUNNING:
                return "it runs"
        return f"it waits for other jobs{failed}"
