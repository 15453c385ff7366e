"""What is counted of the jobs that are claimed and unfinished, because only so many may be."""

from collections import Counter
from collections.abc import Callable, Container

from jobqueue.worker.keeping.holds import Hold


class Quotas:
    """Counts by queue."""

    def __init__(self) -> None:
        self.held = Counter[str]()
        """Claimed and unfinished jobs by queue."""
        self.limited: Container[str] = ()
        """The queues of which only so many may run at once."""
        self.when_freed: Callable[[], None] = lambda: None
        """Called when a job has left of which only so many may run at once: the next one waits for nothing else."""

    def count(self, hold: Hold) -> None:
        """It is claimed."""
        self.held[hold.claim["queue"]] += 1

    def uncount(self, hold: Hold) -> None:
        """It has left."""
        queue = hold.claim["queue"]
        self.held[queue] -= 1
        if queue in self.limited:
            self.when_freed()
