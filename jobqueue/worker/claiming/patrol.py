"""Looks for what no claim would see: jobs below the marks, and jobs in queues that nobody has named.

Once a second while the worker is busy, and before it sleeps. It reads only. Where an old snapshot makes that long, it
goes a piece at a time and rests in between, so that it costs a claim nothing.

A young worker knows nothing of what has gone. Its first round tells: down to where that was cheap, claims look at
everything, on most tables to the bottom. What is ready farther down they see when it is found.
"""

import random
import time
from collections.abc import Sequence

from jobqueue.store import claims
from jobqueue.store.connection.faults import CUT_SHORT
from jobqueue.store.connection.session import Session
from jobqueue.store.leases import newest_seq
from jobqueue.worker.claiming.marks import Marks
from jobqueue.worker.claiming.queues import Queues
from jobqueue.worker.keeping.windows import BOTTOM, REST, TOP, Rest, Windows, is_long

_INTERVAL = 1.0
_CHEAP = 0.02
_PROBE = 0.00005
"""Seconds that a look may take altogether in which nothing has gone, and for each queue and priority that it finds."""
_IDLE_REST = 4
"""Who has nothing else to do rests less in the first round: nobody else may know of what is ready."""


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
        self._first = self._cheap = True
        """In the first round; and all that it has passed so far was cheap."""
        self._spent = 0.0
        self.long = False
        """True if it takes long to look at everything."""
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

    async def walk(
        self,
        session: Session,
        unknown: Sequence[str],
        aside_age: float,
        *,
        idle: bool = False,
        whole: bool = False,
    ) -> bool:
        """Look; True if there is what the last claim cannot have seen.

        `whole`: everything, however long it takes. `idle`: there is nothing else to do.
        """
        spent, news, over = 0.0, False, False
        self._again = self._again or (self.stale and self._midway)
        if not self.begun:
            self._begin_anew(await newest_seq(session))
        elif whole or not self._midway:
            self._begin(self._newest)
        self.begun, self.stale = True, False
        while not over and (whole or not is_long(spent)):
            piece = self._windows.piece(self._newest)
            try:
                ready, newest, took = await claims.ready_between(session, *piece, unknown, aside_age)
            except CUT_SHORT:
                self._windows.cut_short()
                raise
            spent += took
            if self._marks.tell(newest, time.monotonic()):
                self._begin_anew(newest)
                continue
            self._feel(piece, max(0.0, took - _PROBE * len(ready)))
            for job in ready:
                news = self._find(job, piece[1]) or news
            over = self._windows.passed(piece[0], took)
            if over:
                self._marks.patrolled(self._since)
                self._newest = newest
        self._rest.begin(spent, _IDLE_REST if idle and self._first else REST)
        self.long = not over or is_long(spent)
        self.owing, self._midway = not over or self._again, not over
        self._again, self._first = self._again and not over, self._first and not over
        self._due = time.monotonic() + (_INTERVAL * random.uniform(0.8, 1.2) if over else 0.0)  # noqa: S311 - spreads load
        return news

    def _begin_anew(self, newest: int) -> None:
        """The first round of one who knows nothing."""
        self._windows, self._first, self._cheap, self._spent = Windows(), True, True, 0.0
        self._begin(newest)

    def _begin(self, newest: int) -> None:
        """A round down from here; once it is over, nothing is left below what had settled when it began."""
        self._newest, self._since = newest, self._marks.settled
        self._windows.again()

    def _feel(self, piece: tuple[int, int], spent: float) -> None:
        """In the first round: a claim looks as far down as that has cost little, and at the first piece."""
        self._spent += spent
        if self._first and self._cheap and self._spent > _CHEAP:
            self._cheap = False
            self._marks.begin(piece[0] if piece[1] == TOP else piece[1])

    def _find(self, job: claims.Ready, upto: int) -> bool:
        new = self._queues.found(job.queue)
        return new is not None and (self._marks.late(job, min(upto, self._newest)) or new)
