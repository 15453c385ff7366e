"""What is stuck in this worker now, for others to read: the heart writes it into the worker's row when it changes.

Written by the watchdog's thread and on the event loop, read by the heart's thread: each whole tuple at once.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_MOST = 5
_STACK = 8_192


@dataclass(frozen=True, slots=True)
class Stuck:
    """One handler; no job is known of what blocks the loop beside them."""

    job_id: str | None
    task: str | None
    how: str
    """BLOCKS, ASKED or WAITS."""
    stack: str
    since: float = field(default_factory=time.monotonic)
    """When it began, on this process's monotonic clock."""

    def told(self) -> dict[str, object]:
        """As it is stored: a stack of bounded size, and nothing in it that cannot be stored."""
        stack = self.stack.replace("\0", "?").encode("utf-8", "replace")[:_STACK].decode("utf-8", "ignore")
        seconds = round(time.monotonic() - self.since, 1)
        return {"job_id": self.job_id, "task": self.task, "seconds_since": seconds, "how": self.how, "stack": stack}


class Board:
    """The handlers that are stuck now."""

    def __init__(self) -> None:
        self._blocking: tuple[Stuck, ...] = ()
        self._waiting: tuple[Stuck, ...] = ()
        self._asked: tuple[Stuck, ...] = ()

    def blocks(self, stuck: Stuck | None) -> None:
        """Who blocks the event loop now, if anybody does."""
        self._blocking = () if stuck is None else (stuck,)

    def waits(self, stuck: Stuck | None) -> None:
        """One of those that wait for other jobs, if all slots do in vain."""
        self._waiting = () if stuck is None else (stuck,)

    def asked(self, stuck: Sequence[Stuck]) -> None:
        """Those that were asked to end and go on, the newest last."""
        self._asked = tuple(stuck)

    def now(self) -> tuple[Stuck, ...]:
        """The newest few."""
        return (*self._blocking, *self._waiting, *reversed(self._asked))[:_MOST]
