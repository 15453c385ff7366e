"""A worker process under a supervising parent (`processes.py`): says that it lives, and ends when the parent is gone.

Both hold one end of a socket pair. Up go lines: once `ready <silence> <drain limit>` in seconds, then `alive` as long
as the event loop turns. Down come digits: the stage that the stop has to reach, counted like signals. The parent's end
of the line closes with the parent, however it dies.
"""

import asyncio
import os
import socket
import threading
from contextlib import suppress

from jobqueue.base.settings import Settings
from jobqueue.cli.terminal.failures import tell_now
from jobqueue.cli.worker.stopping import Stopping
from jobqueue.worker.keeping.heartbeat import HUNG

BREATH = 1.0
"""Seconds between two signs of life, at most."""


class Leash:
    """The child's end."""

    def __init__(self, descriptor: int, stopping: Stopping) -> None:
        self._line = socket.socket(fileno=descriptor)
        self._line.set_inheritable(False)  # what the user's code starts must not hold it
        self._stopping = stopping
        threading.Thread(target=self._obey, name="jobqueue parent", daemon=True).start()

    def ready(self, settings: Settings) -> None:
        """Tell the parent that the worker runs; signs of life follow from the running event loop."""
        silence = HUNG * settings.lease
        self._say(f"ready {silence} {settings.drain_timeout}")
        self._breathe(asyncio.get_running_loop(), min(BREATH, settings.lease))

    def _breathe(self, loop: asyncio.AbstractEventLoop, pause: float) -> None:
        self._say("alive")
        loop.call_later(pause, self._breathe, loop, pause)

    def _say(self, text: str) -> None:
        with suppress(OSError):  # a parent that is stopped does not read, one that is gone does not listen
            self._line.send(f"{text}\n".encode(), socket.MSG_DONTWAIT)

    def _obey(self) -> None:
        """In a thread of its own, so that a blocked event loop does not keep a stop from its hard end."""
        with suppress(OSError):
            while order := self._line.recv(1):
                self._stopping.reach(int(order))
        tell_now(
            f"the parent of worker process {os.getpid()} is gone: it gives back what runs, and ends", own_line=False
        )
        self._stopping.reach(2)
