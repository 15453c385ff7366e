"""The App: composes everything. With `sections.py` it knows every room; nothing below it knows the App."""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.flows.bundle import Bundle
from jobqueue.base.flows.limit import Limit
from jobqueue.base.job import Claimed, NewJob
from jobqueue.base.moments import Seconds
from jobqueue.base.new_jobs import NewJobs, new_jobs
from jobqueue.base.settings import Settings
from jobqueue.bundles.building import BundleBuilder, Empty, new_bundle
from jobqueue.bundles.member import Member
from jobqueue.events.home import EventHome
from jobqueue.events.hub import Hub
from jobqueue.ground import Ground, Site
from jobqueue.sections import OF_THE_GROUND, Sections
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.location import Dsn, Location, Nowhere
from jobqueue.store.connection.pool import Database, Pool
from jobqueue.store.schema.migrate import migrate
from jobqueue.tasks.gates.gates import limit_of_queue
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.router import Router, TaskHome
from jobqueue.tasks.run.hooks import ErrorHook, check_hook
from jobqueue.tasks.run.middleware import DeferMiddleware, Middleware, RunMiddleware
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.sender import Sender
from jobqueue.tasks.sending.sync_producer import refuse_running_loop
from jobqueue.webhooks.sending import delivery_task
from jobqueue.worker.work import Work

if TYPE_CHECKING:
    from jobqueue.testing.ignoring import WhichBundles, WhichJobs
    from jobqueue.testing.kit import Kit, Mode
    from jobqueue.worker.workplace import Workplace

H = TypeVar("H", bound=ErrorHook)
Lifespan: TypeAlias = Callable[["App"], contextlib.AbstractAsyncContextManager[Any]]


class App(TaskHome, EventHome, Sections):
    """A durable job queue on one PostgreSQL database.

    `dsn` is a connection string or a callable that returns one, read when the app opens, not at import; without
    it `JOBQUEUE_DSN`, without that the embedded server. `pool` is an asyncpg pool of yours to use instead; a
    worker on it needs ten connections, most for as long as it runs, and beats on your event loop, so a task that
    blocks that stops the beat. `name` shows in PostgreSQL, in worker rows, and is the default origin of jobs.
    `tasks` are modules that define tasks, imported when a worker or the command line starts. `lifespan(app)` is
    entered around a worker; its value, or each one of a tuple, is what `ctx.get(Type)` finds. `middleware` goes
    around runs and defers. `settings` replaces the defaults, `JOBQUEUE_<KNOB>` both. `require_connection` refuses a
    defer without one.

    The app opens itself on first use, once per event loop, and closes what it opened when that loop ends.
    """

    def __init__(
        self,
        dsn: Dsn | None = None,
        *,
        pool: "Pool | None" = None,
        schema: str = "jobqueue",
        name: str | None = None,
        tasks: Sequence[str] = (),
        settings: Settings | None = None,
        lifespan: Lifespan | None = None,
        middleware: Iterable[RunMiddleware | DeferMiddleware] = (),
        require_connection: bool = False,
    ) -> None:
        super().__init__()
        self.name = name or "jobqueue"
        self.schema = schema
        self._modules = tuple(tasks)
        self._routers: list[Router] = []
        self._middleware = Middleware(middleware)
        knobs = Settings.from_environment(os.environ, settings)
        location = Location(dsn, pool, schema, embedded=knobs.embedded)
        self._opening = Opening(location, self.name, knobs, self._rejoin, require_connection)
        self._hub = Hub(self._opening)
        self._lifespan = None if lifespan is None else lambda: lifespan(self)
        self._stand_on(Ground.of(self._opening, self._middleware.around_defer))
        self.registry.build_in(delivery_task(self._opening.database, lambda: self.settings.webhook_networks))

    @classmethod
    def null(cls, **keywords: Any) -> "App":
        """An app for tests that accepts defers and drops them. Takes the same keywords, needs no database.

        Handles have ids as ever, and say `ignored`; their `status` and `result` raise JobNotFound. What cannot be
        without a database, such as a worker or `jobs.list`, raises ConfigurationError.
        """
        from jobqueue.testing.ignoring import Ignoring

        app = cls(**keywords)
        app._opening.lead_to(Nowhere(app.schema, "App.null() has no database; make an App(...) for what needs one"))
        ignoring = Ignoring(app._opening, app._middleware.around_defer, jobs=True, bundles=True)
        app._stand_on(replace(app._ground, sender=ignoring, storing=ignoring))
        return app

    def testing(
        self, mode: "Mode" = "record", *, jobs: "WhichJobs | None" = None, bundles: "WhichBundles | None" = None,
        resources: object | None = None, connection: object | None = None,
    ) -> "Kit":  # fmt: skip
        """For tests: what is deferred inside the block goes to no database: `async with app.testing() as t:`

        "record" keeps it for `t.assert_deferred(...)` and `await t.drain()`, "inline" runs each job in the call that
        defers it, "ignore" drops all; or only the `jobs` of a task, of some, or those for which a function says so, and
        the `bundles` for which one does. Payloads, options and middleware are as ever; `connection=` is not used.
        `resources` is what the lifespan would yield. With the `connection` of a test, whose transaction it rolls back,
        all goes there, and `t.drain()` runs it there. Blocks may nest; also as `with`. Raises InvalidOption.
        """
        from jobqueue.testing.kit import Kit, stage_for  # here: no worker needs it

        site = Site(
            self._opening, self.registry, self._middleware, self.load_tasks, self._ground, self._stand_on,
            self._bundle_of,
        )  # fmt: skip
        return Kit(site, stage_for(site, mode, jobs, bundles, resources, connection))

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._opening.settings

    @property
    def origin(self) -> str:
        """The default origin of jobs: the app's name."""
        return self.name

    @property
    def sender(self) -> Sender:
        """Where the tasks of this app and its routers send their jobs."""
        return self._ground.sender

    @property
    def is_open(self) -> bool:
        """Opened, and not closed yet."""
        return self._opening.is_open

    def include(self, router: Router) -> None:
        """Take in a router's tasks, also those it declares later. Raises DuplicateTask, and ConfigurationError while
        another open app has the router."""
        router.join(self)
        self._routers.append(router)

    def limit_queue(self, queue: str, limit: Limit) -> None:
        """Limit all jobs of a queue together, whoever sends them: `app.limit_queue("mail", Limit(20))`.

        Said again, the last one counts. A limit without a name is called `queue/mail`. Jobs that were sent without
        knowing of it get into line when a worker is about to start them. Raises InvalidOption, LimitConflict.
        """
        self.registry.limit_queue(queue, limit_of_queue(queue, limit))

    @property
    def task_modules(self) -> tuple[str, ...]:
        """The modules of `tasks=`."""
        return self._modules

    # opening and closing

    async def open(self) -> None:
        """Connect now, instead of at the first use; or again, after `close`.

        Raises DatabaseError, which is an OSError, and ConfigurationError. The schema is checked at the first use, so
        that `async with app: await app.migrate()` works on a new database.
        """
        await self._opening.open()

    async def close(self) -> None:
        """Wait for what is being stored, then close. Bounded, idempotent; until `open` every call raises AppClosed."""
        await self._opening.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @contextlib.contextmanager
    def override(self, *, dsn: Dsn) -> Iterator[Self]:
        """For tests: another database inside the `with` block, where the app is opened anew, also if it was closed.

        What was opened inside is closed by `await app.close()` inside, or when the loop ends.
        """
        with self._opening.override(Location(dsn, None, self.schema)):
            yield self

    async def migrate(self) -> list[str]:
        """Apply the migrations that are missing; returns their names. Safe from ten processes at once."""
        async with self.resolved_dsn() as dsn:
            with EDGE:
                return await migrate(dsn, self.schema)

    async def looks(self) -> Database:
        """For the pages of `jobqueue.web`: a database to look at only. Raises what any call does."""
        return await self._opening.looks()

    def resolved_dsn(self) -> contextlib.AbstractAsyncContextManager[str]:
        """The connection string to use now; the embedded server, if that is it, runs at least as long as the block."""
        return self._opening.resolved_dsn()

    async def defer_many(self, jobs: Iterable[NewJob[Any]], connection: object | None = None) -> list[JobHandle[Any]]:
        """Store jobs of any tasks, made by `task.job(...)`: all or none, in one transaction.

        With `connection` they join the transaction that it is in. Raises InvalidOption for what is no job, and
        InvalidPayload if the database refuses one.
        """
        new, sender = new_jobs(jobs), self.sender
        sent = await sender.send_many(NewJobs(new), connection)
        return [JobHandle.of(job, answer, sender) for job, answer in zip(new, sent, strict=True)]

    def defer_many_sync(self, jobs: Iterable[NewJob[Any]], connection: object | None = None) -> list[JobHandle[Any]]:
        """As `defer_many`, without an event loop; see `task.defer_sync`."""
        refuse_running_loop("defer_many_sync", "app.defer_many(...)")
        new, sender = new_jobs(jobs), self.sender
        sent = zip(new, sender.send_many_sync(new, connection), strict=True)
        return [JobHandle.of(job, answer, sender) for job, answer in sent]

    def bundle(
        self, name: str, *, on_success: NewJob[Any] | None = None, on_failure: NewJob[Any] | None = None,
        on_finish: NewJob[Any] | None = None, parent: BundleBuilder | Bundle | UUID | str | None = None,
        id: UUID | str | None = None, origin: str | None = None, connection: object | None = None,
        empty: Empty = "raise",
    ) -> BundleBuilder:  # fmt: skip
        """Jobs that end together: `async with app.bundle("import", on_success=report.job()) as b: b.add(load.job(1))`

        At the end of the block all are stored in one transaction, or none if it raises; `await b.flush()` stores what
        there is so far. With `connection` they join the transaction that it is in. Once all members are completed,
        `on_success` is stored as an ordinary job, if some are dead or cancelled `on_failure`, in any case `on_finish`;
        a member that is retried afterwards makes the bundle end once more, and call back anew. `ctx.bundle` is how
        members and callbacks see it. It counts as a member of `parent`. With an `id` of yours a second call stores
        nothing: `b.duplicate`. `empty="finish"`: a bundle without a job ends at once.
        Raises InvalidOption, BundleEnded if the parent has ended, and what a defer raises.
        """
        new = new_bundle(name, on_success, on_failure, on_finish, parent, id, origin or self.origin)
        return BundleBuilder(new, self._ground.storing, self._ground.sender, connection, empty, self.bundles.cancel)

    def on_error(self, hook: H) -> H:
        """Call this function, `def` or `async def`, after every failed attempt, with a `FailedAttempt`; a decorator.

        It is told job, task, attempt, the exception and whether the job will run again, never the payload. By then the
        attempt's outcome is on its way to the database: what a hook raises is logged and changes nothing. The attempt's
        slot is kept until all hooks have returned, each within 10 s; a worker that cuts off its jobs cancels them.
        An attempt that has completed its job in its own transaction did not fail, whatever its handler raises then.

            @app.on_error
            async def report(failed: FailedAttempt) -> None: ...
        """
        self._middleware.on_error.append(check_hook(hook))
        return hook

    # working

    def worker(
        self,
        queues: Iterable[str] | None = None,
        concurrency: int | None = None,
        drain_timeout: Seconds | None = None,
        burst: bool = False,
    ) -> contextlib.AbstractAsyncContextManager[Work]:
        """Run a worker beside the block: `async with app.worker(concurrency=5) as w:` in a lifespan.

        At the block's end it drains. If the block is cancelled or raises, running jobs are cancelled at once and given
        back, and the last writes take at most 5 s. Installs no signal handlers.
        """
        return self._workplace.worker(queues, concurrency, drain_timeout, burst)

    async def run_worker(
        self,
        queues: Iterable[str] | None = None,
        concurrency: int | None = None,
        drain_timeout: Seconds | None = None,
        burst: bool = False,
        *,
        task_status: TaskStatus[Work] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a worker until it is told to stop (`task_status` gives the means), or in a burst until nothing is left.

        Cancelled in any way (anyio scope, `Task.cancel`, `asyncio.timeout`) it stops claiming, cancels running jobs,
        which are given back unharmed, writes for at most 5 s, and lets the cancellation go on.
        """
        async with self.worker(queues, concurrency, drain_timeout, burst) as work:
            task_status.started(work)
            await work.ended()

    async def run_until_idle(self) -> None:
        """Run every job that is ready, and those they defer, then return: for scripts and tests."""
        await self.run_worker(burst=True)

    def load_tasks(self) -> None:
        """Import the modules named by `tasks=`. An exception raised inside one keeps its traceback."""
        for module in self._modules:
            importlib.import_module(module)
        for task in self.registry:
            task.resolve()
        for declared in self.registry.schedules:
            declared.task.job()  # what could not be stored is told to whoever starts the worker

    # inside

    @cached_property
    def _workplace(self) -> "Workplace":
        from jobqueue.cron.firing import Firer  # here: a process that only defers need not load a worker
        from jobqueue.webhooks.relay import Relay
        from jobqueue.worker.workplace import Workplace

        return Workplace(
            self._opening, self.registry, self._middleware, self._lifespan, self.load_tasks, self._hub.listening,
            (Relay, lambda database: Firer(database, lambda: self.registry.schedules)),
            self._bundle_of,
        )  # fmt: skip

    def _stand_on(self, ground: Ground) -> None:
        homes = [home for home in (self, *self._routers) if home is self or home.link.sender is self.link.sender]
        for home in homes:  # a router that another app has meanwhile is left to it
            home.link.sender = ground.sender
        self._ground = ground
        for name in OF_THE_GROUND:
            vars(self).pop(name, None)

    def _bundle_of(self, bundle: UUID, by: Claimed) -> Member:
        return Member(bundle, by, self._ground.storing, self.sender, self.bundles)

    def _rejoin(self) -> None:
        for router in self._routers:  # another app may have had them since we included them
            router.join(self)
