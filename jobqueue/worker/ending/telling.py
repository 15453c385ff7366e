"""Tells those who read the log that there is more, if somebody reads it; else nobody pays for that."""

import asyncio
import contextlib
import time

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.events import ask_readers, say_logged

_PAUSE = 0.05
"""Seconds between two times: a commit that notifies waits for every other one that does."""
_BELIEVED = 60.0
"""Seconds for which we believe that somebody reads who has said so; readers say it again three times as often."""


class LogTeller:
    """One for a worker; what it says is a hint, readers look by themselves as well."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._until = float("-inf")
        self._news = asyncio.Event()
        self._outage = Outage("telling", get_logger(__name__))

    def somebody_reads(self) -> None:
        """A reader has said so."""
        self._until = time.monotonic() + _BELIEVED

    def written(self) -> None:
        """Outcomes are in the log."""
        if time.monotonic() < self._until:
            self._news.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Tell until cancelled. Survives every database error."""
        task_status.started()
        with contextlib.suppress(*DATABASE_ERRORS):
            await ask_readers(self._database)
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await say_logged(self._database)
            except DATABASE_ERRORS as error:
                await self._outage.wait(error)
                continue
            self._outage.over()
            await anyio.sleep(_PAUSE)
