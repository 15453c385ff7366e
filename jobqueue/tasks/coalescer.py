"""Sends the defers that wait at the same moment in one statement.

One writer a loop, on a connection of its own, alive only while somebody waits. It runs with an empty context, so that
it inherits nobody's trace. A caller that is cancelled while it queues has sent nothing; while its row is under way it
waits, shielded and bounded, for the answer. A bad row fails alone.
"""

import asyncio
import contextlib
import contextvars
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from jobqueue.base.errors import DeferUnknown
from jobqueue.base.job import NewJob, Sent
from jobqueue.store.faults import DATABASE_ERRORS, Fault, classify, refused_row
from jobqueue.store.intake import insert_all, insert_one_statement
from jobqueue.store.pool import Database, Session

BATCH_ROWS = 500
BATCH_BYTES = 1 << 20
CANCEL_LIMIT = 5.0


@dataclass(slots=True, eq=False)
class _Caller:
    job: NewJob[Any]
    answer: asyncio.Future[Sent]
    sending: bool = False


class Coalescer:
    """The single defers of one event loop."""

    def __init__(self, database: Database) -> None:
        self._session = Session(database)
        self._queue: deque[_Caller] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def send(self, job: NewJob[Any]) -> Sent:
        """Store one job. Raises InvalidPayload if the database refuses it, DeferUnknown if the network was cut.

        A cancelled call has either committed or never will.
        """
        loop = asyncio.get_running_loop()
        caller = _Caller(job, loop.create_future())
        self._queue.append(caller)
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write(), context=contextvars.Context())
        try:
            return await asyncio.shield(caller.answer)
        except asyncio.CancelledError:
            if not caller.sending:
                with contextlib.suppress(ValueError):  # the writer has just failed everybody who waited
                    self._queue.remove(caller)
                raise
            if not await _settled(caller.answer):
                raise DeferUnknown(job.id) from None
            raise

    async def close(self) -> None:
        """Wait for the writer, then give its connection back. Bounded by its statements' limits."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=2 * CANCEL_LIMIT)
            self._writer.cancel()
        await self._session.close()

    async def _write(self) -> None:
        while self._queue:
            try:
                await self._session.ready()
            except BaseException as error:
                self._fail_all(error)
                raise
            batch = self._take()
            if batch:
                await self._send(batch)
        await self._session.rest()

    def _take(self) -> list[_Caller]:
        batch: list[_Caller] = []
        size = 0
        while self._queue and len(batch) < BATCH_ROWS and size < BATCH_BYTES:
            caller = self._queue.popleft()
            caller.sending = True
            size += len(caller.job.args)
            batch.append(caller)
        return batch

    async def _send(self, batch: list[_Caller]) -> None:
        try:
            answers = await self._insert([caller.job for caller in batch])
        except DATABASE_ERRORS as error:
            if classify(error) is not Fault.BAD_DATA:
                _fail(batch, error)
            elif len(batch) == 1:
                _fail(batch, refused_row(batch[0].job.task, error))
            else:
                middle = len(batch) // 2
                await self._send(batch[:middle])
                await self._send(batch[middle:])
        except BaseException as error:
            _fail(batch, error)
            raise
        else:
            for caller, sent in zip(batch, answers, strict=True):
                if not caller.answer.done():
                    caller.answer.set_result(sent)

    async def _insert(self, jobs: Sequence[NewJob[Any]]) -> list[Sent]:
        try:
            return await insert_one_statement(self._session, jobs, always=False)
        except DATABASE_ERRORS as error:
            if classify(error) is not Fault.UNKNOWN:
                raise
        # The answer was lost: the rows may be in, may even have run. The same ids again, checked against the archive.
        sent = await insert_all(self._session, [replace(job, resent=True) for job in jobs], always=False)
        return [Sent(answer.id) for answer in sent]  # a duplicate here is our own first try

    def _fail_all(self, error: BaseException) -> None:
        waiting, self._queue = list(self._queue), deque()
        _fail(waiting, error)


def _fail(callers: list[_Caller], error: BaseException) -> None:
    for caller in callers:
        if caller.answer.done():
            continue
        unknown = caller.sending and (not isinstance(error, DATABASE_ERRORS) or classify(error) is Fault.UNKNOWN)
        caller.answer.set_exception(DeferUnknown(caller.job.id) if unknown else _for_caller(error))
        caller.answer.exception()  # read once: asyncio would log an abandoned one with the row that it quotes


def _for_caller(error: BaseException) -> BaseException:
    return (
        ConnectionError("the app was closed while this job waited")
        if isinstance(error, asyncio.CancelledError)
        else error
    )


async def _settled(answer: asyncio.Future[Sent]) -> bool:
    """Wait for the answer whatever cancellations come, at most CANCEL_LIMIT; True if it came and is known."""
    deadline = time.monotonic() + CANCEL_LIMIT
    with anyio.CancelScope(shield=True):
        while not answer.done() and (left := deadline - time.monotonic()) > 0:
            try:
                await asyncio.wait({answer}, timeout=left)
            except asyncio.CancelledError:  # another native cancel: the first one is raised as soon as we know
                continue
    return answer.done() and not isinstance(answer.exception(), DeferUnknown)
