"""Sends the defers that wait at the same moment in one statement.

One writer a loop, on a connection of its own, alive only while somebody waits. It runs with an empty context, so that
it inherits nobody's trace. A caller that is cancelled while it queues has sent nothing; while its row is under way it
waits, shielded and bounded, for the answer. A bad row fails alone.
"""

import asyncio
import contextvars
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobqueue.base.errors import AppClosed, DeferUnknown
from jobqueue.base.job import NewJob, Sent
from jobqueue.base.new_jobs import NewJobs
from jobqueue.store.bulk import insert_as_made
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify, refused_row
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.tasks.sending.surely import CANCEL_LIMIT, AnswerLost, answer_of, insert_surely

BATCH_ROWS = 500
BATCH_BYTES = 1 << 20


@dataclass(slots=True, eq=False)
class _Caller:
    job: NewJob[Any]
    answer: asyncio.Future[Sent]
    sending: bool = False

    def is_sending(self) -> bool:
        return self.sending

    def fail(self, error: BaseException) -> None:
        """Answer with an error, unless there is an answer already."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # read once: asyncio would log an abandoned one with the row that it quotes


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
        return await answer_of(caller.answer, job.id, caller.is_sending, partial(self._withdraw, caller))

    async def close(self) -> None:
        """Wait for the writer, then give its connection back. Bounded by its statements' limits."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=2 * CANCEL_LIMIT)
            self._writer.cancel()
            await asyncio.wait({self._writer}, timeout=CANCEL_LIMIT)
        await self._session.close()

    def _withdraw(self, caller: _Caller) -> None:
        if caller in self._queue:  # not if it was refused in the same moment as it was cancelled
            self._queue.remove(caller)

    async def _write(self) -> None:
        """Send until nobody waits. Nobody is left to wait for a writer that has ended."""
        try:
            while self._queue:
                while self._queue:
                    await self._session.ready()
                    if batch := self._take():  # empty if all have been cancelled meanwhile
                        await self._send(batch)
                await self._session.rest()  # takes its time on a user's pool: somebody may have come meanwhile
        except Exception as error:  # told to whom it concerns: nobody asks this task
            self._refuse_queue(error)
        except BaseException:
            self._refuse_queue(AppClosed())
            raise

    def _take(self) -> list[_Caller]:
        batch: list[_Caller] = []
        size = 0
        while self._queue and len(batch) < BATCH_ROWS:
            size += len(self._queue[0].job.args)
            if batch and size > BATCH_BYTES:
                break
            caller = self._queue.popleft()
            caller.sending = True
            batch.append(caller)
        return batch

    async def _send(self, batch: list[_Caller]) -> None:
        try:
            await self._insert(batch)
        finally:
            _tell_unknown(batch)

    async def _insert(self, batch: list[_Caller]) -> None:
        """Insert, and answer each caller. A refused row is found by halving; the ids stay, so nothing goes in twice."""
        try:
            answers = await insert_surely(self._session, NewJobs(caller.job for caller in batch), insert_as_made)
        except AnswerLost:
            _tell_unknown(batch)
        except DATABASE_ERRORS as error:
            await self._refuse(batch, error)
        else:
            for caller, sent in zip(batch, answers, strict=True):
                if not caller.answer.done():
                    caller.answer.set_result(sent)

    async def _refuse(self, batch: list[_Caller], error: BaseException) -> None:
        if classify(error) is not Fault.BAD_DATA:
            for caller in batch:
                caller.fail(error)
        elif len(batch) == 1:
            batch[0].fail(refused_row(batch[0].job.task, error))
        else:
            middle = len(batch) // 2
            await self._insert(batch[:middle])
            await self._insert(batch[middle:])

    def _refuse_queue(self, error: BaseException) -> None:
        """Nothing of those who still queue was sent."""
        waiting, self._queue = self._queue, deque()
        for caller in waiting:
            caller.fail(error)


def _tell_unknown(batch: list[_Caller]) -> None:
    for caller in batch:
        if not caller.answer.done():
            caller.fail(DeferUnknown(caller.job.id))
