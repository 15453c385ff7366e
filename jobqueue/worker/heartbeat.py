"""Renews the claims of one worker, from a thread of its own, so that a job which blocks the event loop keeps its claim.

A claim whose renewal does not come through in time is given up here before it ends there: its run is cancelled a beat
before the lease is over, so that two runs of a job never overlap while both sides can still act. (Code that holds the
interpreter for longer than a lease stops this thread as well; then only the fence keeps the late run out.)

On a user's own pool there is no connection for a second loop: then the beat runs on the worker's loop.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.settings import Settings
from jobqueue.store import workers
from jobqueue.store.faults import DATABASE_ERRORS
from jobqueue.store.leases import Kept, Renewal, pardon, renew
from jobqueue.store.outage import Outage
from jobqueue.store.pool import Database, Session
from jobqueue.store.workers import Registration
from jobqueue.worker.beside import run_beside
from jobqueue.worker.holding import Held, Hold
from jobqueue.worker.watchdog import Watchdog

HUNG = 10
"""Leases for which the event loop may be blocked until the beat stops on purpose: others take the jobs over."""
_ASK_AGAIN = 1.0
_CLOSE_LIMIT = 1.0


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
        registration: Registration,
    ) -> None:
        """`lose` is called on the worker's loop with holds whose claims are over, or will be in a beat."""
        self.when_hung: Callable[[], None] | None = None
        """Called in this thread when the loop was blocked until the claims were let go and their leases over."""
        self._hung = False
        self._database = database
        self._worker = worker
        self._lease = settings.lease
        self._beat = settings.beat
        self._holds = holds
        self._watchdog = watchdog
        self._lose = lose
        self._registration = registration
        self._log = get_logger(__name__).bind(worker=str(worker))

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Beat until cancelled. Survives every database error."""
        task_status.started()
        if not self._database.can_open_beside:
            await self._beat_on(self._database)
            return
        loop, lose = asyncio.get_running_loop(), self._lose
        self._lose = partial(_call_in, loop, lose)
        await run_beside(self._beat_beside, "jobqueue heartbeat")
        raise RuntimeError("the heartbeat has ended")

    async def _beat_beside(self) -> None:
        database = await self._database.open_beside()
        try:
            await self._beat_on(database)
        finally:
            await database.close(_CLOSE_LIMIT)

    async def _beat_on(self, database: Database) -> None:
        session = Session(database)
        outage = Outage("beat", self._log, cap=_ASK_AGAIN)
        try:
            while True:
                began = time.monotonic()
                try:
                    pause = await self._beat_once(session)
                    outage.over()
                except DATABASE_ERRORS as error:
                    pause = min(outage.met(error), self._beat / 2)
                self._give_up_late()
                await session.rest()
                await anyio.sleep(max(0.0, began + pause - time.monotonic()))
        finally:
            await session.close()

    async def _beat_once(self, session: Session) -> float:
        """Renew what has not been renewed for a while; in how many seconds to do it again."""
        if self._hangs():
            return self._beat
        now = time.monotonic()
        # A claim younger than half a beat can wait for the next one: most jobs have ended by then.
        due = [
            hold
            for hold in self._holds.snapshot()
            if not hold.gone and now - (hold.lease_ends - self._lease) >= self._beat / 2
        ]
        kept = [Kept(hold.id, hold.fence, hold.attempt is not None) for hold in due]
        with anyio.fail_after(self._beat / 2):
            known, renewals = await renew(session, self._worker, self._lease, self._lease - self._beat, kept)
            if not known:
                await workers.register(session, self._worker, self._registration)
        gone = [hold for hold in due if renewals[hold.fence] is Renewal.GONE]
        for hold in due:
            if renewals[hold.fence] is Renewal.RENEWED:
                hold.lease_ends = now + self._lease
        for hold in gone:
            hold.gone = hold.lost = True
        if gone:
            self._lose(gone)
            await pardon(session, self._worker, [hold.id for hold in gone])
        again = Renewal.BUSY in renewals.values()
        return min(_ASK_AGAIN, self._beat / 2) if again else self._beat * random.uniform(0.9, 1.0)  # noqa: S311 - spreads load

    def _give_up_late(self) -> None:
        """Let go of claims that end within a beat: somebody else may take them over then."""
        soon = time.monotonic() + self._beat
        late = [hold for hold in self._holds.snapshot() if not hold.lost and hold.lease_ends < soon]
        for hold in late:
            hold.lost = True
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


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[Sequence[Hold]], None], holds: Sequence[Hold]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and its jobs with it
        loop.call_soon_threadsafe(call, holds)
