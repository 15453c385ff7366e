"""What signals do to a worker: the first drains it, the second cancels what runs, the third leaves at once.

The handlers are set with `signal.signal` and not on the event loop, so that they also answer while a handler blocks
the loop. They run in the main thread between two instructions of whatever it does: they take no lock and write to
stderr directly.
"""

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from jobqueue.cli.terminal.failures import ExitCode, leave, tell_now
from jobqueue.cli.terminal.first_moments import listen_to_stops
from jobqueue.worker.draining import FINAL_WRITES
from jobqueue.worker.work import Work

MARGIN = 2.0
"""Seconds beyond the drain's limit and the final writes before the process is ended, whatever still runs."""
CANCELLING = "cancelling what runs and giving it back; again to leave at once"
ECHO = 0.5
"""Seconds after a signal in which another is the same one: a process manager, its wrapper and the terminal may each
send it, to the process and to its group."""
LEFT_AT_ONCE = "left at once; what ran is taken over when its lease has ended"


class Stopping:
    """Turns signals into the stop of one worker.

    `under_parent`: a parent counts the signals, says so, and lets the stop `reach` further stages. Those that come to
    the worker itself only begin a drain, however many: a service manager sends one to each process.
    """

    def __init__(self, *, under_parent: bool = False) -> None:
        self.under_parent = under_parent
        self.asked = 0
        """Signals so far: the stage that the stop has reached."""
        self.verdict: ExitCode | None = None
        """How the worker ended, once it has; what is left then are threads of the user's own."""
        self.asked_early = False
        """A signal came before `begin`. What it raised there may have been swallowed by the user's own code."""
        self._last = float("-inf")
        self._limit = 0.0
        self._work: Work | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._give_up: Callable[[], object] = lambda: None
        self._hard_end = 0.0
        self._alarm, self._bell = socket.socketpair()  # no lock: a second signal may interrupt the first one's handler

    def install(self) -> None:
        """Answer signals from now on. Until `begin` they raise KeyboardInterrupt, also inside a user's import."""
        listen_to_stops(self._on_signal)
        threading.Thread(target=self._guard, name="jobqueue hard end", daemon=True).start()

    def begin(self, loop: asyncio.AbstractEventLoop, limit: float, give_up: Callable[[], object]) -> None:
        """The worker is starting: until `started` the first signal calls `give_up`. `limit` of a drain in seconds."""
        self._limit, self._give_up, self._loop = limit, give_up, loop

    def started(self, work: Work) -> None:
        """The worker runs: signals stop it."""
        self._work = work

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._loop is None:
            self.asked_early = True
            raise KeyboardInterrupt
        now = time.monotonic()
        if now - self._last >= ECHO:
            self._last = now
            self.reach(1 if self.under_parent else self.asked + 1)

    def reach(self, stage: int) -> None:
        """From any thread: stop as if there had been so many signals. Before `begin` the process ends at once."""
        if self._loop is None:
            leave(ExitCode.OK)  # only the user's import is under way
        if stage <= self.asked:
            return
        self.asked = stage
        if not self.under_parent:
            tell_now(self._answer())
        if stage <= 2:
            self._stop_within(self._limit if stage == 1 else 0.0)
        else:
            leave(ExitCode.LEFT_HARD)

    def _answer(self) -> str:
        if self.asked > 1:
            return CANCELLING if self.asked == 2 else LEFT_AT_ONCE
        if self._work is None:
            return "stopping, the worker had not started yet"
        jobs = self._work.snapshot().running
        return f"draining, {jobs} job{'' if jobs == 1 else 's'}, up to {self._limit:g} s; again to stop now"

    def _stop_within(self, limit: float) -> None:
        self._hard_end = time.monotonic() + limit + FINAL_WRITES + MARGIN
        self._alarm.send(b"!")
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the process is about to end
                self._loop.call_soon_threadsafe(self._stop, limit)

    def _stop(self, limit: float) -> None:
        """In the loop."""
        if self._work is None:
            self._give_up()
        else:
            self._work.stop(limit)

    def _guard(self) -> None:
        """In a thread of its own: ends the process once its time is over, even if the event loop is blocked."""
        self._bell.recv(1)
        while (left := self._hard_end - time.monotonic()) > 0:
            if select.select([self._bell], [], [], left)[0]:
                self._bell.recv(1)  # another signal: the end has moved
        if self.verdict is None:
            tell_now("ended by force: tasks or threads outlived the stop; their leases will run out")
        else:
            tell_now("the worker had ended, threads of your own had not: ended by force")
        leave(ExitCode.LEFT_HARD if self.verdict is None else self.verdict)
