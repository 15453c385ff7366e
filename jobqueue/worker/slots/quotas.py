"""What is counted of the jobs that are claimed and unfinished, because only so many may be."""

from collections import Counter
from collections.abc import Callable, Container

from jobqueue.worker.keeping.holds import Hold


class Quotas:
    """Counts by queue, and of the suspects."""

    def __init__(self) -> None:
        self.held = Counter[str]()
        """Claimed and unfinished jobs by queue."""
        self.suspects = 0
        """How many of them have seen their worker die: one at a time, so that only they can be blamed twice."""
        self.limited: Container[str] = ()
        """The queues of which only so many may run at once; of suspects it is one."""
        self.when_freed: Callable[[], None] = lambda: None
        """Called when a job has left of which only so many may run at once: the next one waits for nothing else."""

    def count(self, hold: Hold) -> None:
        """It is claimed."""
        self.held[hold.claim["queue"]] += 1
        self.suspects += hold.suspect

    def uncount(self, hold: Hold) -> None:
        """It has left."""
        queue = hold.claim["queue"]
        self.held[queue] -= 1
        self.suspects -= hold.suspect
        if hold.suspect or queue in self.limited:
            self.when_freed()
