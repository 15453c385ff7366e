"""Looks at the whole at little cost, however much there is: queues, flow, workers and what they run."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from jobqueue.base.flows.bundle import BundleCounts
from jobqueue.base.job import UNFINISHED, JobState
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.executor import Executor, Reader, named
from jobqueue.store.connection.pool import Database
from jobqueue.store.looking.lookup import as_uuid

COUNTED_PAGES = 500
"""A table with more pages is not counted, but estimated from so many: 10 000 jobs and more."""
COUNTED_JOBS = 10_000
"""Of a table with more than COUNTED_PAGES pages at most so many ready, scheduled and blocked jobs each are counted."""

_RECENT_PAGES = 4_000
_AGES = 1e10
"""Seconds for which nothing can have been stuck."""
_PLAIN = (
    "queue", "scheduled", "ready", "running", "suspects", "served", "oldest_due", "paused", "paused_at", "paused_for",
    "resume_at", "resumes_in", "blocked",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kept:
    """What a queue keeps of its finished jobs: ages in seconds, and how many of the newest; None: as the settings say.

    `other` means the cancelled and the dead.
    """

    completed: float | None = None
    other: float | None = None
    most_completed: int | None = None
    most_other: int | None = None


NO_LIMITS = Kept()


@dataclass(frozen=True, slots=True)
class QueueStats:
    """A queue as it stands: its unfinished jobs, whether it is paused, what it keeps. All times are the database's."""

    queue: str
    scheduled: int
    ready: int
    running: int
    oldest_due: float | None
    """For how many seconds the longest waiting ready job has been due; None if none waits."""
    paused: bool
    """Nothing is claimed from it now."""
    paused_at: datetime | None = None
    paused_for: float | None = None
    """Seconds since then."""
    resume_at: datetime | None = None
    resumes_in: float | None = None
    """Seconds until then."""
    keep: Kept = NO_LIMITS
    estimated: frozenset[JobState] = frozenset()
    """The states whose numbers are only about right, within a few percent of a large one; others are exact."""
    suspects: int = 0
    """Ready jobs whose worker died while they ran: they begin one at a time in each worker."""
    served: bool = True
    """A worker lives that takes jobs from it."""
    blocked: int = 0
    """Jobs that wait for others."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs there are, by queue and state, and how long the oldest ready job of each queue has waited.

    Small numbers are exact. Of a large backlog, and of an archive's day with more than some 10 000 jobs, they are about
    right only, within a few percent for a queue that has many of them: they come from a sample, in which a queue with
    very few may not appear. `estimated` says which.
    """

    by_queue: dict[str, dict[JobState, int]]
    oldest_ready: dict[str, float]
    estimated: frozenset[tuple[str, JobState]] = frozenset()

    @property
    def by_state(self) -> dict[JobState, int]:
        """The sums over all queues, every state named."""
        sums = Counter[JobState]()
        for states in self.by_queue.values():
            sums.update(states)
        return {state: sums[state] for state in JobState}


@dataclass(frozen=True, slots=True)
class Flow:
    """Counters that only grow, but for `dead` and `cancelled`; two of them make rates."""

    now: datetime
    deferred: int
    """Jobs stored, those retried by hand too; about a second late."""
    started: int
    """Attempts begun."""
    finished: int
    """Jobs that have ended, however."""
    dead: int
    """Of the jobs that have ended since the look that this one is compared with."""
    cancelled: int
    """The same."""


@dataclass(frozen=True, slots=True)
class WorkerNow:
    """A worker and how much it does. Times in seconds."""

    id: UUID
    app: str
    host: str
    pid: int
    version: str
    concurrency: int
    up: float
    silent: float
    """Since its last beat."""
    alive: bool
    leaving: bool
    """It has ended, but not all of its jobs have: their claims run out."""
    running: int
    ahead: int
    """Claimed ahead of a free slot."""


@dataclass(frozen=True, slots=True)
class StuckJob:
    """A handler that is stuck, as its worker has told with one of its last beats."""

    worker_id: UUID
    worker: str
    """Its host and process id."""
    job_id: UUID | None
    """None, as the task: it is none of its jobs that blocks the loop."""
    task: str | None
    seconds: float
    """For how long the loop has been blocked, or all slots have waited, or since it was asked to end."""
    how: str
    """As in `base/looking/stuck.py`."""
    stack: str
    """Where it is, from the task's own code inwards: files, lines and functions, never a value. Empty if it waits."""


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that runs now, for so many seconds; and what it says of its progress."""

    id: UUID
    task: str
    queue: str
    attempt: int
    max_attempts: int
    seconds: float
    ahead: bool
    """Claimed, and not known yet to have started."""
    cancelling: bool
    fraction: float | None
    message: str | None
    worker_id: UUID


@dataclass(frozen=True, slots=True)
class Beside:
    """What keeps an unfinished job from running."""

    aside: float | None
    """Seconds since it was put aside: no worker knows its task, or its arguments do not fit."""
    paused: bool
    """Its queue is."""
    resume_at: datetime | None


@dataclass(frozen=True, slots=True)
class InLine:
    """Where a job stands at a gate of one of its limits."""

    gate: str
    before: int
    """How many come before it."""
    declared: str | None
    """The name of the limit; None if no worker has declared it."""
    concurrency: int | None
    held: int | None
    """Places that are taken; None if nobody has looked at this gate yet."""
    next_in: float | None
    """Of a rate: in how many seconds the next one may start."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A job that another one comes after."""

    id: UUID
    task: str | None
    """None if nothing is known of it any more."""
    state: JobState | None
    """None: it was deleted."""
    any_end: bool
    """However it ends will do; else it has to complete."""

    @property
    def failed(self) -> bool:
        """True if it has not completed, and should have."""
        ended = self.state is None or self.state.final
        return ended and self.state is not JobState.COMPLETED and not self.any_end


@dataclass(frozen=True, slots=True)
class Waits:
    """What a job waits for: `unmet` of the `total` jobs that it came after; and the `first` of those."""

    unmet: int = 0
    total: int = 0
    first: tuple[Dependency, ...] = ()


async def queue_stats(database: Reader, room: int = COUNTED_JOBS) -> list[QueueStats]:
    """The queues that have unfinished jobs, or were ever paused or told what to keep, by name.

    Small numbers are exact, those of a large backlog estimated: some ten milliseconds, whether thousands wait or
    millions, and 30 more for every thousand queues. Of a long queue, a job that was moved or promoted late may have
    waited for longer than `oldest_due` says. `room`: so many jobs of each state are counted in a large table.
    """
    rows = await database.fetch("queue_stats", room, COUNTED_PAGES)
    return [_stats_of(named("queue_stats", row)) for row in rows]


async def count_jobs(database: Database) -> Counts:
    """Jobs by queue and state, finished ones as long as the archive keeps them: both as of one moment."""
    if database.is_lent:
        return await count_jobs_on(database.session())
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        return await count_jobs_on(OnAsyncpg(connection, database.schema))


async def count_jobs_on(executor: Executor) -> Counts:
    """The same by whatever snapshots the executor's transaction takes."""
    queues = await queue_stats(executor)
    finished = [named("count_finished", row) for row in await executor.fetch("count_finished", COUNTED_PAGES)]
    by_queue: dict[str, dict[JobState, int]] = {}
    estimated = {(queue.queue, state) for queue in queues for state in queue.estimated}
    for queue in queues:
        for state in UNFINISHED:
            if jobs := getattr(queue, state):
                by_queue.setdefault(queue.queue, {})[state] = jobs
    for row in finished:
        state = JobState(row["state"])
        by_queue.setdefault(row["queue"], {})[state] = row["jobs"]
        if not row["exact"]:
            estimated.add((row["queue"], state))
    oldest = {queue.queue: queue.oldest_due for queue in queues if queue.oldest_due is not None}
    return Counts(by_queue, oldest, frozenset(estimated))


async def count_bundles(database: Reader) -> BundleCounts:
    """Bundles, finished ones as long as they are kept: some milliseconds, however many there are."""
    row = named("count_bundles", (await database.fetch("count_bundles", COUNTED_JOBS, COUNTED_PAGES))[0])
    about = set() if row["all_unfinished"] else {"unfinished"}
    about |= set() if row["whole"] else {"finished", "with_errors"}
    return BundleCounts(row["unfinished"], row["finished"], row["with_errors"], frozenset(about))


async def waiting_flows(database: Reader) -> tuple[int, int]:
    """Bundles that have not ended, and what is to be added up; of each no more than COUNTED_JOBS are counted."""
    row = named("waiting_flows", (await database.fetch("waiting_flows", COUNTED_JOBS))[0])
    return row["bundles"], row["facts"]


async def count_archive(database: Database) -> list[tuple[str, JobState, int, bool]]:
    """Finished jobs by partition and state, and whether that was counted, not estimated."""
    rows = await database.fetch("count_archive", COUNTED_PAGES)
    return [(row["leaf"], JobState(row["state"]), row["jobs"], row["exact"]) for row in rows]


async def read_flow(database: Reader, first: Flow | None = None) -> Flow:
    """The counters now, to be compared with those of `first`."""
    since = (None, None) if first is None else (first.finished, first.now)
    return Flow(**dict((await database.fetch("flow", *since, _RECENT_PAGES))[0]))


async def workers_now(database: Reader) -> list[WorkerNow]:
    """The workers that have not ended in good order: the living first, then what crashed within a day."""
    return [WorkerNow(**dict(row)) for row in await database.fetch("working")]


async def stuck_now(database: Reader, limit: int = 100) -> list[StuckJob]:
    """Handlers that block the loop, go on though asked to end, or wait on all slots; of so many workers at most."""
    rows = [named("stuck_now", row) for row in await database.fetch("stuck_now", limit)]
    return [stuck for row in rows for stuck in _stuck_of(row)]


async def longest_running(database: Reader, limit: int) -> list[RunningJob]:
    """So many of the jobs that run now, the longest first."""
    return [RunningJob(**dict(row)) for row in await database.fetch("longest_running", limit)]


async def put_aside(database: Reader, most: int) -> dict[str, int]:
    """Jobs put aside by task, the most first; at most so many are counted."""
    return {row[0]: row[1] for row in await database.fetch("put_aside", most)}


async def oldest_snapshot(database: Reader) -> float | None:
    """For how many seconds somebody's transaction keeps old rows; None if nobody's does, or it is not ours to see."""
    seconds: float | None = (await database.fetch("oldest_snapshot"))[0][0]
    return seconds


async def beside_job(database: Reader, id: UUID) -> Beside | None:
    """What is to be known beside the job itself; None for one that has ended."""
    rows = await database.fetch("beside_job", id)
    return Beside(**dict(rows[0])) if rows else None


async def place_in_line(database: Reader, id: UUID, most: int) -> InLine | None:
    """At which gate a job waits, and how many are before it, counted up to about `most`; None if it waits at none."""
    rows = [named("place_in_line", row) for row in await database.fetch("place_in_line", id, most)]
    return InLine(**rows[0]) if rows else None


async def waits_for(database: Reader, id: UUID, limit: int) -> Waits:
    """The jobs whose end this one has not seen, at most so many, those that failed before the others."""
    rows = [named("waits_for", row) for row in await database.fetch("waits_for", id, limit)]
    return Waits(rows[0]["unmet"], rows[0]["total"], tuple(map(_dependency_of, rows))) if rows else Waits()


def _dependency_of(row: Mapping[str, Any]) -> Dependency:
    return Dependency(as_uuid(row["id"]), row["task"], row["state"] and JobState(row["state"]), row["any_end"])


def _stuck_of(row: Mapping[str, Any]) -> Iterator[StuckJob]:
    """What a worker has stored; whatever else may stand there is left out."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        for said in orjson.loads(row["stuck"]):
            job_id = None if said["job_id"] is None else UUID(str(said["job_id"]))
            task = None if said["task"] is None else str(said["task"])
            seconds = float(said["seconds_since"]) + max(0.0, row["since"] or 0.0)
            how, stack = str(said["how"]), str(said["stack"])
            if seconds < _AGES:  # else, or if it is no number, it is nothing that a worker says
                yield StuckJob(as_uuid(row["worker_id"]), row["worker"], job_id, task, seconds, how, stack)


def _stats_of(row: Mapping[str, Any]) -> QueueStats:
    about = frozenset(JobState(state) for state in row["about"])
    keep = Kept(row["keep_completed"], row["keep_other"], row["most_completed"], row["most_other"])
    return QueueStats(**{name: row[name] for name in _PLAIN}, keep=keep, estimated=about)
