"""Writes outcomes: all that have come in since the last write, in one fenced statement.

Owned by the worker, never by a handler's scope. Batches come by themselves while a write is under way; nothing waits
when the worker is idle. Outcomes are held while the database is away: a late write is harmless, the fence refuses it
if another worker has taken over.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import replace
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import AttemptError, WorkerId
from jobqueue.base.log import get_logger, job_facts
from jobqueue.base.outcome import Cancelled, Dead, Done, Outcome, PutAside, Released, Retried, Snoozed
from jobqueue.base.service import Seldom
from jobqueue.store.claims import Claim
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database, Session
from jobqueue.store.leases import pardon
from jobqueue.store.outcomes import Ended, write_each
from jobqueue.worker.ending.progress import Reporter
from jobqueue.worker.keeping.holds import Held, Hold, aside_for
from jobqueue.worker.keeping.tally import REFUSED, WORDS

BATCH = 500
_BATCH_BYTES = 8 << 20
_REFUSED = AttemptError("OutcomeRefused", "the database refused to store this outcome")


class Finisher:
    """The one writer of outcomes of a worker."""

    def __init__(self, database: Database, worker: WorkerId, holds: Held, reporter: Reporter) -> None:
        self.refused = 0
        """Outcomes that the fence kept out: another worker had taken over."""
        self._session = Session(database)
        self._worker = worker
        self._holds = holds
        self._reporter = reporter
        self._pending: deque[tuple[Hold, Ended]] = deque()
        self._arrived = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._over = False
        self._seldom_aside = Seldom()
        self._asides = 0
        self._log = get_logger(__name__)
        self._outage = Outage("finish", self._log)

    @property
    def backlog(self) -> int:
        """Outcomes not yet taken into a write; the claimer pauses when this grows."""
        return len(self._pending)

    def submit(self, hold: Hold, outcome: Outcome) -> None:
        """Take over an outcome. Never waits, never fails. From a handler that outlived its worker it comes too late."""
        claim = hold.claim
        self._pending.append((hold, Ended(claim["id"], claim["fence"], outcome, aside_for(claim))))
        self._settled.clear()
        self._arrived.set()
        if self._over:
            self._report_unsaved()

    async def settled(self) -> None:
        """Wait until every outcome submitted so far is written or refused."""
        await self._settled.wait()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; the supervisor waits for `settled` before it cancels."""
        task_status.started()
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._pending:
                    await self._write(self._next_batch())
                self._settled.set()
        finally:
            self._over = True
            self._report_unsaved()
            await self._session.close()

    def _next_batch(self) -> list[tuple[Hold, Ended]]:
        batch: list[tuple[Hold, Ended]] = []
        size = 0
        while self._pending and len(batch) < BATCH and size < _BATCH_BYTES:
            batch.append(self._pending.popleft())
            outcome = batch[-1][1].outcome
            size += len(outcome.result) if isinstance(outcome, Done) else 0
        return batch

    async def _write(self, batch: list[tuple[Hold, Ended]]) -> None:
        while True:
            try:
                await self._reporter.write_last_words(self._session, [hold for hold, _ in batch])
                written = await write_each(self._session, [ended for _, ended in batch])
            except DATABASE_ERRORS as error:
                if classify(error) is Fault.BAD_DATA:
                    await self._write_apart(batch)
                    return
                await self._outage.wait(error)
            except BaseException:
                self._pending.extendleft(reversed(batch))  # so that the end of the worker can name them
                raise
            else:
                self._outage.over()
                if len(written) < len(batch):
                    await self._say_that_we_live([ended.id for _, ended in batch if ended.id not in written])
                debugs = self._log.debugs
                for hold, ended in batch:
                    outcome = written.get(ended.id)
                    self._holds.drop(hold, REFUSED if outcome is None else WORDS[type(outcome)])
                    if outcome is None:
                        self._report_refused(hold.claim, ended.outcome)
                    elif debugs or not isinstance(outcome, Done):
                        self._report(hold.claim, outcome)
                return

    async def _say_that_we_live(self, refused: list[UUID]) -> None:
        """Somebody took us for dead, and perhaps counted that as a crash of these jobs."""
        with contextlib.suppress(*DATABASE_ERRORS):
            await pardon(self._session, self._worker, refused)

    async def _write_apart(self, batch: list[tuple[Hold, Ended]]) -> None:
        """Find the outcome that the database refuses by halving; only that job ends badly."""
        if len(batch) > 1:
            first, second = batch[: len(batch) // 2], batch[len(batch) // 2 :]
            try:
                await self._write(first)
            except BaseException:
                self._pending.extend(second)  # so that the end of the worker can name them too
                raise
            await self._write(second)
            return
        hold, ended = batch[0]
        if ended.outcome == Dead("result", _REFUSED):
            hold.gone = True  # kept, so that it is not given back as a stray: the rescue counts how often that happens
            self._log.error("job.outcome_unsaved", job_id=str(ended.id), task=hold.claim["task"], outcome="dead")
            return
        await self._write([(hold, replace(ended, outcome=Dead("result", _REFUSED)))])

    def _report_refused(self, claim: Claim, outcome: Outcome) -> None:
        self.refused += 1
        self._log.warning("job.refused", outcome=WORDS[type(outcome)], **job_facts(claim))

    def _report(self, claim: Claim, outcome: Outcome) -> None:
        facts = job_facts(claim)
        match outcome:
            case Done():
                self._log.debug("job.completed", **facts)
            case Retried():
                self._log.warning("job.retried", error=outcome.error.error_class, delay=outcome.delay, **facts)
            case Dead():
                self._log.error(
                    "job.dead", reason=outcome.reason, error=outcome.error and outcome.error.error_class, **facts
                )
            case PutAside():
                self._asides += 1
                if self._seldom_aside():  # an old worker meets a whole backlog of a new task: a line a second tells it
                    self._log.warning("job.put_aside", reason=outcome.reason, jobs=self._asides, **facts)
                    self._asides = 0
            case Snoozed():
                self._log.info("job.snoozed", **facts)
            case Cancelled():
                self._log.info("job.cancelled", **facts)
            case Released():
                self._log.info("job.released", **facts)

    def _report_unsaved(self) -> None:
        while self._pending:
            hold, ended = self._pending.popleft()
            word = WORDS[type(ended.outcome)]
            self._log.error("job.outcome_unsaved", job_id=str(ended.id), task=hold.claim["task"], outcome=word)
