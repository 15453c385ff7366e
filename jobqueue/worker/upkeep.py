"""Keeps the archive's partitions a week ahead, so that no finish ever has to make one."""

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.store.faults import DATABASE_ERRORS
from jobqueue.store.outage import Outage
from jobqueue.store.pool import Database
from jobqueue.store.upkeep import extend_archive

_INTERVAL = 3600.0

log = get_logger(__name__)


class Upkeep:
    """Hourly housekeeping; every worker does it, a second one finds nothing to do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._outage = Outage("upkeep", log, cap=60.0)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look at start and every hour, until cancelled."""
        task_status.started()
        while True:
            try:
                made = await extend_archive(self._database)
            except DATABASE_ERRORS as error:
                await self._outage.wait(error)
                continue
            self._outage.over()
            if made:
                log.info("archive.extended", partitions=made)
            await anyio.sleep(_INTERVAL)
