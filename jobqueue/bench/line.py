"""The child's end of the line to the bench: says that it is ready, is told to go on, and ends when the bench is gone.

Our worker's own line (`--child`) does the same. Imports nothing that takes time.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

SCHEMA = "JOBQUEUE_BENCH_SCHEMA"
"""The variable that names the schema; the database is where `JOBQUEUE_DSN` says."""


class Line:
    """Make it in the event loop."""

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


def run(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, on uvloop if there is one, as our worker."""
    try:
        import uvloop  # not on every platform
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
