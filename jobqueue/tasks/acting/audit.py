"""`app.audit`: who did what."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from uuid import UUID

from jobqueue.base.acting.audit import AuditPage, By, Doer
from jobqueue.base.errors import InvalidOption
from jobqueue.base.names import check_name, check_whole
from jobqueue.store.acting.audit import Noted, Row, list_audit, meant, noting
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.edge import EDGE, executor_for, own_session
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.tasks.options import check_id

_PAGE_LIMIT = 1_000
_NUMBERS = (1, 2**63 - 1)


class Audit:
    """Reads the audit: a row for each call that changed something and said `by` whom; kept for `keep_audit`."""

    def __init__(
        self, database: Callable[[], Awaitable[Database]], on: Callable[[object], Executor] | None = None
    ) -> None:
        """`on` gives the executor for a caller's connection; None where nobody has one."""
        self._database = database
        self._on = on

    async def list(
        self,
        *,
        job: UUID | str | None = None,
        who: Doer | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int = 50,
        connection: object | None = None,
    ) -> AuditPage:
        """A page of rows, the newest first; `before=page.next` goes on until that is None.

        `who`: a text is compared with `entry.who`, a `By` with its `via` too, if it has one. `job`: rows that name it,
        and rows whose filter found and changed it: a row knows the first 1 000 of its jobs, so of a call that changed
        more than those it may be one that is not found here. `connection` looks inside the caller's transaction.
        Raises InvalidOption.
        """
        if check_whole("limit", limit, (1, _PAGE_LIMIT)) is None:
            raise InvalidOption("limit", f"must be a whole number from 1 to {_PAGE_LIMIT}")
        check_whole("before", before, _NUMBERS)
        if action is not None:
            check_name("action", action)
        by = By.of(who)
        named, via = (None, None) if by is None else (by.who, by.via)
        about = None if job is None else check_id(job, "job")
        async with executor_for(connection, self._on, self._database) as reader:
            return await list_audit(reader, job=about, who=named, via=via, action=action, before=before, limit=limit)

    async def note(self, by: Doer, action: str, *, jobs: Sequence[UUID] = (), **what: str) -> None:
        """Write a row about something that was looked at, such as the arguments of a job. Raises InvalidOption."""
        check_name("action", action)
        note = Noted(by if isinstance(by, By) else By(by), action, {**meant(jobs), **what})
        async with own_session(self._database) as session:
            await note.add(session, len(jobs), 0, ids=jobs)

    @contextlib.asynccontextmanager
    async def beside(self, by: Doer, action: str, **what: str) -> AsyncIterator[tuple[object, Row]]:
        """A connection in a transaction, and the row that commits with it: for what takes `connection=`, as a defer.

        The row may still be told what has changed. Raises InvalidOption, DatabaseError.
        """
        check_name("action", action)
        doer = by if isinstance(by, By) else By(by)
        with EDGE:
            database = await self._database()
            async with (
                database.connection() as connection,
                connection.transaction(),
                noting(OnAsyncpg(connection, database.schema), doer, action, **what) as row,
            ):
                yield connection, row
