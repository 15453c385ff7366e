"""Keeps the archive's partitions a week ahead, so that no finish ever has to make one."""

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.base.service import Patience
from jobqueue.store.faults import DATABASE_ERRORS, brief
from jobqueue.store.pool import Database
from jobqueue.store.upkeep import extend_archive

_INTERVAL = 3600.0

log = get_logger(__name__)


class Upkeep:
    """Hourly housekeeping; every worker does it, a second one finds nothing to do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look at start and every hour, until cancelled."""
        task_status.started()
        patience = Patience(first=1, cap=60)
        while True:
            try:
                made = await extend_archive(self._database)
            except DATABASE_ERRORS as error:
                delay = patience.next()
                log.warning("database.unreachable", doing="upkeep", error=brief(error), retry_in=round(delay, 2))
                await anyio.sleep(delay)
                continue
            patience.reset()
            if made:
                log.info("archive.extended", partitions=made)
            await anyio.sleep(_INTERVAL)
