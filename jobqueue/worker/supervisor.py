"""Starts and stops everything of one worker, in order, in a task of its own (`work.py` is its caller's side).

Three nested groups: claimer, stager, rescuer and upkeep end when the drain begins; heartbeat and listener when the jobs
have ended; the finisher, who writes their outcomes, last, even if the heart fails.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.service import Patience, Planner, Service
from jobqueue.base.settings import Settings
from jobqueue.store import workers
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.listener import Listener
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.dialing.dial import CLOSE_LIMIT
from jobqueue.tasks.membership import MemberOf
from jobqueue.tasks.run.middleware import Middleware
from jobqueue.worker.claiming.queues import Queues
from jobqueue.worker.claiming.wakeup import router
from jobqueue.worker.keeping.heartbeat import Heart
from jobqueue.worker.keeping.tally import Tally
from jobqueue.worker.parts import Parts
from jobqueue.worker.slots.runs import Tasks
from jobqueue.worker.snapshot import Snapshot

_LOOKS = (0.005, 0.1)
"""Seconds between two looks whether the first beat was answered: at first, at most."""


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
        services: Sequence[Callable[[Database], Service]] = (),
        bundle: MemberOf = lambda bundle, by: None,
    ) -> None:
        """`services` are made and run beside the worker's own parts; they end when the drain begins."""
        self.queues = Queues(queues)
        self.tasks = tasks
        self.settings = settings
        self.database = database
        self._burst = burst
        self._services = [make(database) for make in services]
        self._planners = [service for service in self._services if isinstance(service, Planner)]
        self._no_more_work = asyncio.Event()
        self._failure: BaseException | None = None
        self.parts = Parts(
            database, tasks, settings, self.queues, resources or {}, middleware or Middleware(()),
            (app_name, version), self._fail, bundle,
        )  # fmt: skip
        self.drain = self.parts.drain
        self._log = get_logger(__name__).bind(worker=str(self.id))

    @property
    def id(self) -> WorkerId:
        """The worker's identity, new at every start."""
        return self.parts.id

    @property
    def heart(self) -> Heart:
        """What renews the claims."""
        return self.parts.heart

    @property
    def tally(self) -> Tally:
        """The counts."""
        return self.parts.tally

    def snapshot(self) -> Snapshot:
        """The worker now."""
        now, parts = time.monotonic(), self.parts
        return Snapshot(
            id=self.id,
            running=len(parts.slots.running),
            free=parts.slots.unused,
            ahead=parts.slots.ahead,
            unwritten=parts.finisher.backlog,
            draining=self.drain.begun.is_set(),
            listening=parts.claimer.listening.is_set(),
            refused=parts.finisher.refused,
            rescued=parts.rescuer.rescued,
            recorded=parts.recorder.recorded,
            fired=sum(planner.fired for planner in self._planners),
            missed=sum(planner.missed for planner in self._planners),
            admitted=dict(parts.admitter.admitted),
            stuck=parts.stuck.count,
            awaiting=parts.starving.count,
            lag=parts.watchdog.lag,
            blocked=parts.watchdog.blocked_for(),
            heart_silent=now - parts.heart.turned_at,
            unanswered=now - parts.heart.answered_at,
        )

    def stop(self, limit: float) -> None:
        """Stop claiming, give running jobs `limit` seconds, then cancel them. Again with less: sooner."""
        self.drain.begin(limit)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop`, or in a burst until nothing is left. Must be a task of its own; never cancel it: stop it.

        Raises what ended the worker if it was not asked to end.
        """
        try:
            async with anyio.create_task_group() as writing, anyio.create_task_group() as vital:
                await writing.start(self._service, self.parts.finisher)
                await self._start_listener(vital)
                await self._register()
                self._start_parts(vital)
                task_status.started()
                try:
                    await self.drain.begun.wait()
                finally:
                    with anyio.CancelScope(shield=True):  # all waits in it are bounded
                        await self.drain.run(self._no_more_work)
                    if not self.drain.clean:
                        self.database.cut_off()  # the limits are used up, perhaps because nobody answers
                    vital.cancel_scope.cancel()
                    writing.cancel_scope.cancel()
        finally:
            await self.parts.completions.close()
            if self.drain.clean:
                await self._unregister()
            self._log.info("worker.stopped", clean=self.drain.clean)
        if self._failure is not None:
            raise self._failure

    def _start_parts(self, vital: TaskGroup) -> None:
        parts = self.parts
        for part in (
            parts.watchdog, parts.heart, parts.reporter, parts.recorder, parts.teller, parts.folder, parts.stuck,
            parts.counting,
        ):  # fmt: skip
            vital.start_soon(self._part, part.run)
        vital.start_soon(self._take_work)
        self._log.info("worker.started", queues=self.queues.described, concurrency=self.settings.concurrency,
                       listening=parts.claimer.listening.is_set())  # fmt: skip

    async def _take_work(self) -> None:
        """All that ends when the drain begins; a claim under way gets a moment."""
        parts = self.parts
        try:
            async with anyio.create_task_group() as inner:
                await self._until_heard()
                await parts.claimer.connect()
                inner.start_soon(self._part, self._claim)
                for part in (
                    parts.bulks, parts.rescuer, parts.stager, parts.lone, parts.starving, parts.unserved, parts.looking,
                ):  # fmt: skip
                    inner.start_soon(self._part, part.run)
                inner.start_soon(self._start_in_turn, inner)
                await self.drain.begun.wait()
                parts.claimer.hurry()
                inner.cancel_scope.cancel()
        finally:
            self._no_more_work.set()

    async def _until_heard(self) -> None:
        """Where there are few connections, first come those that renew, claim and finish: others would keep theirs."""
        patience = Patience(*_LOOKS)
        while not (self.parts.heart.is_heard or self.drain.begun.is_set()):  # noqa: ASYNC110 - it tells the claimer alone
            await anyio.sleep(patience.next())

    async def _start_in_turn(self, inner: TaskGroup) -> None:
        """Those that look now and then. One connection is enough for the first looks of all, if they come in turn.

        Those last that may have much to make up for: planned times that are over.
        """
        others = [service for service in self._services if service not in self._planners]
        for service in (self.parts.admitter, self.parts.upkeep, *others, *self._planners):
            await inner.start(self._service, service)

    async def _service(self, service: Service, *, task_status: TaskStatus[None]) -> None:
        await self._part(partial(service.run, task_status=task_status))

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
            await self.parts.claimer.run()
        else:
            await self.parts.claimer.run_until_empty()
            self.stop(0)

    async def _start_listener(self, vital: TaskGroup) -> None:
        if not self.settings.listens:
            return
        claimer, stager, admitter = self.parts.claimer, self.parts.stager, self.parts.admitter
        hear = router(claimer.wakeup, stager.wakeup, admitter.wakeup, self.queues.serves, claimer.gap,
                     self.parts.slots.cancel, self.parts.teller.somebody_reads, self.parts.folder.look,
                     self._wake_planners, self.parts.bulks.wakeup.ring)  # fmt: skip
        await vital.start(Listener(self.database, "wake", hear, (claimer.listening, stager.listening)).run)

    def _wake_planners(self) -> None:
        for planner in self._planners:
            planner.wakeup.ring()

    async def _register(self) -> None:
        session = Session(self.database)
        try:
            await workers.register(session, self.id, self.parts.registration)
            await self._look_at_neighbours(session)
            await self.parts.bulks.look_first(session)
        except DATABASE_ERRORS:
            return  # the database may be away at our start; the first beat makes up for it
        finally:
            await session.close()

    async def _look_at_neighbours(self, session: Session) -> None:
        """Jobs of two apps in one queue reach the wrong one first: each is better off with a schema of its own."""
        ours, queues, apps = self.parts.registration.app, set[str](), set[str]()
        for row in await workers.list_workers(session):
            if row.alive and row.app != ours and (shared := self.queues.shared_with(Queues(row.queues))):
                queues.update(shared)
                apps.add(row.app)
        if apps:
            self._log.warning("worker.shares_queues", queues=sorted(queues), apps=sorted(apps))

    async def _unregister(self) -> None:
        with anyio.move_on_after(CLOSE_LIMIT, shield=True):
            try:
                await workers.unregister(self.database, self.id)
            except DATABASE_ERRORS:
                return

    def _fail(self, error: BaseException) -> None:
        self._log.critical("worker.slot_lost", error=type(error).__name__)
        self._failure = error
        self.stop(0)
