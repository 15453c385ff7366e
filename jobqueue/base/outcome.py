"""How an attempt ended, as a value: `tasks/run/attempt.py` makes exactly one, `worker/ending/finishing.py` writes it.

(`worker/keeping/rescue.py` makes and writes it for those who died before they could.)

The exceptions at the end are what a handler raises to choose its outcome.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from jobqueue.base.errors import InvalidOption, Portable
from jobqueue.base.job import AttemptError, JsonValue


@dataclass(frozen=True, slots=True)
class Done:
    """Completed; `result` is JSON text."""

    result: str


@dataclass(frozen=True, slots=True)
class Retried:
    """Failed with attempts left: runs again after `delay` seconds or at `at`, perhaps elsewhere."""

    error: AttemptError
    delay: float | None = None
    at: datetime | None = None
    queue: str | None = None
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The handler asked to run again later; the attempt is given back."""

    delay: float | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job ends as cancelled, by its handler or from outside."""

    reason: str | None = None
    error: AttemptError | None = None
    """How its last attempt failed, if it did before the request was met."""


@dataclass(frozen=True, slots=True)
class Dead:
    """The job ends as dead; `reason` is one short word such as `attempts`, `fatal`, `expired`, `result`."""

    reason: str
    error: AttemptError | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """Given back unharmed: ready at once in its old place, the attempt is given back."""

    lost: bool = False
    """Because its claim could not be kept, which is counted."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """Taken back because its worker died while it ran: again after `delay` seconds; the attempt is given back."""

    error: AttemptError
    delay: float


@dataclass(frozen=True, slots=True)
class PutAside:
    """Cannot run here now (unknown task, payload that no longer validates): waits, without costing an attempt."""

    reason: str


Outcome: TypeAlias = Done | Retried | Snoozed | Cancelled | Dead | Released | Rescued | PutAside


def check_moment(delay: float | None, at: datetime | None) -> None:
    """Refuse a delay that is negative or not a number, a naive time, and both at once."""
    if delay is not None and at is not None:
        raise InvalidOption("delay", "give either delay= or at=, not both")
    if delay is not None and not 0 <= delay <= 10 * 366 * 86_400:
        raise InvalidOption("delay", "must be between 0 seconds and ten years")
    if at is not None and at.tzinfo is None:
        raise InvalidOption("at", "must be timezone-aware, e.g. datetime.now(UTC)")


class Retry(Portable):
    """Raise in a task to fail this attempt and run again.

    `delay` in seconds, or `at` (timezone-aware); without both the task's retry policy decides. `queue` and
    `priority` move the job. When no attempt is left the job is dead, as with any other exception.
    """

    def __init__(
        self,
        delay: float | None = None,
        at: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
    ) -> None:
        check_moment(delay, at)
        super().__init__("retry asked for by the task")
        self.delay = delay
        self.at = at
        self.queue = queue
        self.priority = priority


class Snooze(Portable):
    """Raise in a task to run again later without spending an attempt. `delay` in seconds, or `at`; default 60 s."""

    def __init__(self, delay: float | None = None, at: datetime | None = None) -> None:
        check_moment(delay, at)
        super().__init__("snoozed by the task")
        self.delay = 60.0 if delay is None and at is None else delay
        self.at = at


class Cancel(Portable):
    """Raise in a task to end its job as cancelled, with a reason."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason or "cancelled by the task")
        self.reason = reason


class Fatal(Portable):
    """Raise in a task to end its job as dead at once, whatever attempts are left. `data` is stored as JSON."""

    def __init__(self, message: str, data: JsonValue = None) -> None:
        super().__init__(message)
        self.data = data
