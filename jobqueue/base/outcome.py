"""How an attempt ended, as a value: `tasks/run/attempt.py` makes exactly one, `worker/ending/finishing.py` writes it.

(`worker/keeping/rescue.py` makes and writes it for those who died before they could.)

The exceptions at the end are what a handler raises to choose its outcome.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from jobqueue.base.errors import Portable
from jobqueue.base.job import AttemptError, JsonValue
from jobqueue.base.moments import Seconds, check_moment


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
class Suspended:
    """Sleeps until `at`, or waits for a signal, and goes on then; the attempt is given back."""

    at: datetime
    seen: int | None = None
    """How many signals the job had been sent when none was there that it waits for; None if it waits for none."""


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
    detail: str = ""
    """Which argument is at fault and how, in words that quote nothing of the payload."""


@dataclass(frozen=True, slots=True)
class LinedUp:
    """Given back unharmed before it began, to pass these gates first: those that its limits have now."""

    gates: tuple[str, ...]


Outcome: TypeAlias = Done | Retried | Snoozed | Suspended | Cancelled | Dead | Released | Rescued | PutAside | LinedUp


class Retry(Portable):
    """Raise in a task to fail this attempt and run again.

    `delay` (seconds or timedelta), or `at` (timezone-aware); without both the task's retry policy decides. `queue` and
    `priority` move the job. When no attempt is left the job is dead, as with any other exception. Raises InvalidOption.
    """

    delay: float | None = None
    at: datetime | None = None
    queue: str | None = None
    priority: int | None = None

    def __init__(
        self,
        delay: Seconds | None = None,
        at: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
    ) -> None:
        super().__init__("retry asked for by the task")
        self.delay, self.at = check_moment(delay, at)
        self.queue = queue
        self.priority = priority


class Snooze(Portable):
    """Raise in a task to run again later without spending an attempt. Raises InvalidOption.

    `delay` (seconds or timedelta), or `at` (timezone-aware); by default in 60 s.
    """

    delay: float | None = 60.0
    at: datetime | None = None

    def __init__(self, delay: Seconds | None = None, at: datetime | None = None) -> None:
        super().__init__("snoozed by the task")
        if delay is not None or at is not None:
            self.delay, self.at = check_moment(delay, at)


class Cancel(Portable):
    """Raise in a task to end its job as cancelled, with a reason."""

    reason: str | None = None

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason or "cancelled by the task")
        self.reason = reason


class Fatal(Portable):
    """Raise in a task to end its job as dead at once, whatever attempts are left. `data` is stored as JSON."""

    data: JsonValue = None

    def __init__(self, message: str, data: JsonValue = None) -> None:
        super().__init__(message)
        self.data = data
