"""What a process of the bench has of its own: the line to the bench, and what it notes of itself.

The bench's end of both is `children.py`; our own worker has a line of its own (`--child`) that does the same. Imports
nothing that takes time: the limit's programs are as bare as can be.
"""

import asyncio
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

SCHEMA = "JOBQUEUE_BENCH_SCHEMA"
"""The variable that names the schema; the database is where `JOBQUEUE_DSN` says."""


class Line:
    """Says that the process is ready, hears when to go on, ends the process with the bench. Made in the event loop."""

    def __init__(self, descriptor: int) -> None:
        self.told = asyncio.Event()
        """Set once the bench has said so: begin, or stop."""
        self._line = socket.socket(fileno=descriptor)
        self._loop = asyncio.get_running_loop()

    def ready(self, wake: Callable[[], object] = lambda: None) -> None:
        """Say it, and listen from now on; `wake` is called in the loop when the bench has said so."""
        threading.Thread(target=self._listen, args=[wake], name="jobqueue bench", daemon=True).start()
        self._line.send(b"ready\n")

    def _listen(self, wake: Callable[[], object]) -> None:
        """In a thread, so that nothing keeps this process from ending with the bench."""
        with suppress(OSError, RuntimeError):  # the loop is closed: it is about to end
            while self._line.recv(1):
                self._loop.call_soon_threadsafe(self.told.set)
                self._loop.call_soon_threadsafe(wake)
        os._exit(1)


class Meter:
    """What one process notes, and tells at its end: a line of JSON on stdout."""

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


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on uvloop if there is one, as our worker."""
    try:
        import uvloop  # not on every platform
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
