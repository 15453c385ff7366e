"""What a worker or producer process notes of itself, and tells at its end: in a line of JSON on stdout.

Imports nothing that takes time: the limit's programs are as bare as can be.
"""

import json
import resource
import sys
import time


class Meter:
    """Counts the jobs of one process."""

    def __init__(self) -> None:
        self.jobs = 0
        self.delays: list[float] = []
        """Seconds from when a job was sent until it ran. The clock is the same in all processes of a machine."""
        self._first = 0.0
        self._cpu = 0.0

    def begin(self) -> None:
        """What went before is no part of the cost."""
        self._first, self._cpu = time.monotonic(), time.process_time()

    def job(self, jobs: int = 1) -> None:
        """Call it first in each job."""
        if not self.jobs:
            self.begin()
        self.jobs += jobs

    def report(self) -> None:
        """Tell what there is to tell."""
        document = {
            "jobs": self.jobs,
            "first": self._first,
            "last": time.monotonic(),
            "cpu": time.process_time() - self._cpu,
            "rss": peak_memory(),
            "delays": self.delays,
        }
        sys.stdout.write(f"{json.dumps(document)}\n")
        sys.stdout.flush()


def peak_memory() -> float:
    """The most memory that this program had, in MiB."""
    try:
        with open("/proc/self/status") as status:  # the other way counts what the parent had when it started us, too
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)
