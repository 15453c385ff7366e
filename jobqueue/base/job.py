"""The job in its three shapes: `NewJob` (not yet sent), `Job` (as stored), and the states between."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, Literal, NamedTuple, NewType, TypeAlias, TypeVar
from uuid import UUID

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
WorkerId = NewType("WorkerId", UUID)
KeyScope: TypeAlias = Literal["waiting", "unfinished", "period"]
OnConflict: TypeAlias = Literal["skip", "raise", "replace", "move", "replace+move"]

R_co = TypeVar("R_co", covariant=True)


class Claimed(NamedTuple):
    """A job that runs, and what proves that it does so here."""

    job: UUID
    fence: int
    worker: WorkerId


class JobState(StrEnum):
    """Where a job is: `scheduled` → `ready` → `running` → `completed`, `cancelled` or `dead`.

    `blocked`: it waits for other jobs, see `after=` of a bundle, or for its turn at a limit.
    """

    SCHEDULED = "scheduled"
    BLOCKED = "blocked"
    READY = "ready"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DEAD = "dead"

    @property
    def final(self) -> bool:
        """True once nothing but an explicit retry can change the job."""
        return self in FINAL


class Conflict(StrEnum):
    """What a new job did to the other job that holds its unique key; itself it was not stored."""

    SKIPPED = "skipped"
    """Nothing was done: as asked for, or because the holder runs or has ended."""
    REPLACED = "replaced"
    """The holder waits, and has the new arguments now."""
    MOVED = "moved"
    """The holder waits, and has the new due time now."""
    REPLACED_AND_MOVED = "replaced+moved"


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLANNED_BY = "schedule:"
"""What the origin of a job begins with that a schedule has made; its name follows."""
FINAL = frozenset({JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD})
UNFINISHED = tuple(state for state in JobState if state not in FINAL)


def short_id(id: UUID) -> str:
    """An id as people copy it: its end, for those that were made together begin alike."""
    return f"…{str(id)[-8:]}"


@dataclass(frozen=True, slots=True)
class Edges:
    """The place of a job among others of its bundle: whether it waits for some, and others for it."""

    waits: bool = False
    needed: bool = False
    after: tuple[UUID, ...] = field(default=(), compare=False)
    """Those that it waits for, in the order given."""
    any_end: bool = field(default=False, compare=False)
    """Whether it runs whatever became of them, or only once they are completed."""


@dataclass(frozen=True, slots=True)
class NewJob(Generic[R_co]):
    """A job not yet sent: made by `task.job(...)`, sent by `app.defer_many([...])`. Its id is already fixed."""

    id: UUID
    task: str
    args: str = field(repr=False)
    """The arguments as JSON text, an object keyed by parameter name."""
    queue: str = "default"
    priority: int = 0
    delay: float | None = None
    """Seconds from the moment of insertion, on the database's clock."""
    at: datetime | None = None
    max_attempts: int = 20
    timeout: float | None = None
    budget: float | None = None
    expires: float | None = None
    origin: str | None = None
    meta: str | None = field(default=None, repr=False)
    follow: bool = False
    """Whether the log tells of its starts and its progress too."""
    bundle: UUID | None = None
    """The bundle that it is a member of."""
    edges: Edges | None = None
    """Its place among the others of its bundle; None for the most, which come after none and before none."""
    gates: tuple[str, ...] = ()
    """The gates of its limits, in the order in which it passes them."""
    key: str | None = None
    key_scope: KeyScope = "unfinished"
    key_period: float | None = None
    on_conflict: OnConflict = "skip"
    """What happens if another job holds the key."""
    resent: bool = False
    """True if the caller chose the id: the archive is then asked as well, so that a resend never runs twice."""
    own_id: bool = False
    """True if nobody but us has seen the id: a job that is there under it is another one, so this one gets a new id."""
    decode_result: Callable[[str], R_co] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one new job: its id, or that of the job which holds the place (`duplicate`)."""

    id: UUID
    duplicate: bool = False
    conflict: Conflict | None = None
    """What was done about the other job that holds the unique key; None if there is none."""
    ignored: bool = False
    """It was dropped: `App.null()`, or `app.testing("ignore")`."""


@dataclass(frozen=True, slots=True)
class AttemptError:
    """How one attempt failed. `traceback` has no local variables, `data` is what the exception carried."""

    error_class: str
    message: str
    traceback: str = field(default="", repr=False)
    data: JsonValue = field(default=None, repr=False)
    attempt: int = 0
    at: datetime | None = None
    worker: str | None = None
    phase: str | None = None
    """The phase in which it failed, or that was under way when its worker died; None outside of phases."""
    place: int | None = None
    """The place of that phase in its run, 1 for the first."""
    began: datetime | None = None
    """When the attempt was claimed; None of one that failed before this was kept."""
    code_place: str | None = None
    """Where it failed, the last frame of the user's own code: `shop/billing.py:88 charge`; None if unknown."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stood in the database when it was read: a snapshot, never updated in place."""

    id: UUID
    task: str
    queue: str
    state: JobState
    priority: int
    attempt: int
    max_attempts: int
    crashes: int
    lost: int
    due_at: datetime
    created_at: datetime
    claimed_at: datetime | None = None
    finished_at: datetime | None = None
    timeout: float | None = None
    deadline: datetime | None = None
    expires_at: datetime | None = None
    origin: str | None = None
    worker_id: UUID | None = None
    cancel_asked: datetime | None = None
    """When somebody asked the running job to end."""
    lease_until: datetime | None = None
    key: str | None = None
    bundle_id: UUID | None = None
    gates: tuple[str, ...] = ()
    """The gates of its limits, in the order in which it passes them. A list has none of jobs that have ended."""
    waits_for: str | None = None
    """The gate at which it waits for its turn; None if it waits for none."""
    reason: str | None = None
    errors: tuple[AttemptError, ...] = ()
    args_json: str | None = field(default="{}", repr=False)
    """None if it was listed without its arguments and result."""
    result_json: str | None = field(default=None, repr=False)
    meta_json: str | None = field(default=None, repr=False)
    progress_json: str | None = field(default=None, repr=False)
    read_at: datetime | None = field(default=None, compare=False)
    """When it was read, by the database's clock; `app.jobs.get(job.id)` reads it anew."""

    @property
    def started(self) -> bool:
        """True once a worker has claimed it, for this attempt or an earlier one."""
        return self.claimed_at is not None

    @property
    def running(self) -> bool:
        """True while a worker holds it."""
        return self.state is JobState.RUNNING

    @property
    def ended(self) -> bool:
        """True once it is completed, cancelled or dead."""
        return self.state.final

    @property
    def succeeded(self) -> bool:
        """True once it is completed."""
        return self.state is JobState.COMPLETED

    @property
    def worker_alive(self) -> bool:
        """True if it runs and its claim held when it was read: its worker had renewed it in time."""
        return self.lease_until is not None and self.read_at is not None and self.lease_until > self.read_at

    @property
    def planned_at(self) -> datetime | None:
        """The planned time for which a schedule has made it, the same for all its attempts; None for other jobs.

        Of one that was triggered by hand the moment when that was.
        """
        if self.origin is None or not self.origin.startswith(PLANNED_BY) or self.id.version != 7:
            return None
        return EPOCH + timedelta(milliseconds=self.id.int >> 80)

    @property
    def args(self) -> dict[str, Any]:
        """The arguments, decoded from JSON, keyed by parameter name. Raises LookupError if it was not read."""
        decoded: dict[str, Any] = json.loads(self._read(self.args_json))
        return decoded

    @property
    def meta(self) -> Any:
        """What `meta=` carried, decoded; None without."""
        return None if self.meta_json is None else json.loads(self.meta_json)

    @property
    def result(self) -> Any:
        """The result as plain JSON values; None while there is none (`handle.result()` decodes by the annotation).

        Raises LookupError if it was not read.
        """
        self._read(self.args_json)
        return None if self.result_json is None else json.loads(self.result_json)

    @property
    def progress(self) -> Any:
        """The last progress report, decoded; None without."""
        return None if self.progress_json is None else json.loads(self.progress_json)

    def _read(self, args: str | None) -> str:
        if args is None:
            raise LookupError(
                "this job was listed without its arguments and result: jobs.list(payload=True) reads them, "
                "jobs.get(job.id) those of one"
            )
        return args

    @property
    def error(self) -> AttemptError | None:
        """The last attempt's error, if any attempt failed."""
        return self.errors[-1] if self.errors else None
