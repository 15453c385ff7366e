"""Looks for jobs that wait to run alone, and lets this worker make way for one."""

import random
from collections.abc import Callable

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.store.claims import waiting_alone
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.worker.claiming.queues import Queues


class LoneFinder:
    """Every worker has one: a busy worker would never come to claim such a job by itself."""

    def __init__(self, database: Database, queues: Queues, interval: float, found: Callable[[], None]) -> None:
        """`interval` in seconds. `found` is called when this worker should make way."""
        self._database = database
        self._queues = queues
        self._interval = interval
        self._found = found
        self._outage = Outage("look for jobs that run alone", get_logger(__name__))

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled. Survives every database error."""
        task_status.started()
        while True:
            await anyio.sleep(self._interval * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing
            try:
                jobs, workers = await waiting_alone(self._database, self._queues.served)
                self._outage.over()
            except DATABASE_ERRORS as error:
                await self._outage.wait(error)
                continue
            # As many workers as there are jobs, more or less, whoever they are; the others work on.
            if jobs and random.random() * workers < jobs:  # noqa: S311 - spreads load, guards nothing
                self._found()
