"""Transactional completion: a handler's own rows, the jobs it defers and the end of its job commit together.

Handlers have a pool of their own here, as large as the worker's concurrency, so that none of them can starve the
claimer or the heartbeat. (On a user's own `pool=` they take from that one, as they would by themselves.) To wait for a
connection, or for a server that has none left, spends no attempt.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import anyio

from jobqueue.base.errors import ClaimLost
from jobqueue.base.job import WorkerId
from jobqueue.base.outcome import Done, Snooze
from jobqueue.base.service import Patience, outlast
from jobqueue.store.connection.callers.beginning import begun
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.callers.telling import is_database_error
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.outcomes import Ended, News, complete_on, holds_still, was_completed
from jobqueue.worker.ending.folding import Folder
from jobqueue.worker.ending.last_words import LastWords
from jobqueue.worker.ending.lines import Lines
from jobqueue.worker.keeping.holds import Held, Hold
from jobqueue.worker.keeping.tally import WORDS

_WAIT_LIMIT = 60.0
"""Seconds that a handler waits for its connection; those who have theirs may be waiting for a second one."""
_COME_BACK = 10.0
_LOOK_LIMIT = 10.0


class Completions:
    """Gives handlers their transactions."""

    def __init__(
        self, database: Database, worker: WorkerId, holds: Held, words: LastWords, lines: Lines, handlers: int,
        folder: Folder, freed: Callable[[], None],
    ) -> None:  # fmt: skip
        """`handlers` is how many run at once; `freed` as of the finisher."""
        self._worker = worker
        self._database = database
        self._handlers = handlers
        self._words = words
        self._folder = folder
        self._freed = freed
        self._own: Database | None = None
        self._opening = asyncio.Lock()
        self._holds = holds
        self._lines = lines

    @contextlib.asynccontextmanager
    async def transaction(self, hold: Hold, given: object | None) -> AsyncIterator[tuple[Any, Callable[[Done], None]]]:
        """A connection in a transaction, and what completes the job with its commit, for `ctx.transaction()`.

        It is one of ours, or on what the handler has given.
        """
        attempt = hold.attempt
        assert attempt is not None  # noqa: S101 - a run asks
        said, done, news = list[Done](), None, News()
        try:
            opened = self._on_ours() if given is None else begun(given, self._database.schema)
            async with opened as (connection, executor):
                yield connection, said.append
                done = said[-1] if said else None
                if done is None:
                    if not await holds_still(executor, self._worker, hold.id, hold.fence):
                        raise ClaimLost(hold.id)
                else:
                    attempt.state.commit()
                    await self._words.write_with(executor, hold)
                    ended = Ended(hold.id, hold.fence, done)
                    news = await complete_on(executor, self._worker, ended) or _lost(hold)
        except BaseException as error:
            if done is None or isinstance(error, ClaimLost) or not await self._committed(hold):
                raise
            self._note(hold, news)
            if not is_database_error(error):
                raise
        else:
            if done is not None:
                self._note(hold, news)
        finally:
            if done is not None:  # else it may be another transaction that commits
                attempt.state.resume()

    async def close(self) -> None:
        """Close the handlers' pool. Bounded."""
        if self._own is not None:
            await self._own.close()

    @contextlib.asynccontextmanager
    async def _on_ours(self) -> AsyncIterator[tuple[Any, Executor]]:
        """A connection, however long the others keep theirs, or the server has none. Raises Snooze in the end."""
        database = await self._for_handlers()
        async with contextlib.AsyncExitStack() as stack:
            connection = await self._enter(stack, database)
            async with connection.transaction():
                if first := database.begin_for_handler:
                    await connection.execute(first)
                yield connection, OnAsyncpg(connection, database.schema)

    async def _enter(self, stack: contextlib.AsyncExitStack, database: Database) -> Any:
        give_up, patience = time.monotonic() + _WAIT_LIMIT, Patience()
        while (left := give_up - time.monotonic()) > 0:
            with contextlib.suppress(*DATABASE_ERRORS):
                return await stack.enter_async_context(database.connection(left))
            await anyio.sleep(patience.next())
        raise Snooze(_COME_BACK)

    def _note(self, hold: Hold, news: News) -> None:
        hold.completed = True
        hold.ends()  # on record; what its handler does from here on is its own affair
        self._holds.drop(hold, WORDS[Done])
        self._folder.touched(news.bundles, news.needed)
        if hold.claim["gates"] is not None:
            self._freed()
        if self._lines.says_completed:
            self._lines.ended(hold, Done("null"))

    async def _committed(self, hold: Hold) -> bool:
        """The answer to the commit was lost, or cut off by a cancellation: the archive knows."""
        look = asyncio.ensure_future(self._look(hold))
        await outlast(look)
        return look.result()

    async def _look(self, hold: Hold) -> bool:
        session = Session(self._database)
        try:
            with anyio.move_on_after(_LOOK_LIMIT):
                while True:
                    try:
                        return await was_completed(session, self._worker, hold.id, hold.fence)
                    except DATABASE_ERRORS:
                        await anyio.sleep(0.5)
            return False
        finally:
            await session.close()

    async def _for_handlers(self) -> Database:
        if not self._database.can_open_beside:
            return self._database
        async with self._opening:
            if self._own is None:
                self._own = await self._database.open_for_handlers(self._handlers)
        return self._own


def _lost(hold: Hold) -> NoReturn:
    raise ClaimLost(hold.id)
