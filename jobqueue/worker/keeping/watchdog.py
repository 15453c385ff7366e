"""Watches the worker's event loop from a thread: how late it is, and who blocks it.

A task that blocks the loop (a long computation, `time.sleep`, a synchronous driver) stops every other job beside it,
and nothing on the loop can say so. The heartbeat asks here whether the loop still turns: a worker that hangs for good
must not keep its claims for ever.
"""

import asyncio
import contextlib
import threading
import time

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.base.looking.stuck import BLOCKS
from jobqueue.worker.keeping.board import Board, Stuck
from jobqueue.worker.keeping.holds import Held
from jobqueue.worker.keeping.stacks import stack_of_thread

_LOOK = 0.25
_BLOCKED = 1.0
"""Seconds without a turn of the loop after which it counts as blocked; said again after 2, 4, 8, ..."""


class Watchdog:
    """Asks the loop for a sign of life, four times a second."""

    def __init__(self, holds: Held) -> None:
        self.lag = 0.0
        """Seconds by which the loop was last late to answer."""
        self._holds = holds
        self.board = Board()
        """Shows who blocks the loop, and whoever else is stuck."""
        self._asked: float | None = None
        self._answered = threading.Event()
        self._over = threading.Event()
        self._log = get_logger(__name__)

    def blocked_for(self) -> float:
        """For how many seconds the loop has owed an answer; from any thread."""
        asked = self._asked
        return 0.0 if asked is None else time.monotonic() - asked

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watch the running loop until cancelled."""
        task_status.started()
        loop, ident = asyncio.get_running_loop(), threading.get_ident()
        threading.Thread(target=self._watch, args=(loop, ident), name="jobqueue watchdog", daemon=True).start()
        try:
            await anyio.sleep_forever()
        finally:
            self._over.set()
            self._answered.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, ident: int) -> None:
        while not self._over.wait(_LOOK):
            self._answered.clear()
            self._asked = asked = time.monotonic()
            try:
                loop.call_soon_threadsafe(self._answer)
            except RuntimeError:  # closed
                return
            say_after = _BLOCKED
            while not self._answered.wait(asked + say_after - time.monotonic()) and not self._over.is_set():
                with contextlib.suppress(Exception):  # a log handler that is broken: the watch goes on
                    self._say(loop, ident, say_after, asked)
                say_after *= 2
            self._asked, self.lag = None, time.monotonic() - asked
            self.board.blocks(None)

    def _answer(self) -> None:
        self._answered.set()

    def _say(self, loop: asyncio.AbstractEventLoop, ident: int, seconds: float, since: float) -> None:
        task = None
        with contextlib.suppress(RuntimeError):
            task = asyncio.current_task(loop)
        hold = next((hold for hold in self._holds.snapshot() if task is not None and hold.task is task), None)
        job_id, name = (None, None) if hold is None else (str(hold.id), hold.claim["task"])
        stack = stack_of_thread(ident)
        self.board.blocks(Stuck(job_id, name, BLOCKS, stack, since))
        self._log.warning("loop.blocked", seconds=seconds, job_id=job_id, task=name, stack=stack)
