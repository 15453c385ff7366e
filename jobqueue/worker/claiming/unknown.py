"""The tasks that this worker has met and does not know: their jobs are left to workers that know them.

Of each such task it claims a few jobs and puts them aside; then it asks for no more of them, so that another app's jobs
in the same queue cost neither of them anything. What has been aside for too long it claims once more, to end it.
"""

from collections.abc import Sequence

from jobqueue.store.claims import Claim
from jobqueue.worker.keeping.holds import aside_for
from jobqueue.worker.slots.runs import Tasks

_MOST = 100
"""Names that a claim carries at the most; the oldest is forgotten for another."""


class Unknown:
    """The names, empty for a worker that meets only what it knows."""

    def __init__(self, tasks: Tasks, max_age: float) -> None:
        """`max_age`: seconds aside after which a job ends."""
        self.names: list[str] = []
        self._tasks = tasks
        self._max_age = max_age
        self._known = set[str]()

    def meet(self, rows: Sequence[Claim]) -> None:
        """These jobs have come."""
        for row in rows:
            task = row["task"]
            if task in self._known or task in self.names:
                continue
            if self._tasks.find(task) is not None:
                self._known.add(task)
            elif aside_for(row) < self._max_age:  # else it ends now, and others of its task may have to as well
                self.names = [*self.names, task][-_MOST:]

    def registered(self) -> frozenset[str]:
        """Those that have been registered since; they count as known from now on."""
        known = frozenset(name for name in self.names if self._tasks.find(name) is not None)
        if known:
            self.names = [name for name in self.names if name not in known]
        return known
