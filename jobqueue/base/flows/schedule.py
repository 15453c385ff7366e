"""A schedule: what is to run at which planned times, as it is said, and as it stood when it was read."""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Literal, TypeAlias, get_args
from uuid import UUID

from jobqueue.base.errors import InvalidOption
from jobqueue.base.flows.cron import Cron
from jobqueue.base.job import PLANNED_BY
from jobqueue.base.moments import Seconds, check_delay, check_time, id_at

Missed: TypeAlias = Literal["skip", "once", "all"]
"""What becomes of planned times that passed while no worker was there: nothing, one job for all, or a job for each."""
Overlap: TypeAlias = Literal["allow", "skip", "queue"]
"""At a planned time whose job before has not ended: another job all the same, none, or one that waits for its end."""
Source: TypeAlias = Literal["code", "stored"]

MOST_JITTER = 86_400.0
UNSEEN = 300.0
"""Seconds after which a schedule of the code is fired no more, if no worker declares it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule fires; made by `of`, which checks it."""

    cron: str
    tz: str = "UTC"
    missed: Missed = "skip"
    overlap: Overlap = "allow"
    jitter: float = 0.0
    """Seconds by up to which a job is late, always by the same for one planned time."""
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    @classmethod
    def of(
        cls,
        cron: str,
        tz: str,
        missed: Missed,
        overlap: Overlap,
        jitter: Seconds,
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
    ) -> "Timing":
        """Raises InvalidOption, which names what is wrong."""
        Cron(cron, tz)
        _check_word("missed", missed, Missed)
        _check_word("overlap", overlap, Overlap)
        seconds = check_delay("jitter", jitter)
        if seconds > MOST_JITTER:
            raise InvalidOption("jitter", "must be at most a day")
        begin = None if starts_at is None else check_time("starts_at", starts_at)
        end = None if ends_at is None else check_time("ends_at", ends_at)
        if begin is not None and end is not None and end < begin:
            raise InvalidOption("ends_at", "must not be before starts_at")
        return cls(cron, tz, missed, overlap, seconds, begin, end)

    def next(self, moment: datetime) -> datetime | None:
        """The first planned time after a moment, within the schedule's own time; None if there is none any more."""
        after = moment if self.starts_at is None else max(moment, _just_before(self.starts_at))
        planned = Cron(self.cron, self.tz).next(after)
        return None if planned is None or (self.ends_at is not None and planned > self.ends_at) else planned


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it stood in the database when it was read: a snapshot, never updated in place."""

    name: str
    source: Source
    """`code`: a decorator says so in the code of some worker; `stored`: `app.schedules.put` did."""
    task: str
    queue: str
    timing: Timing
    next_at: datetime | None
    """The next planned time; None while it is paused without an end, or if none comes any more."""
    last_at: datetime | None = None
    """The planned time that was fired last."""
    last_job: UUID | None = None
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    seen_at: datetime | None = None
    """When a worker last said that its code declares it."""
    broken: str | None = None
    """Why it cannot be fired: its row says what cannot be read, or the database refuses its job."""
    created_at: datetime | None = None
    read_at: datetime | None = field(default=None, compare=False)
    args_json: str = field(default="{}", repr=False)
    options_json: str = field(default="{}", repr=False)

    @property
    def state(self) -> str:
        """In a word: `broken`, `paused`, `undeclared` (no worker has it in its code any more), `ended` or `active`."""
        if self.broken is not None:
            return "broken"
        if self.paused:
            return "paused"
        if self.next_at is None:
            return "ended"
        return "active" if self.declared else "undeclared"

    @property
    def paused(self) -> bool:
        """Whether it is paused, without an end or until a moment that has not come."""
        over = self.paused_until is not None and self.read_at is not None and self.paused_until <= self.read_at
        return self.paused_at is not None and not over

    @property
    def declared(self) -> bool:
        """Whether it is stored, or was in the code of a worker of late."""
        if self.source == "stored" or self.seen_at is None or self.read_at is None:
            return self.source == "stored"
        return (self.read_at - self.seen_at).total_seconds() < UNSEEN


def planned_id(name: str, planned: datetime) -> UUID:
    """The id of the job of a planned time: always the same one."""
    return id_at(planned, f"schedule\n{name}\n{planned.timestamp()}".encode())


def lateness(name: str, planned: datetime, jitter: float) -> float:
    """By how many seconds the job of a planned time is late: between 0 and `jitter`, the same everywhere."""
    drawn = sha256(f"jitter\n{name}\n{planned.timestamp()}".encode()).digest()[:8]
    return jitter * int.from_bytes(drawn, "big") / 2**64


def origin_of(schedule: str) -> str:
    """The origin of its jobs, by which they are found."""
    return f"{PLANNED_BY}{schedule}"


def _just_before(moment: datetime) -> datetime:
    return moment - datetime.resolution


def _check_word(option: str, given: object, words: object) -> None:
    if given not in get_args(words):
        raise InvalidOption(option, f"must be one of {', '.join(get_args(words))}")
