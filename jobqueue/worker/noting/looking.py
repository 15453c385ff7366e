"""Notes once a minute how long the queues are: one worker of the fleet looks, whoever comes first."""

import random

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.noting import begin_depths, note_depths
from jobqueue.worker.noting.clock import MinuteClock

_SPREAD = 1 / 6


class DepthLooker:
    """Every worker asks each minute whether it is the one; a minute in which the look fails is left out."""

    def __init__(self, database: Database, *, minute: float = 60.0) -> None:
        """`minute`: seconds between two looks, fewer for those who test."""
        self._database = database
        self._minute = minute
        self._clock = MinuteClock(minute)
        self._outage = Outage("depths", get_logger(__name__))

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled. Survives every database error."""
        task_status.started()
        while True:
            spread = self._minute * _SPREAD * random.random()  # noqa: S311 - spreads load, guards nothing
            await anyio.sleep(self._clock.left + spread)
            try:
                await self._look()
            except DATABASE_ERRORS as error:
                self._outage.met(error)
            else:
                self._outage.over()

    async def _look(self) -> None:
        at, second = await begin_depths(self._database)
        self._clock.heard(second)
        if at is not None:
            session = Session(self._database)
            try:
                await note_depths(session, at)
            finally:
                await session.close()
