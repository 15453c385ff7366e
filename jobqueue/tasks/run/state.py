"""Where one run of a job stands, and what a request to end it means there.

    NEW -> RUNNING -> OVER
             |  ^
             |  +---- COMMITTING <-> (asked) COMMITTING_ASKED     its own completion: not cut until that is done
             |
             +------- IN_THREAD -> OUTLIVED -> OVER               a thread cannot be cancelled, only waited for

A request is remembered in every state; the first reason counts. Only RUNNING is cut at once.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto


class Why(Enum):
    """Why a run was asked to end before its handler returned."""

    TIMEOUT = auto()
    BUDGET = auto()
    STOP = auto()
    CANCEL = auto()
    LOST = auto()
    SUSPEND = auto()


class Stage(Enum):
    """The states drawn above."""

    NEW = auto()
    RUNNING = auto()
    COMMITTING = auto()
    COMMITTING_ASKED = auto()
    IN_THREAD = auto()
    OUTLIVED = auto()
    """On record the run is over, but its thread goes on."""
    OVER = auto()


# As names of this module: on Python 3.11 to look one up in its class takes longer than all else that a method does.
_NEW, _RUNNING, _COMMITTING, _COMMITTING_ASKED, _IN_THREAD, _OUTLIVED, _OVER = Stage
_WAITED_FOR = (Why.STOP, Why.LOST)
"""During a stop, or with a claim that may hold after all, a thread can still reach its outcome."""


class RunState:
    """The state of one run. On the event loop only; `thread` is set by the thread itself."""

    __slots__ = ("_steps", "_then", "asked_at", "stage", "task", "thread", "why")

    def __init__(self) -> None:
        self.stage = _NEW
        self.why: Why | None = None
        """Why it was asked to end; None if it was not."""
        self.asked_at: float | None = None
        """When, on the monotonic clock."""
        self.task: asyncio.Task[object] | None = None
        """The run's own task, from `begin` to `end`."""
        self.thread: int | None = None
        """The identity of the thread that the handler runs in, if it does."""
        self._then: Callable[[], None] | None = None
        self._steps = 0
        """Threads of its phases, which may be several, beside a handler that goes on."""

    @property
    def asked(self) -> bool:
        """Whether it was asked to end."""
        return self.why is not None

    @property
    def begun(self) -> bool:
        """Whether its handler was ever called."""
        return self.stage is not _NEW

    @property
    def committing(self) -> bool:
        """Whether it commits its own completion now."""
        return self.stage in (_COMMITTING, _COMMITTING_ASKED)

    @property
    def in_thread(self) -> bool:
        """True while a thread works on it: the slot is free only when that returns."""
        return self._steps > 0 or self.stage is _IN_THREAD or self.stage is _OUTLIVED

    @property
    def handler_in_thread(self) -> bool:
        """True while its handler runs in a thread."""
        return self.stage is _IN_THREAD

    def begin(self, task: "asyncio.Task[object] | None") -> None:
        """The handler is called now, in this task."""
        self.task, self.stage = task, _RUNNING

    def ask(self, why: Why) -> None:
        """Ask it to end. A handler that swallows the cancellation is asked only once."""
        if self.why is not None:
            return
        self.why, self.asked_at = why, time.monotonic()
        if self.stage is _COMMITTING:
            self.stage = _COMMITTING_ASKED
        elif self.stage is _RUNNING or (self.stage is _IN_THREAD and why not in _WAITED_FOR):
            self._cut()

    def commit(self) -> None:
        """Until `resume` a request to end does not cut it."""
        if self.stage is _RUNNING:
            self.stage = _COMMITTING

    def resume(self) -> None:
        """What `commit` has kept out comes now."""
        if self.stage is _COMMITTING_ASKED:
            self._cut()
        if self.committing:
            self.stage = _RUNNING

    def enter_thread(self) -> None:
        """A thread is called for."""
        self.stage = _IN_THREAD

    def leave_thread(self) -> None:
        """The thread has returned, or will never begin."""
        outlived, self.stage = self.stage is _OUTLIVED, _RUNNING
        if outlived:
            self.stage = _OVER
        if self._then is not None:
            self._then()

    def enter_step(self) -> None:
        """A thread is called for by one of its phases."""
        self._steps += 1

    def leave_step(self) -> None:
        """That thread has returned, or will never begin."""
        self._steps -= 1
        if self.stage is _OUTLIVED and self._steps == 0:
            self.leave_thread()

    def when_thread_ends(self, then: Callable[[], None]) -> None:
        """Call this once the thread has returned."""
        self._then = then

    def abandon(self) -> None:
        """Wait no longer for a thread that was asked to end."""
        if self.in_thread:
            self._cut()

    def outlive(self) -> None:
        """What works on it goes on, though its own task has ended."""
        self.stage = _OUTLIVED

    def end(self) -> None:
        """The run's task has ended, or is past the point where a cancellation could change anything."""
        self.task = None  # breaks a circle
        if self.in_thread:
            self.stage = _OUTLIVED
        elif self.stage is not _NEW:
            self.stage = _OVER

    def _cut(self) -> None:
        if self.task is not None:
            self.task.cancel()
