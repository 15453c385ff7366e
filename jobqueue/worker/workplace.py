"""Starts workers for an app: what a worker needs is made here, around it, and ends with it."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.moments import Seconds
from jobqueue.base.service import Service
from jobqueue.base.version import VERSION
from jobqueue.store.connection.edge import EDGE
from jobqueue.store.connection.pool import Database
from jobqueue.tasks.context import resources_of
from jobqueue.tasks.membership import MemberOf
from jobqueue.tasks.registry import Registry
from jobqueue.tasks.run.middleware import Middleware
from jobqueue.tasks.sending.opening import Opening
from jobqueue.worker.declaring import Declarer
from jobqueue.worker.supervisor import Supervisor
from jobqueue.worker.work import Work, tuned

WORKER_CONNECTIONS = 10
"""Claimer, finisher, stager, rescuer, listener, heart, recorder of phases; on a user's pool also whoever awaits events,
and results there; and one for the seldom: relay, reports, steering, what handlers ask."""


class Workplace:
    """What the workers of one app have in common."""

    def __init__(
        self,
        opening: Opening,
        tasks: Registry,
        middleware: Middleware,
        lifespan: Callable[[], contextlib.AbstractAsyncContextManager[Any]] | None,
        load_tasks: Callable[[], object],
        beside: Callable[[], contextlib.AbstractAsyncContextManager[None]],
        services: Sequence[Callable[[Database], Service]] = (),
        bundle: MemberOf = lambda bundle, by: None,
    ) -> None:
        """`beside` is entered around each worker, inside the lifespan: the listeners are told meanwhile.

        `services` are made for each worker, on its database, and run as parts of it. `bundle` gives a claimed job what
        it has of its bundle.
        """
        self._opening = opening
        self._tasks = tasks
        self._middleware = middleware
        self._lifespan = lifespan
        self._load_tasks = load_tasks
        self._beside = beside
        self._services = services
        self._bundle = bundle

    @contextlib.asynccontextmanager
    async def worker(
        self, queues: Iterable[str] | None, concurrency: int | None, drain_timeout: Seconds | None, burst: bool
    ) -> AsyncIterator[Work]:
        """A worker beside the block, on a database of its own, inside the lifespan; see `App.worker`."""
        self._opening.refuse_if_closed()
        if self._opening.most_connections < WORKER_CONNECTIONS:
            raise ConfigurationError(f"pool: a worker needs a max_size of {WORKER_CONNECTIONS} connections at least")
        self._load_tasks()
        settings = tuned(self._opening.settings, concurrency, drain_timeout)
        async with contextlib.AsyncExitStack() as stack:
            database = await self._opening.another_database(WORKER_CONNECTIONS)
            stack.push_async_callback(database.close)
            with EDGE:
                await database.check_patiently()
            resources = (
                {} if self._lifespan is None else resources_of(await stack.enter_async_context(self._lifespan()))
            )
            await stack.enter_async_context(self._beside())
            declarer = Declarer(database, self._tasks, self._opening.name)
            await declarer.begin()
            supervisor = Supervisor(
                database, self._tasks, settings, app_name=self._opening.name, version=VERSION, queues=queues,
                burst=burst, resources=resources, middleware=self._middleware,
                services=(*self._services, lambda _: declarer), bundle=self._bundle,
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
