"""Renews the claims of one worker, from a thread of its own, so that a job which blocks the event loop keeps its claim.

A claim whose renewal does not come through in time is given up here before it ends there: its run is cancelled a beat
before the lease is over, so that two runs of a job never overlap while both sides can still act. (Code that holds the
interpreter for longer than a lease stops this thread as well; then only the fence keeps the late run out.) A worker
that the database does not hear claims nothing, and what it loses by that is not counted against its jobs.

On a user's own pool there is no connection for a second loop: then the beat runs on the worker's loop.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.settings import Settings
from jobqueue.store import workers
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.leases import Kept, Renewal, pardon, renew
from jobqueue.store.workers import Registration
from jobqueue.worker.keeping.beside import run_beside
from jobqueue.worker.keeping.board import Stuck
from jobqueue.worker.keeping.holds import Held, Hold
from jobqueue.worker.keeping.tally import LOST
from jobqueue.worker.keeping.watchdog import Watchdog

T = TypeVar("T")

HUNG = 10
"""Leases for which the event loop may be blocked until the beat stops on purpose: others take the jobs over."""
_ASK_AGAIN = 1.0
_CLOSE_LIMIT = 1.0
_FORGET_AFTER = 60.0


class Heart:
    """Beats until cancelled; the last part of a worker to stop."""

    def __init__(
        self,
        database: Database,
        worker: WorkerId,
        settings: Settings,
        holds: Held,
        watchdog: Watchdog,
        lose: Callable[[Sequence[Hold]], None],
        cancel: Callable[[Collection[int]], None],
        registration: Registration,
    ) -> None:
        """`lose` is called on the worker's loop with holds whose claims are over, or will be in a beat.

        `cancel` is called there with the fences of claims whose jobs were asked to end. What is on the
        watchdog's board is shown in the worker's row.
        """
        self.when_hung: Callable[[], None] | None = None
        """Called in this thread when the loop was blocked until the claims were let go and their leases over."""
        self._hung = False
        self._watch: asyncio.TimerHandle
        self._loop: asyncio.AbstractEventLoop | None = None
        self._database = database
        self._worker = worker
        self._lease = settings.lease
        self._beat = settings.beat
        self._holds = holds
        self._watchdog = watchdog
        self._lose = lose
        self._cancel = cancel
        self._forget: Callable[[Hold], None] = partial(holds.drop, outcome=LOST)
        self._tell: Callable[[], None] = lambda: self.when_answered()
        self.turned_at = time.monotonic()
        """When it last moved, on this process's clock; before that, when it was made."""
        self.answered_at = float("-inf")
        """When the database last answered it, on the same clock."""
        self.when_answered: Callable[[], None] = lambda: None
        """Called on the worker's loop when an answer has come after a silence, the first one too."""
        self._longest_pause = 0.0
        """For how long it did not move, at the most, since the last answer."""
        self._registration = registration
        self._shown: tuple[Stuck, ...] = ()
        self._log = get_logger(__name__).bind(worker=str(worker))

    @property
    def is_heard(self) -> bool:
        """Whether the database answers: a claim made now could be renewed."""
        return time.monotonic() - self.answered_at < self._lease / 2

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Beat until cancelled. Survives every database error."""
        task_status.started()
        if not self._database.can_open_beside:
            await self._beat_on(self._database)
            return
        self._loop = asyncio.get_running_loop()
        self._lose = partial(_call_in, self._loop, self._lose)
        self._cancel = partial(_call_in, self._loop, self._cancel)
        self._forget = partial(_call_in, self._loop, self._forget)
        self._tell = partial(_call_in, self._loop, lambda nothing: self.when_answered(), None)
        await run_beside(self._beat_beside, "jobqueue heartbeat")
        raise RuntimeError("the heartbeat has ended")

    async def _beat_beside(self) -> None:
        database = await self._database.open_beside()
        try:
            await self._beat_on(database)
        finally:
            await database.close(_CLOSE_LIMIT)

    async def _beat_on(self, database: Database) -> None:
        session = database.session(first=True)
        outage = Outage("beat", self._log, cap=_ASK_AGAIN)
        self._watch_leases(asyncio.get_running_loop())
        try:
            while self._loop is None or not self._loop.is_closed():
                began = time.monotonic()
                try:
                    pause = await self._beat_once(session)
                    outage.over()
                except DATABASE_ERRORS as error:
                    pause = min(outage.met(error), self._beat / 2)
                await anyio.sleep(max(0.0, began + pause - time.monotonic()))
        finally:
            self._watch.cancel()
            await session.close()

    def _watch_leases(self, loop: asyncio.AbstractEventLoop) -> None:
        """By the clock, however long a renewal takes."""
        now = time.monotonic()
        self._longest_pause = max(self._longest_pause, now - self.turned_at)
        self.turned_at = now
        self._watch = loop.call_later(self._beat / 4, self._watch_leases, loop)
        self._give_up_late()

    async def _beat_once(self, session: Session) -> float:
        """Renew what has not been renewed for a while; in how many seconds to do it again."""
        if self._hangs():
            return self._beat
        now = time.monotonic()
        # A claim younger than half a beat can wait for the next one: most jobs have ended by then.
        due = [
            hold
            for hold in self._holds.snapshot()
            if not hold.gone
            and now - (hold.lease_ends - self._lease) >= self._beat / 2
            and not (hold.busy and hold.lease_ends - now > self._lease / 2)
        ]
        kept = [Kept(hold.id, hold.fence, hold.attempt is not None) for hold in due]
        with anyio.fail_after(self._time_for(due)):
            answer = await renew(session, self._worker, self._lease, self._lease - self._beat, kept)
            self._answered()
            for hold in due:
                if answer.renewals[hold.fence] is Renewal.RENEWED:
                    hold.lease_ends = now + self._lease
            if not answer.known:
                await workers.register(session, self._worker, self._registration)
                self._shown = ()
            if answer.cancelled:
                self._cancel(answer.cancelled)
            gone = [hold for hold in due if answer.renewals[hold.fence] is Renewal.GONE]
            for hold in gone:
                hold.gone = hold.lost = True
            if gone:
                self._lose(gone)
                for counts in (True, False):
                    theirs = [hold.id for hold in gone if hold.unheard is not counts]
                    if theirs:
                        await pardon(session, self._worker, theirs, counts=counts)
            await self._show(session)
        again = Renewal.BUSY in answer.renewals.values()
        return min(_ASK_AGAIN, self._beat / 2) if again else self._beat * random.uniform(0.9, 1.0)  # noqa: S311 - spreads load

    async def _show(self, session: Session) -> None:
        """Write what is stuck, if that is news."""
        board = self._watchdog.board.now()
        if board != self._shown and await workers.show_stuck(session, self._worker, [one.told() for one in board]):
            self._shown = board

    def _answered(self) -> None:
        heard, self.answered_at, self._longest_pause = self.is_heard, time.monotonic(), 0.0
        if not heard:
            self._tell()

    def _time_for(self, due: Sequence[Hold]) -> float:
        """Seconds for one try: half of what is left, so that a slow database gets its time and another try is left."""
        left = min((hold.lease_ends for hold in due), default=0.0) - self._beat - time.monotonic()
        return max(self._beat / 2, left / 2)

    def _give_up_late(self) -> None:
        """Let go of claims that end within a beat: somebody else may take them over then."""
        now = time.monotonic()
        soon, long_ago = now + self._beat, now - _FORGET_AFTER
        late = []
        for hold in self._holds.snapshot():
            if hold.gone and hold.lease_ends < long_ago:
                self._forget(hold)
            elif not hold.lost and hold.lease_ends < soon:
                late.append(hold)
        # Blocked itself, by a job that keeps the interpreter to itself, it could not ask: that is the job's doing.
        unheard = not self.is_heard and self._longest_pause < self._lease / 2
        for hold in late:
            hold.lost, hold.unheard = True, unheard
        if late:
            self._lose(late)

    def _hangs(self) -> bool:
        """True while the event loop has been blocked for too long: then nothing is renewed, on purpose."""
        blocked = self._watchdog.blocked_for()
        hangs = blocked > HUNG * self._lease
        if hangs and not self._hung:
            self._log.critical("worker.hung", seconds=round(blocked, 1))
        self._hung = hangs
        if blocked > (HUNG + 1) * self._lease and self.when_hung is not None:
            self.when_hung()
        return hangs


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[T], None], about: T) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and its jobs with it
        loop.call_soon_threadsafe(call, about)
