"""What the log says of jobs, and how to choose from it.

| type | told of | when |
|---|---|---|
| job.retried | every job | an attempt failed, or its worker died; the job will run again (`will_retry`) |
| job.completed, job.cancelled, job.dead | every job | it has ended |
| job.deleted | every job | somebody removed it, and its result; what retention removes is not told |
| job.revived | every job | it had ended, and was told to run again |
| job.started, job.progress | those that are followed | its handler runs, reports (the newest report is the job's) |
| job.snoozed, job.released | those that are followed | it was put off without an attempt spent |
| job.phase | those that are followed | a phase began (if it takes a moment), ended, sleeps, waits: see `data` |
| job.waiting | those that are followed | it sleeps, or waits for a signal, and holds no slot |
| bundle.finished | a bundle | all its members have ended: `reason` is `completed`, or the worst that became of one |
| bundle.reopened | a bundle | it had finished, and a member was revived or added |
| schedule.missed | planned times of a schedule | they were left out: `reason` is `missed` or `overlap`, see `data` |
| webhook.delivered, webhook.failed | every delivery | it has ended: the receiver has it, or will never get it |
| webhook.disabled | a delivery | its webhook is told of nothing any more: `reason` is `gone` or `failing` |

A delivery to a webhook is a job of the task `jobqueue.webhook`, and `origin` says of which. No webhook hears of them.

A row of the log tells the same of many jobs at once: an `Entry`. An `Event` is about one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, TypeAlias, get_args
from uuid import UUID

from jobqueue.base.errors import InvalidOption

EventType: TypeAlias = Literal[
    "job.started", "job.progress", "job.phase", "job.snoozed", "job.waiting", "job.released", "job.retried",
    "job.completed", "job.cancelled",
    "job.dead", "job.deleted", "job.revived", "bundle.finished", "bundle.reopened", "schedule.missed",
    "webhook.delivered", "webhook.failed", "webhook.disabled",
]  # fmt: skip
EVENT_TYPES: tuple[str, ...] = get_args(EventType)


class Place(NamedTuple):
    """Where in the log an event stands: the number of its row, and which of the row's jobs it is about."""

    seq: int
    part: int

    def __str__(self) -> str:
        return f"{max(self.seq, 0)}" if self.part >= WHOLE else f"{self.seq}.{self.part}"

    @classmethod
    def read(cls, text: str) -> "Place":
        """An event's id as a place. Raises InvalidOption for anything else."""
        given: object = text
        seq, dot, part = given.partition(".") if isinstance(given, str) else ("", "", "")
        digits = seq + (part if dot else "0")
        if not (
            seq
            and bool(dot) == bool(part)
            and digits.isascii()
            and digits.isdigit()
            and max(len(seq), len(part)) <= _DIGITS
        ):
            raise InvalidOption("after", 'must be the id of an event, such as "48213.7", or "0" for all that there is')
        # "0" is before everything, whatever retention has dropped; 0 in a webhook's row is a place like any other
        return cls(int(seq) or -1 if not part else int(seq), int(part) if part else WHOLE)


DELIVERY = "jobqueue.webhook"
"""The task whose jobs are deliveries to webhooks."""

_DIGITS = 18
WHOLE = 10**_DIGITS
"""The part of a place that is behind every job of its row."""


@dataclass(frozen=True, slots=True)
class Event:
    """What became of one job. It never carries arguments, results, progress or the text of an error."""

    id: str
    """Its place in the log: `app.events(after=event.id)` goes on behind it."""
    type: str
    at: datetime
    """When, on the database's clock."""
    job_id: UUID
    """The job; of a bundle's event the bundle itself; of planned times left out what the first would have been."""
    task: str
    queue: str
    origin: str | None
    attempt: int
    error: str | None
    """The class of what was raised; the text is stored with the job."""
    reason: str | None
    """Of a job that is dead or cancelled: why, in a word."""
    bundle_id: UUID | None
    data: dict[str, Any] | None = None
    """Of `job.phase`: `phase`, its name, and `state`, one of PhaseState. Of `schedule.missed`: the `first` and `last`
    planned time, and their `count`. None for all others."""

    @property
    def will_retry(self) -> bool:
        """Whether this attempt failed and another one follows."""
        return self.type == "job.retried"


@dataclass(slots=True)
class Entry:
    """One row of the log."""

    seq: int
    at: datetime
    type: str
    task: str
    queue: str
    origin: str | None
    bundle_id: UUID | None
    jobs: Sequence[UUID]
    attempts: Sequence[int]
    error: str | None
    reason: str | None
    data: dict[str, Any] | None = None
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What several readers make of it, made once for all."""

    def event(self, index: int) -> Event:
        """What it says of one of its jobs."""
        return Event(
            f"{self.seq}.{index}", self.type, self.at, self.jobs[index], self.task, self.queue, self.origin,
            self.attempts[index] if index < len(self.attempts) else 0, self.error, self.reason, self.bundle_id,
            self.data,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events are meant; None, or no types: all."""

    types: frozenset[str] = frozenset()
    task: str | None = None
    queue: str | None = None
    origin: str | None = None
    job: UUID | None = None
    bundle: UUID | None = None

    def has(self, entry: Entry) -> bool:
        """Whether some of the row's events are meant."""
        return (
            (not self.types or entry.type in self.types)
            and (self.task is None or entry.task == self.task)
            and (self.queue is None or entry.queue == self.queue)
            and (self.origin is None or entry.origin == self.origin)
            and (self.bundle is None or entry.bundle_id == self.bundle)
            and (self.job is None or self.job in entry.jobs)
        )

    def indexes(self, entry: Entry, after: Place) -> Sequence[int]:
        """Which of the row's jobs are meant, behind a place."""
        if not self.has(entry):
            return ()
        first = after.part + 1 if after.seq == entry.seq else 0
        found = range(first, len(entry.jobs))
        return found if self.job is None else [index for index in found if entry.jobs[index] == self.job]


def check_types(types: Sequence[str] | str, option: str = "types") -> frozenset[str]:
    """Names of events. Raises InvalidOption for one that there is not."""
    names = [types] if isinstance(types, str) else list(types)
    for name in names:
        if name not in EVENT_TYPES:
            close = get_close_matches(str(name), EVENT_TYPES, 1) or [f"job.{name}"] * (f"job.{name}" in EVENT_TYPES)
            hint = f"; did you mean {close[0]}?" if close else f"; these are: {', '.join(EVENT_TYPES)}"
            raise InvalidOption(option, f"there is no event {name!r}{hint}")
    return frozenset(names)


def event_document(event: Event) -> dict[str, Any]:
    """An event as plain JSON values."""
    return {
        "id": event.id,
        "type": event.type,
        "at": event.at,
        "job_id": str(event.job_id),
        "task": event.task,
        "queue": event.queue,
        "origin": event.origin,
        "attempt": event.attempt,
        "will_retry": event.will_retry,
        "error": event.error,
        "reason": event.reason,
        "bundle_id": event.bundle_id and str(event.bundle_id),
    } | ({} if event.data is None else {"data": event.data})
