"""Writes outcomes: all that have come in since the last write, in one fenced statement.

Owned by the worker, never by a handler's scope. Batches come by themselves while a write is under way; nothing waits
when the worker is idle. Outcomes are held while the database is away, or while somebody has the job's row locked: a
late write is harmless, the fence refuses it if another worker has taken over.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import AttemptError, WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.outcome import Cancelled, Dead, Done, LinedUp, Outcome, PutAside, Retried
from jobqueue.base.service import Patience
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.leases import pardon
from jobqueue.store.outcomes import Ended, Written, write
from jobqueue.worker.ending.folding import Folder
from jobqueue.worker.ending.last_words import LastWords
from jobqueue.worker.ending.lines import Lines
from jobqueue.worker.keeping.holds import Held, Hold, aside_for
from jobqueue.worker.keeping.tally import REFUSED, WORDS

BATCH = 500
_BUSY, _GATHER = 32, 0.004
"""After a batch of so many, seconds in which the next one gathers: half the statements, and nobody waits for a slot."""
_BATCH_BYTES = 8 << 20
_BUSY_TOLD = 1.0
"""Seconds after which it is told that somebody has a job's row locked."""
_REFUSED = AttemptError("OutcomeRefused", "the database refused to store this outcome")


@dataclass(slots=True)
class _Busy:
    """An outcome whose row somebody has locked."""

    ended: Ended
    patience: Patience
    timer: asyncio.TimerHandle
    since: float = field(default_factory=time.monotonic)
    waits: bool = True
    told: bool = False


class Finisher:
    """The one writer of outcomes of a worker."""

    def __init__(
        self, database: Database, worker: WorkerId, holds: Held, words: LastWords, lines: Lines,
        written: Callable[[], None], folder: Folder, freed: Callable[[], None],
    ) -> None:  # fmt: skip
        """`freed` is called when jobs may have given up places that others wait for, or wait for one themselves."""
        self.refused = 0
        """Outcomes that the fence kept out: another worker had taken over."""
        self.can_write = False
        """False while there is no connection to write on: what is claimed then could not be ended."""
        self._database = database
        self._session = database.session(first=True)
        self._worker = worker
        self._holds = holds
        self._words = words
        self._pending: deque[tuple[Hold, Ended]] = deque()
        self._arrived = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._over = False
        self._busy: dict[Hold, _Busy] = {}
        """Outcomes whose rows were locked when they were to be written; each comes again by itself."""
        self._lines = lines
        self._written = written
        self._folder = folder
        self._freed = freed
        self._outage = Outage("finish", get_logger(__name__))

    @property
    def backlog(self) -> int:
        """Outcomes not yet taken into a write; the claimer pauses when this grows."""
        return len(self._pending)

    @property
    def waiting(self) -> int:
        """Outcomes that wait for whoever has their rows locked."""
        return len(self._busy)

    def submit(self, hold: Hold, outcome: Outcome) -> None:
        """Take over an outcome. Never waits, never fails. From a handler that outlived its worker it comes too late."""
        claim = hold.claim
        aside = aside_for(claim) if isinstance(outcome, PutAside) else 0.0
        self._pending.append((hold, Ended(claim["id"], claim["fence"], outcome, aside)))
        self._settled.clear()
        self._arrived.set()
        if self._over:
            self._report_unsaved()

    async def settled(self) -> None:
        """Wait until every outcome submitted so far is written or refused."""
        await self._settled.wait()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; the supervisor waits for `settled` before it cancels."""
        self._session = (await self._database.open_planned_once()).session(first=True)
        try:
            await self._connect()
            task_status.started()
            while not self.can_write:
                await self._connect()
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._pending:
                    batch = self._next_batch()
                    await self._write(batch)
                    if len(batch) >= _BUSY and len(self._pending) < BATCH // 2:
                        await asyncio.sleep(_GATHER)
                if not self._busy:
                    self._settled.set()
        finally:
            self._over = True
            for busy in self._busy.values():
                busy.timer.cancel()
            self._pending.extend((hold, busy.ended) for hold, busy in self._busy.items() if busy.waits)
            self._report_unsaved()
            await self._session.close()

    async def _connect(self) -> None:
        """Before all that can do without one for a while: there may be few connections."""
        try:
            await self._session.ready()
        except DATABASE_ERRORS as error:
            await self._outage.wait(error)
        else:
            self.can_write = True

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
                if locked := await self._words.write(self._session, [hold for hold, _ in batch]):
                    batch = self._without(batch, locked)
                written = await write(self._session, self._worker, [ended for _, ended in batch])
            except DATABASE_ERRORS as error:
                if classify(error) is Fault.BAD_DATA:
                    await self._write_apart(batch)
                    return
                self.can_write = False
                await self._outage.wait(error)
            except BaseException:
                self._pending.extendleft(reversed(batch))  # so that the end of the worker can name them
                raise
            else:
                self.can_write = True
                self._outage.over()
                self._written()
                if written.bundles or written.needed:
                    self._folder.touched(written.bundles, written.needed)
                if any(hold.claim["gates"] is not None or type(ended.outcome) is LinedUp for hold, ended in batch):
                    self._freed()
                await self._conclude(batch, written)
                return

    def _without(self, batch: list[tuple[Hold, Ended]], locked: Collection[Hold]) -> list[tuple[Hold, Ended]]:
        """The others: what these have left unsaid must be written before their end."""
        for hold, ended in batch:
            if hold in locked:
                self._try_again(hold, ended)
        return [(hold, ended) for hold, ended in batch if hold not in locked]

    async def _conclude(self, batch: list[tuple[Hold, Ended]], written: Written) -> None:
        """Tell what became of each; those that are busy come again."""
        completed, refused = self._lines.says_completed, list[Hold]()
        for hold, ended in batch:
            if ended.id in written.busy:
                self._try_again(hold, ended)
                continue
            if self._busy:
                self._busy.pop(hold, None)
            outcome = written.outcomes.get(ended.id)
            self._holds.drop(hold, REFUSED if outcome is None else WORDS[type(outcome)])
            if outcome is None:
                self.refused += 1
                refused.append(hold)
                self._lines.refused(hold, ended.outcome)
            elif completed or not isinstance(outcome, Done):
                self._lines.ended(hold, outcome)
        if refused:
            await self._say_that_we_live(refused)

    def _try_again(self, hold: Hold, ended: Ended) -> None:
        """Later, and each time later: somebody's transaction has the row."""
        busy, hold.busy = self._busy.get(hold), True
        patience = Patience(first=0.005, cap=1.0) if busy is None else busy.patience
        if busy is not None and not busy.told and time.monotonic() - busy.since > _BUSY_TOLD:
            busy.told = True
            self._lines.locked(hold, ended.outcome)
        timer = asyncio.get_running_loop().call_later(patience.next(), self._again, hold)
        if busy is None:
            self._busy[hold] = _Busy(ended, patience, timer)
        else:
            busy.timer, busy.waits = timer, True

    def _again(self, hold: Hold) -> None:
        busy = self._busy[hold]
        busy.waits = False
        self._pending.append((hold, busy.ended))
        self._arrived.set()

    async def _say_that_we_live(self, refused: list[Hold]) -> None:
        """Somebody took us for dead, and perhaps counted that as a crash of these jobs."""
        with contextlib.suppress(*DATABASE_ERRORS):
            for counts in (True, False):
                theirs = [hold.id for hold in refused if hold.unheard is not counts]
                if theirs:
                    await pardon(self._session, self._worker, theirs, counts=counts)

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
        instead = _with_less_text(ended.outcome)
        if instead == ended.outcome:
            hold.gone = True  # kept, so that it is not given back as a stray: the rescue counts how often that happens
            self._lines.unsaved(hold, ended.outcome)
            return
        await self._write([(hold, replace(ended, outcome=instead))])

    def _report_unsaved(self) -> None:
        while self._pending:
            hold, ended = self._pending.popleft()
            self._lines.unsaved(hold, ended.outcome)


def _with_less_text(outcome: Outcome) -> Outcome:
    """What the database may store instead. A failure stays one at first, without its words: its attempts count."""
    if isinstance(outcome, Retried) and outcome.error.error_class != _REFUSED.error_class:
        return replace(outcome, error=replace(_REFUSED, attempt=outcome.error.attempt))
    if isinstance(outcome, Dead | Cancelled) and outcome.error not in (None, _REFUSED):
        return replace(outcome, error=_REFUSED)
    return Dead("result", _REFUSED)
