"""`app.bulks`: bulk actions are watched, waited for and cancelled. `app.jobs.bulk` begins them."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import anyio

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.acting.bulk import Bulk, BulkState
from jobqueue.base.errors import BulkNotFound, InvalidOption, WaitTimeout
from jobqueue.base.moments import Seconds, check_delay
from jobqueue.base.names import check_whole
from jobqueue.base.service import Patience
from jobqueue.store.acting import bulks
from jobqueue.store.acting.audit import noting
from jobqueue.store.connection.edge import executor_for
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.tasks.options import check_id

_PAGE_LIMIT = 1_000
_POLL_FIRST, _POLL_CAP = 0.05, 1.0


class Bulks:
    """Looks at bulk actions, and cancels them; those that have ended are known for `keep_audit`."""

    def __init__(
        self, database: Callable[[], Awaitable[Database]], on: Callable[[object], Executor] | None = None
    ) -> None:
        """`on` gives the executor for a caller's connection; None where nobody has one."""
        self._database = database
        self._on = on

    async def get(self, id: UUID | str, *, connection: object | None = None) -> Bulk:
        """One, as it stands now. Raises BulkNotFound."""
        meant = check_id(id)
        async with self._executor(connection) as executor:
            return await _found(executor, meant)

    async def list(self, *, unfinished: bool = False, before: UUID | None = None, limit: int = 50) -> Sequence[Bulk]:
        """Some, the newest first; `before=page[-1].id` goes on. Raises InvalidOption."""
        if check_whole("limit", limit, (1, _PAGE_LIMIT)) is None:
            raise InvalidOption("limit", f"must be a whole number from 1 to {_PAGE_LIMIT}")
        async with self._executor(None) as executor:
            return await bulks.page(executor, before, limit, unfinished=unfinished)

    async def cancel(self, id: UUID | str, *, by: Doer | None = None, connection: object | None = None) -> Bulk:
        """Go no further with it: a page that is being done is the last one. What was done stands. `by`: for the audit.

        One that has ended stays as it is. Raises BulkNotFound.
        """
        meant, doer = check_id(id), By.of(by)
        async with self._executor(connection) as executor:
            await _found(executor, meant)
            async with noting(executor, doer, "bulk.cancel", bulk=str(meant)) as row:
                row.changed = int(await bulks.end(executor, meant, BulkState.CANCELLED))
            return await _found(executor, meant)

    async def wait(
        self, id: UUID | str, timeout: Seconds | None = None, *, looked: Callable[[Bulk], object] | None = None
    ) -> Bulk:
        """It, once it has ended; `looked` is called with what each look finds.

        Cancelling the wait leaves it alone. Raises BulkNotFound, WaitTimeout.
        """
        limit = None if timeout is None else check_delay("timeout", timeout)
        patience = Patience(first=_POLL_FIRST, cap=_POLL_CAP)
        bulk = await self._looked_at(id, looked)  # what has ended is told, however short the limit
        with anyio.move_on_after(limit):
            while not bulk.finished:
                await anyio.sleep(patience.next())
                bulk = await self._looked_at(id, looked)
        if not bulk.finished:
            standing = f"it is {bulk.state}, {bulk.changed} jobs are changed; a worker does it, does one run?"
            raise WaitTimeout("bulk action", bulk.id, limit or 0.0, standing)
        return bulk

    async def _looked_at(self, id: UUID | str, looked: Callable[[Bulk], object] | None) -> Bulk:
        bulk = await self.get(id)
        if looked is not None:
            looked(bulk)
        return bulk

    def _executor(self, connection: object | None) -> contextlib.AbstractAsyncContextManager[Executor]:
        return executor_for(connection, self._on, self._database)


async def _found(executor: Executor, id: UUID) -> Bulk:
    found = await bulks.find(executor, id)
    if found is None:
        raise BulkNotFound(id)
    return found
