"""Looks for what no claim would see: jobs below the marks, and jobs in queues that nobody has named.

Once a second while the worker is busy, and before it sleeps. It reads only. Where an old snapshot makes that long, it
goes a piece at a time and rests in between, so that it costs a claim nothing.
"""

import random
import time
from collections.abc import Sequence

from jobqueue.store import claims
from jobqueue.store.connection.faults import CUT_SHORT
from jobqueue.store.connection.pool import Session
from jobqueue.store.leases import newest_seq
from jobqueue.worker.claiming.marks import Marks
from jobqueue.worker.claiming.queues import Queues
from jobqueue.worker.keeping.windows import BOTTOM, Rest, Windows, is_long

_INTERVAL = 1.0


class Patrol:
    """One worker's look at everything."""

    def __init__(self, queues: Queues, marks: Marks) -> None:
        self.stale = True
        """True when something may have come up that no claim sees: at the start, after a gap, before each sleep."""
        self.begun = False
        """False until it has looked for the first time."""
        self.owing = False
        """True once a claim has found jobs: with them may have come some below the marks, as in a resumed queue. And in
        the middle of a round, which goes on after a rest."""
        self._queues = queues
        self._marks = marks
        self._midway = self._again = False
        """In the middle of a round; something may have come up where it has passed, so that another one follows."""
        self._windows = Windows()
        self._newest = 0
        self._due = 0.0
        self._rest = Rest()
        self._since = BOTTOM

    @property
    def wanted(self) -> bool:
        """True if it should look now."""
        return not self._rest.left and (self.stale or time.monotonic() >= self._due)

    @property
    def owed_in(self) -> float:
        """In how many seconds it should look, for the sake of a worker that has nothing else to do."""
        if self.stale:
            return self._rest.left
        return max(self._rest.left, self._due - time.monotonic()) if self.owing else float("inf")

    def restart(self) -> None:
        """All marks are forgotten."""
        self.stale, self.begun = True, False
        self._rest.end()

    async def walk(self, session: Session, unknown: Sequence[str], aside_age: float, *, whole: bool = False) -> bool:
        """Look; True if there is what the last claim cannot have seen. `whole`: everything, however long it takes."""
        spent, news, over = 0.0, False, False
        self._again = self._again or (self.stale and self._midway)
        if not self.begun:
            self._begin(await newest_seq(session))
        elif whole:
            self._begin(self._newest)
        self.begun, self.stale = True, False
        while not over and (whole or not is_long(spent)):
            piece = self._windows.piece(self._newest)
            began = time.monotonic()
            try:
                ready, newest = await claims.ready_between(session, *piece, unknown, aside_age)
            except CUT_SHORT:
                self._windows.cut_short()
                raise
            took = time.monotonic() - began
            spent += took
            if self._marks.tell(newest, began + took):
                self._begin(newest)
                continue
            for job in ready:
                news = self._find(job, piece[1]) or news
            over = self._windows.passed(piece[0], took)
            if over:
                self._marks.patrolled(self._since)
                self._begin(newest)
        self.owing, self._midway = not over or self._again, not over
        self._again = self._again and not over
        self._rest.begin(spent)
        self._due = time.monotonic() + (_INTERVAL * random.uniform(0.8, 1.2) if over else 0.0)  # noqa: S311 - spreads load
        return news

    def _begin(self, newest: int) -> None:
        """A round down from here; once it is over, nothing is left below what had settled when it began."""
        self._newest, self._since = newest, self._marks.settled
        self._windows.again()

    def _find(self, job: claims.Ready, upto: int) -> bool:
        new = self._queues.found(job.queue)
        return new is not None and (self._marks.late(job, min(upto, self._newest)) or new)
