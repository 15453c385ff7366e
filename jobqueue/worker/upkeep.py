"""Housekeeping in archive and log: partitions made ahead, so that no finish has to make one, and old jobs removed."""

import random

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.base.service import FirstLook
from jobqueue.base.settings import Settings
from jobqueue.store.acting.audit import forget_audit
from jobqueue.store.acting.bulks import forget_bulks
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.bundles import forget_bundles
from jobqueue.store.noting import forget_history
from jobqueue.store.upkeep import Ages, extend_archive, sweep, take_turn

_INTERVAL = 3600.0
_FIRST = 5.0
_BUNDLES = 500

log = get_logger(__name__)


class Upkeep:
    """Every worker looks hourly; for the removal of old jobs they take turns."""

    def __init__(
        self, database: Database, settings: Settings, *, interval: float = _INTERVAL, first: float = _FIRST
    ) -> None:
        """`first`: seconds within which the first removal begins, at random, so that the start has passed."""
        self._database = database
        self._ages = Ages(settings.keep_completed, settings.keep_other, settings.keep_events)
        self._keep_audit = settings.keep_audit
        self._interval = interval
        self._first = first
        self._our_turn = False
        self._outage = Outage("upkeep", log, cap=60.0)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look at start and every hour, until cancelled."""
        first = FirstLook(task_status)
        wait = self._first
        while True:
            try:
                await self._extend()
                first.over()
                await anyio.sleep(wait * random.uniform(0.1, 1))  # noqa: S311 - spreads load, guards nothing
                wait = 0.0
                await self._remove()
            except DATABASE_ERRORS as error:
                first.over()
                await self._outage.wait(error)
                continue
            self._outage.over()
            await anyio.sleep(self._interval)

    async def _extend(self) -> None:
        made = await extend_archive(self._database, self._ages)
        if made:
            log.info("archive.extended", partitions=made)

    async def _forget_bundles(self) -> None:
        age, forgotten = self._ages.other, _BUNDLES
        while age is not None and forgotten == _BUNDLES:
            forgotten = await forget_bundles(self._database, age, _BUNDLES)

    async def _remove(self) -> None:
        # a little less than the interval: whoever comes first in the next hour is not too early
        self._our_turn = self._our_turn or await take_turn(self._database, 0.9 * self._interval)
        if not self._our_turn:
            return
        swept = await sweep(self._database, self._ages)
        await self._forget_bundles()
        await forget_history(self._database)
        await forget_audit(self._database, self._keep_audit)
        await forget_bulks(self._database, self._keep_audit)
        self._our_turn = False
        if swept.days:
            log.info("archive.dropped", partitions=swept.days)
        if swept.jobs:
            log.info("archive.pruned", jobs=swept.jobs)
