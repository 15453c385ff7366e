"""Limits are declared by workers: what their code says holds for the fleet, the last one to start counts."""

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.flows.limits import LimitRow, declare
from jobqueue.tasks.registry import Registry

_PAUSE = 1.0
"""Seconds between two looks at what the app declares: a cell of a notebook may add to it. No database is asked."""

log = get_logger(__name__)


class Declarer:
    """A service of every worker."""

    def __init__(self, database: Database, tasks: Registry, app: str) -> None:
        self._database = database
        self._tasks = tasks
        self._app = app
        self._said: list[LimitRow] = []
        self._outage = Outage("declare", log)

    async def begin(self) -> None:
        """Declare what there is, before the first job is looked for; if that fails, `run` does it."""
        try:
            await self._look()
        except DATABASE_ERRORS:
            return

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Declare what is new until cancelled. Survives every database error."""
        task_status.started()
        while True:
            try:
                await self._look()
            except DATABASE_ERRORS as error:
                await self._outage.wait(error)
                continue
            self._outage.over()
            await anyio.sleep(_PAUSE)

    async def _look(self) -> None:
        rows = rows_of(self._tasks)
        if rows == self._said:
            return
        session = Session(self._database)
        try:
            for name in await declare(session, [row for row in rows if row not in self._said], self._app):
                log.info("limit.declared", limit=name, app=self._app)
        finally:
            await session.close()
        self._said = rows


def rows_of(tasks: Registry) -> list[LimitRow]:
    """The limits of an app's tasks and queues as the database has them."""
    rows = []
    for name, each in sorted(tasks.limits.items()):
        limit = each.limit
        rate = {} if limit.rate is None else {"count": limit.rate.count, "burst": limit.rate.burst}
        per = None if limit.rate is None else limit.rate.seconds
        rows.append(LimitRow(name, limit.concurrency, per=per, ordered=limit.ordered, **rate))
    return rows
