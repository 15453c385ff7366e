"""The App: composes everything. The only file that knows every room; nothing below it knows the App."""

import contextlib
import importlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.errors import AppClosed, ConfigurationError, JobNotFound
from jobqueue.base.job import Job, NewJob, Sent
from jobqueue.base.settings import Settings
from jobqueue.base.steering import Change
from jobqueue.base.version import VERSION
from jobqueue.store.connection.caller import executor_on
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.location import Dsn, Location
from jobqueue.store.connection.loops import PerLoop
from jobqueue.store.connection.pool import Database, Pool
from jobqueue.store.schema.migrate import migrate
from jobqueue.tasks.context import resources_of
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.jobs import Jobs
from jobqueue.tasks.queues import Queues
from jobqueue.tasks.router import Router, TaskHome
from jobqueue.tasks.run.hooks import ErrorHook, check_hook
from jobqueue.tasks.run.middleware import DeferMiddleware, Middleware, RunMiddleware, nested, store_through
from jobqueue.tasks.sending.producer import Producer, send_many_on, send_on, send_sync
from jobqueue.worker.supervisor import Supervisor
from jobqueue.worker.work import Work, tuned

H = TypeVar("H", bound=ErrorHook)
Lifespan: TypeAlias = Callable[["App"], contextlib.AbstractAsyncContextManager[Any]]

PRODUCER_CONNECTIONS = 10
WORKER_CONNECTIONS = 7  # claimer, finisher, stager, rescuer, listener, heart (on a user's pool), and one for the seldom


class App(TaskHome):
    """A durable job queue on one PostgreSQL database.

    `dsn` is a connection string or a callable that returns one, read when the app opens, not at import; without
    it `JOBQUEUE_DSN`, without that the embedded server. `pool` is an asyncpg pool of yours to use instead; a
    worker on it keeps seven connections, and beats on your event loop, so a task that blocks that stops the
    beat. `name` shows in PostgreSQL, in worker rows, and is the default origin of jobs. `tasks` are modules
    that define tasks, imported when a worker or the command line starts. `lifespan(app)` is entered around a
    worker; its value, or each one of a tuple, is what `ctx.get(Type)` finds. `middleware` goes around runs and
    defers. `settings` replaces the defaults, `JOBQUEUE_<KNOB>` replaces both.

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
    ) -> None:
        super().__init__()
        self.link.sender = self
        self._routers: list[Router] = []
        self._opened = False
        self.name = name or "jobqueue"
        self.schema = schema
        self._location = Location(dsn, pool, schema)
        self._modules = tuple(tasks)
        self._lifespan = lifespan
        self._middleware = Middleware(middleware)
        self._settings = Settings.from_environment(os.environ, settings)
        self._producers = PerLoop(self._make_producer, Producer.close)
        self._closed = False
        self.jobs, self.queues = Jobs(self._database, self._executor_on), Queues(self._database)

    @classmethod
    def null(cls, **keywords: Any) -> "App":
        """An app for tests that accepts defers and drops them. Takes the same keywords, needs no database.

        Handles have ids as ever; nothing is stored, so their `status` and `result` raise JobNotFound. What cannot be
        without a database, such as a worker or `jobs.list`, raises ConfigurationError.
        """
        return _NullApp(**keywords)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._settings

    @property
    def origin(self) -> str:
        """The default origin of jobs: the app's name."""
        return self.name

    @property
    def sender(self) -> Self:
        """Where the tasks of this app's routers send their jobs: the app itself."""
        return self

    @property
    def is_open(self) -> bool:
        """Opened, and not closed yet."""
        return self._opened and not self._closed

    def include(self, router: Router) -> None:
        """Take in a router's tasks, also those it declares later. Raises DuplicateTask, and ConfigurationError while
        another open app has the router."""
        router.join(self)
        self._routers.append(router)

    @property
    def task_modules(self) -> tuple[str, ...]:
        """The modules of `tasks=`."""
        return self._modules

    # opening and closing

    async def open(self) -> None:
        """Connect now, instead of at the first use. Raises OSError, ConfigurationError.

        The schema is checked at the first use, so that `async with app: await app.migrate()` works on a new database.
        """
        self._refuse_if_closed()
        await self._producers.get()

    async def close(self) -> None:
        """Wait for what is being stored, then close. Bounded, idempotent; afterwards every call raises AppClosed."""
        self._closed = True
        await self._producers.close()

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
        kept = self._location, self._producers, self._opened, self._closed
        self._location, self._opened, self._closed = Location(dsn, None, self.schema), False, False
        self._producers = PerLoop(self._make_producer, Producer.close)
        try:
            yield self
        finally:
            self._location, self._producers, self._opened, self._closed = kept

    async def migrate(self) -> list[str]:
        """Apply the migrations that are missing; returns their names. Safe from ten processes at once."""
        async with self.resolved_dsn() as dsn:
            return await migrate(dsn, self.schema)

    @contextlib.asynccontextmanager
    async def resolved_dsn(self) -> AsyncIterator[str]:
        """The connection string to use now; the embedded server, if that is it, runs at least as long as the block."""
        self._refuse_if_closed()
        async with self._location.resolved_dsn() as dsn:
            yield dsn

    # producing: what a task needs of its app

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        """Store one job; see `Sender`."""
        self._refuse_if_closed()
        # A caller's connection is all that it takes: nothing is opened, which on a small pool might need that very one.
        store = (await self._producer()).send if connection is None else partial(send_on, connection, self.schema)
        if not self._middleware.around_defer:
            return await store(job)
        return await nested(self._middleware.around_defer, store)(job)

    async def send_many(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        """Store all jobs or none; see `Sender`."""
        self._refuse_if_closed()
        store = (
            (await self._producer()).send_many if connection is None else partial(send_many_on, connection, self.schema)
        )
        if not self._middleware.around_defer:
            return await store(jobs)
        return await store_through(self._middleware.around_defer, jobs, store)

    async def defer_many(self, jobs: Iterable[NewJob[Any]], connection: object | None = None) -> list[JobHandle[Any]]:
        """Store jobs of any tasks, made by `task.job(...)`: all or none, in one transaction.

        With `connection` they join the transaction that it is in. Raises InvalidPayload if the database refuses one.
        """
        new = list(jobs)
        sent = await self.send_many(new, connection)
        return [JobHandle.of(job, answer, self) for job, answer in zip(new, sent, strict=True)]

    def send_sync(self, job: NewJob[Any], connection: object) -> Sent:
        """Store one job on the caller's psycopg connection; see `Sender`."""
        self._refuse_if_closed()
        return send_sync(job, connection, self.schema)

    async def find(self, id: UUID) -> Job:
        """The job as it stands now. Raises JobNotFound."""
        return await self.jobs.get(id)

    async def wait_final(self, id: UUID, timeout: float | None) -> Job:
        """The job once it has ended. Raises JobNotFound, TimeoutError."""
        with anyio.fail_after(timeout):
            return await (await self._producer()).wait_final(id)

    async def cancel(self, id: UUID) -> Change:
        """End a job; see `jobs.cancel`."""
        return (await self.jobs.cancel(id)).each[id]

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

    @contextlib.asynccontextmanager
    async def worker(
        self,
        queues: Iterable[str] | None = None,
        concurrency: int | None = None,
        drain_timeout: float | None = None,
        burst: bool = False,
    ) -> AsyncIterator[Work]:
        """Run a worker beside the block: `async with app.worker(concurrency=5) as w:` in a lifespan.

        At the block's end it drains. If the block is cancelled or raises, running jobs are cancelled at once and given
        back, and the last writes take at most 5 s. Installs no signal handlers.
        """
        self._refuse_if_closed()
        if self._location.most_connections < WORKER_CONNECTIONS:
            raise ConfigurationError(f"pool: a worker needs a max_size of {WORKER_CONNECTIONS} connections at least")
        self.load_tasks()
        settings = tuned(self._settings, concurrency, drain_timeout)
        async with contextlib.AsyncExitStack() as stack:
            database = await self._open_database(WORKER_CONNECTIONS)
            stack.push_async_callback(database.close)
            await database.check()
            resources = (
                {} if self._lifespan is None else resources_of(await stack.enter_async_context(self._lifespan(self)))
            )
            supervisor = Supervisor(
                database, self.registry, settings, app_name=self.name, version=VERSION, queues=queues, burst=burst,
                resources=resources, middleware=self._middleware,
            )  # fmt: skip
            work = Work(supervisor)
            await work.start()
            try:
                yield work
            except BaseException:
                await work.stop_now()
                raise
            if not burst:
                work.stop(settings.drain_timeout)
            await work.ended()

    async def run_worker(
        self,
        queues: Iterable[str] | None = None,
        concurrency: int | None = None,
        drain_timeout: float | None = None,
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
            task.signature.resolve()

    # inside

    async def _database(self) -> Database:
        return (await self._producer()).database

    async def _producer(self) -> Producer:
        self._refuse_if_closed()
        producer = await self._producers.get()
        await producer.check()
        return producer

    async def _make_producer(self) -> Producer:
        for router in self._routers:  # another app may have had them since we included them
            router.join(self)
        database = await self._open_database(PRODUCER_CONNECTIONS)
        self._opened = True
        # A pool of one connection would have none left to look with.
        roomy = self._location.most_connections > 1
        return Producer(database, listens=roomy and self._settings.pooler == "none")

    async def _open_database(self, connections: int) -> Database:
        return await self._location.open(name=self.name, connections=connections, pooler=self._settings.pooler)

    def _executor_on(self, connection: object) -> Executor:
        self._refuse_if_closed()
        return executor_on(connection, self.schema)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise AppClosed


class _NullApp(App):
    """See `App.null`."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self._location = Location(_no_database, None, self.schema)

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        self._refuse_if_closed()
        return await nested(self._middleware.around_defer, _drop)(job)

    async def send_many(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        return [await self.send(job, connection) for job in jobs]

    def send_sync(self, job: NewJob[Any], connection: object) -> Sent:
        self._refuse_if_closed()
        return Sent(job.id)

    async def find(self, id: UUID) -> Job:
        self._refuse_if_closed()
        raise JobNotFound(id)

    async def wait_final(self, id: UUID, timeout: float | None) -> Job:
        return await self.find(id)

    async def cancel(self, id: UUID) -> Change:
        self._refuse_if_closed()
        return Change.NOT_FOUND

    async def open(self) -> None:
        self._refuse_if_closed()


def _no_database() -> str:
    raise ConfigurationError("App.null() has no database; make an App(...) for what needs one")


async def _drop(job: NewJob[Any]) -> Sent:
    return Sent(job.id)
