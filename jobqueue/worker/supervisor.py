"""Starts and stops everything of one worker, in order, in a task of its own.

No worker code runs in the caller's task: a native cancel or `asyncio.timeout` there would cut through anyio's shields
and groups. The caller waits and turns whatever cancels it into `stop`. Three nested groups: claimer, stager, rescuer
and upkeep end when the drain begins; heartbeat and listener when the jobs have ended; the finisher, who writes their
outcomes, last, even if the heart fails.
"""

import asyncio
import contextlib
import contextvars
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import anyio
from anyio.abc import TaskGroup, TaskStatus
from uuid_utils.compat import uuid7

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.outcome import Outcome
from jobqueue.base.service import outlast
from jobqueue.base.settings import Settings
from jobqueue.store import workers
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.listener import Listener
from jobqueue.store.connection.pool import CLOSE_LIMIT, Database, Session
from jobqueue.store.workers import Registration
from jobqueue.tasks.run.middleware import Middleware
from jobqueue.worker.claiming.claimer import Claimer
from jobqueue.worker.claiming.queues import Queues
from jobqueue.worker.claiming.staging import Stager
from jobqueue.worker.claiming.wakeup import router
from jobqueue.worker.ending.completing import Completions
from jobqueue.worker.ending.finishing import Finisher
from jobqueue.worker.ending.progress import Reporter
from jobqueue.worker.keeping.heartbeat import Heart
from jobqueue.worker.keeping.holds import Held, Hold
from jobqueue.worker.keeping.machine import born, this_machine
from jobqueue.worker.keeping.rescue import Rescuer
from jobqueue.worker.keeping.tally import Tally
from jobqueue.worker.keeping.watchdog import Watchdog
from jobqueue.worker.slots.slots import Slots, Tasks
from jobqueue.worker.slots.stuck import StuckFinder
from jobqueue.worker.snapshot import Snapshot
from jobqueue.worker.upkeep import Upkeep

T = TypeVar("T")

FINAL_WRITES = 5.0
"""Seconds for cancelled handlers to end and for the last outcomes to be written, beyond the drain's limit."""


class Supervisor:
    """One worker from start to stop."""

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        settings: Settings,
        *,
        app_name: str,
        version: str,
        queues: Iterable[str] | None = None,
        burst: bool = False,
        resources: Mapping[type, Any] | None = None,
        middleware: Middleware | None = None,
    ) -> None:
        self.id = WorkerId(uuid7())
        self.queues = Queues(queues)
        self.tasks = tasks
        self.settings = settings
        self.clean = True
        """False once a handler outlived its stop, or an outcome could not be written."""
        self.cut_off = 0
        """Jobs that were still running when their time was over."""
        self.database = database
        self._identity = Registration(
            app_name, version, self.queues.described, settings.concurrency, settings.lease - settings.beat,
            this_machine(), born(os.getpid()),
        )  # fmt: skip
        self._burst = burst
        self._stopping = asyncio.Event()
        self._stop_by = float("inf")
        self._no_more_work = asyncio.Event()
        self._failure: BaseException | None = None
        self.tally = Tally(tasks.find)
        holds = Held(self.tally)
        self._reporter = Reporter(database, holds)
        self._finisher = Finisher(database, self.id, holds, self._reporter)
        self._slots = Slots(
            tasks, settings, holds, self._submit, resources or {}, self._fail, middleware or Middleware(()), self.id
        )
        self._claimer = Claimer(database, self.id, settings, self.queues, self._slots, holds, self._finisher)
        self._stager = Stager(database, self.id, settings, self._claimer.look_everywhere)
        self._watchdog = Watchdog(holds)
        self.heart = Heart(
            database, self.id, settings, holds, self._watchdog, self._slots.lose, self._slots.cancel, self._identity
        )
        self._stuck = StuckFinder(self._slots)
        self._slots.when_reported = self._reporter.say
        self._completions = Completions(database, holds, self._reporter)
        self._slots.transact = self._completions.transaction
        self._rescuer = Rescuer(database, self.id, settings, holds, lambda: self._claimer.answered)
        self._log = get_logger(__name__).bind(worker=str(self.id))

    def snapshot(self) -> Snapshot:
        """The worker now."""
        now = time.monotonic()
        return Snapshot(
            id=self.id,
            running=len(self._slots.running),
            free=self._slots.unused,
            ahead=self._slots.ahead,
            unwritten=self._finisher.backlog,
            draining=self._stopping.is_set(),
            listening=self._claimer.listening.is_set(),
            refused=self._finisher.refused,
            rescued=self._rescuer.rescued,
            stuck=self._stuck.count,
            lag=self._watchdog.lag,
            blocked=self._watchdog.blocked_for(),
            heart_silent=now - self.heart.turned_at,
            unanswered=now - self.heart.answered_at,
        )

    def stop(self, limit: float) -> None:
        """Stop claiming, give running jobs `limit` seconds, then cancel them. Again with less: sooner."""
        self._stop_by = min(self._stop_by, asyncio.get_running_loop().time() + limit)
        self._stopping.set()
        self._slots.close()  # what a claim under way still brings is given back
        self._slots.freed.set()  # a drain that waits looks at its new limit

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop`, or in a burst until nothing is left. Must be a task of its own; never cancel it: stop it.

        Raises what ended the worker if it was not asked to end.
        """
        try:
            async with anyio.create_task_group() as writing, anyio.create_task_group() as vital:
                writing.start_soon(self._part, self._finisher.run)
                await self._start_listener(vital)
                await self._register()
                vital.start_soon(self._part, self._watchdog.run)
                vital.start_soon(self._part, self.heart.run)
                vital.start_soon(self._part, self._reporter.run)
                vital.start_soon(self._part, self._stuck.run)
                vital.start_soon(self._take_work)
                self._log.info("worker.started", queues=self.queues.described, concurrency=self.settings.concurrency,
                               listening=self._claimer.listening.is_set())  # fmt: skip
                task_status.started()
                try:
                    await self._stopping.wait()
                finally:
                    with anyio.CancelScope(shield=True):  # all waits in it are bounded
                        await self._drain()
                    if not self.clean:
                        self.database.cut_off()  # the limits are used up, perhaps because nobody answers
                    vital.cancel_scope.cancel()
                    writing.cancel_scope.cancel()
        finally:
            await self._completions.close()
            if self.clean:
                await self._unregister()
            self._log.info("worker.stopped", clean=self.clean)
        if self._failure is not None:
            raise self._failure

    async def _take_work(self) -> None:
        """All that ends when the drain begins; a claim under way gets a moment."""
        upkeep = Upkeep(self.database, self.settings)
        try:
            async with anyio.create_task_group() as inner:
                for run in (upkeep.run, self._rescuer.run, self._stager.run, self._claim):
                    inner.start_soon(self._part, run)
                await self._stopping.wait()
                self._claimer.hurry()
                inner.cancel_scope.cancel()
        finally:
            self._no_more_work.set()

    async def _part(self, run: Callable[[], Awaitable[None]]) -> None:
        """A part of the worker. If it breaks, nobody would renew, finish or take what it should: the worker ends."""
        try:
            await run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._log.critical("worker.failed", error=type(error).__name__)
            self.stop(0)
            raise

    async def _claim(self) -> None:
        if not self._burst:
            await self._claimer.run()
        else:
            await self._claimer.run_until_empty()
            self.stop(0)

    async def _drain(self) -> None:
        """Wait, cancel, write what has ended, within the limits.

        What still runs then is not given back: its claim holds until the lease ends.
        """
        slots, loop = self._slots, asyncio.get_running_loop()
        if not self._stopping.is_set():
            self.stop(0)
        if slots.running:
            limit = round(max(0.0, self._stop_by - loop.time()), 1)
            self._log.info("worker.draining", running=len(slots.running), limit=limit)
        await slots.wait_idle(lambda: self._stop_by)
        self.cut_off = len(slots.running)
        slots.stop_running()
        hard = loop.time() + FINAL_WRITES
        if not await slots.wait_idle(lambda: hard - FINAL_WRITES / 2):
            self.clean = False
            for hold in list(slots.running):
                self._log.error("job.outlived_stop", job_id=str(hold.id), task=hold.claim["task"])
            slots.abandon_threads()
        with anyio.move_on_after(hard - loop.time()) as scope:
            if not self.clean:
                with contextlib.suppress(*DATABASE_ERRORS):
                    await workers.leave(self.database, self.id)
            await self._no_more_work.wait()
            await self._finisher.settled()
        self.clean = self.clean and not scope.cancelled_caught

    async def _start_listener(self, vital: TaskGroup) -> None:
        if self.settings.pooler == "transaction":
            return
        hear = router(
            self._claimer.wakeup, self._stager.wakeup, self.queues.serves, self._claimer.gap, self._slots.cancel
        )
        flags = (self._claimer.listening, self._stager.listening)
        await vital.start(Listener(self.database, "wake", hear, flags).run)

    async def _register(self) -> None:
        session = Session(self.database)
        try:
            await workers.register(session, self.id, self._identity)
        except DATABASE_ERRORS:
            return  # the database may be away at our start; the first beat makes up for it
        finally:
            await session.close()

    async def _unregister(self) -> None:
        with anyio.move_on_after(CLOSE_LIMIT, shield=True):
            try:
                await workers.unregister(self.database, self.id)
            except DATABASE_ERRORS:
                return

    def _submit(self, hold: Hold, outcome: Outcome) -> None:
        self._finisher.submit(hold, outcome)

    def _fail(self, error: BaseException) -> None:
        self._log.critical("worker.slot_lost", error=type(error).__name__)
        self._failure = error
        self.stop(0)


class Work:
    """A running supervisor, seen from the caller's side."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._task: asyncio.Task[None] | None = None

    @property
    def id(self) -> UUID:
        """The worker's identity, new at every start."""
        return self._supervisor.id

    @property
    def clean(self) -> bool:
        """True unless a handler outlived the stop or an outcome could not be written."""
        return self._supervisor.clean

    @property
    def cut_off(self) -> int:
        """How many jobs were cancelled because the time of the stop was over."""
        return self._supervisor.cut_off

    @property
    def has_ended(self) -> bool:
        """True once nothing of it runs any more."""
        return self._task is not None and self._task.done()

    @property
    def supervisor(self) -> Supervisor:
        """The worker itself, for other rooms of this package."""
        return self._supervisor

    def snapshot(self) -> Snapshot:
        """The worker now."""
        return self._supervisor.snapshot()

    def ask(self, question: Callable[[Database], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Ask the worker's database, on the worker's event loop, from any thread. Raises RuntimeError after its end."""
        asking = question(self._supervisor.database)
        try:
            if self._task is None:
                raise RuntimeError("the worker has not started")
            return asyncio.run_coroutine_threadsafe(asking, self._task.get_loop())
        except RuntimeError:
            asking.close()
            raise

    def when_hung(self, then: Callable[[], None]) -> None:
        """Call this, in another thread, once a job has blocked the event loop for so long that the claims are lost."""
        self._supervisor.heart.when_hung = then

    def stop(self, limit: float) -> None:
        """Begin an orderly stop that gives running jobs `limit` seconds; returns at once."""
        self._supervisor.stop(limit)

    async def drain(self, timeout: float | None = None) -> None:
        """Stop claiming, let running jobs end within `timeout` seconds (default: the setting), cancel the rest, return.

        Raises TimeoutError, after everything is cleaned up, if jobs had to be cut off. On a worker that has ended
        already it does nothing.
        """
        if self._task is not None and self._task.done():
            return
        limit = self._supervisor.settings.drain_timeout if timeout is None else timeout
        self.stop(limit)
        await self.ended()
        if not self.clean:
            raise TimeoutError(f"jobs were still running after a drain of {limit:g} s and the final {FINAL_WRITES:g} s")
        if self.cut_off:
            raise TimeoutError(
                f"{self.cut_off} job(s) still ran after a drain of {limit:g} s; they were cut off and given back"
            )

    async def start(self) -> None:
        """Return once the worker listens and claims. Raises what kept it from starting, and on a second call."""
        if self._task is not None:
            raise ConfigurationError("worker: this one was started already; make another with app.worker()")
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(
            self._supervisor.run(task_status=_Started(started)), context=contextvars.Context()
        )
        try:
            await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop_now()
            raise
        if self._task.done():
            self._task.result()

    async def ended(self) -> None:
        """Wait for the worker's end. Cancelled: stops at once (running jobs are refunded), then raises on."""
        assert self._task is not None  # noqa: S101 - start() comes first by construction
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            await self.stop_now()
            raise
        self._task.result()

    async def stop_now(self) -> None:
        """Cancel running jobs, write what can be written, and return within the hard limit whatever cancels us."""
        self._supervisor.stop(0)
        if self._task is not None:
            await outlast(self._task, FINAL_WRITES + 2 * CLOSE_LIMIT)


class _Started(TaskStatus[None]):
    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def started(self, value: None = None) -> None:
        if not self._future.done():
            self._future.set_result(None)


def tuned(settings: Settings, concurrency: int | None, drain_timeout: float | None) -> Settings:
    """The settings with what a call has overridden, validated again."""
    if concurrency is not None:
        settings = replace(settings, concurrency=concurrency)
    if drain_timeout is not None:
        settings = replace(settings, drain_timeout=drain_timeout)
    return settings
