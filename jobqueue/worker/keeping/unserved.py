"""Queues that have ready jobs and no living worker: nobody would ever say so, so those who live say it."""

import random

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.upkeep import take_turn
from jobqueue.store.workers import unserved_queues

log = get_logger(__name__)


class Unserved:
    """One of all workers looks every half minute; a queue is told again only after it was served in between."""

    def __init__(self, database: Database, *, interval: float = 30.0, patience: float = 10.0) -> None:
        """`patience`: seconds for which a job may wait before its queue is told."""
        self._database = database
        self._interval = interval
        self._patience = patience
        self._told: set[str] = set()
        self._outage = Outage("unserved queues", log, cap=60.0)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        while True:
            await anyio.sleep(self._interval * random.uniform(0.5, 1))  # noqa: S311 - spreads load, guards nothing
            try:
                if await take_turn(self._database, 0.5 * self._interval, "unserved"):
                    self._tell(await unserved_queues(self._database, self._patience))
                self._outage.over()
            except DATABASE_ERRORS as error:
                await self._outage.wait(error)

    def _tell(self, found: dict[str, float]) -> None:
        for queue in sorted(found.keys() - self._told):
            log.warning("queue.unserved", queue=queue, waits=round(found[queue], 1))
        self._told = set(found)
