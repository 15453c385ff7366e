"""`app.jobs` of jobs in memory."""

from typing import Any, Unpack
from uuid import UUID

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.job import Job
from jobqueue.base.steering import Change, Changes
from jobqueue.tasks.acting.filters import Filter
from jobqueue.tasks.jobs import Jobs
from jobqueue.tasks.options import check_id
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.sender import Sender


class MemoryJobs(Jobs):
    """Looks at one job, cancels some, sends signals; what else there is of `Jobs` needs a database, and says so."""

    def __init__(self, opening: Opening, sender: Sender) -> None:
        super().__init__(opening.database, None)
        self._sender = sender

    async def get(self, id: UUID | str, *, connection: object | None = None) -> Job:
        """The job as it stands now. Raises JobNotFound."""
        return await self._sender.find(check_id(id))

    async def signal(
        self,
        id: UUID | str,
        name: str,
        payload: Any = None,
        *,
        by: Doer | None = None,
        connection: object | None = None,
    ) -> Change:
        """Send a signal to a job."""
        By.of(by)
        return await self._sender.signal(check_id(id), name, payload)

    async def cancel(
        self,
        *ids: UUID,
        by: Doer | None = None,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """End jobs, given by their ids; nothing of that is kept."""
        By.of(by)
        if which or dry_run or not ids:
            return await super().cancel(*ids, dry_run=dry_run, **which)
        return Changes({id: await self._sender.cancel(id) for id in ids})
