"""Workers: who lives, what they run, and who was lost."""

import re
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from jobqueue.base.looking.stuck import WAITS
from jobqueue.store.connection.session import Session
from jobqueue.store.looking.holding import Held, held_by_workers, running_jobs
from jobqueue.store.looking.overview import RunningJob, StuckJob, WorkerNow, stuck_now
from jobqueue.store.workers import WorkerRow as Registered
from jobqueue.store.workers import list_workers
from jobqueue.web.dashboard.reading.overview import RunningRow, running_row
from jobqueue.web.dashboard.reading.view import FRESH, Model, View

_RUNNING = 200
_SHARE = re.compile(r"(.*?)(?::([0-9]+))?", re.DOTALL)


class WorkerSeen(Model):
    """A worker, and how much it does. Times in seconds."""

    id: UUID
    app: str
    host: str
    pid: int
    version: str
    """Of jobqueue, in this process."""
    queues: list[str]
    """What it takes jobs from, as it was told: `mail`, `mail:5` (at most five at once), `*`, `-slow` (all but this)."""
    concurrency: int
    started_at: datetime
    seen_at: datetime
    up: float
    silent: float
    """Since its last beat."""
    alive: bool
    leaving: bool
    """It has ended, but not all of its jobs have."""
    running: int
    ahead: int
    """Claimed ahead of a free slot."""
    stuck: int
    """Of those that run, handlers that do not come back: all of them, while all slots wait for jobs that want one."""
    whole: bool
    """The two numbers are of all its jobs, not only of those that may be seen."""

    @property
    def serves(self) -> list[str]:
        """What it takes jobs from, in words."""
        return [_words(told) for told in self.queues]

    @property
    def state(self) -> str:
        """In a word."""
        return "leaving" if self.leaving else "alive" if self.alive else "lost"


class StuckSeen(Model):
    """A handler that blocks its worker's loop, was asked to end and goes on, or stands for all slots, which wait."""

    job_id: UUID | None
    """None: it is none of its jobs that blocks the loop."""
    task: str | None
    seconds: float
    how: str
    stack: str


class WorkersSeen(Model):
    """The workers, the living first."""

    at: datetime
    workers: list[WorkerSeen]
    versions: list[str]
    """Of those that live: more than one while a deploy is under way."""


class WorkerPage(Model):
    """One worker and its jobs."""

    at: datetime
    worker: WorkerSeen
    running: list[RunningRow]
    stuck: list[StuckSeen]


async def read_workers(view: View) -> WorkersSeen:
    """Those that have not ended in good order: the living first, then what was lost within a day."""
    frame = await view.site.looker.frame()
    seen = view.queues

    async def now(session: Session) -> tuple[list[Registered], list[StuckJob], dict[UUID, Held] | None]:
        held = None if seen is None else await held_by_workers(session, seen)
        return await list_workers(session), await stuck_now(session), held

    rows, stuck, held = await view.site.looker.kept(("workers", seen), FRESH, now)
    registered = {each.id: each for each in rows}
    pairs = [(each, registered[each.id]) for each in frame.workers if each.id in registered]
    workers = [
        _worker(view, each, row, held, stuck) for each, row in pairs if seen is None or _visible(view, row.queues)
    ]  # fmt: skip
    versions = sorted({each.version for each in workers if each.alive and not each.leaving})
    return WorkersSeen(at=frame.at, workers=workers, versions=versions)


async def read_worker(view: View, id: UUID) -> WorkerPage | None:
    """One of them; None if it has ended in good order, or takes nothing that may be seen. Raises DatabaseError."""
    found = await read_workers(view)
    worker = next((each for each in found.workers if each.id == id), None)
    if worker is None:
        return None
    queues = view.queues

    async def now(session: Session) -> tuple[list[RunningJob], list[StuckJob]]:
        return await running_jobs(session, _RUNNING, queues=queues, worker=id), await stuck_now(session)

    running, all_stuck = await view.site.looker.kept(("worker", id, queues), FRESH, now)
    stuck = [each for each in all_stuck if each.worker_id == id]
    return WorkerPage(
        at=found.at,
        worker=worker,
        running=[running_row(view, each) for each in running],
        stuck=[StuckSeen.of(each) for each in stuck if _shown(view, each, {each.id for each in running})],
    )


def share_of(told: Sequence[str], queue: str) -> int | None:
    """How many jobs of a queue a worker takes at once: 0 for as many as it has slots, None if none."""
    if f"-{queue}" in told:
        return None
    shares = [(found[1], int(found[2] or 0)) for each in told if (found := _SHARE.fullmatch(each))]
    return dict(reversed(shares)).get(queue, 0 if "*" in told else None)


def _words(told: str) -> str:
    if told == "*":
        return "all queues"
    if told.startswith("-"):
        return f"not {told[1:]}"
    found = _SHARE.fullmatch(told)
    return f"{found[1]}, at most {found[2]}" if found and found[2] else told


def _shown(view: View, each: StuckJob, mine: set[UUID]) -> bool:
    """Whoever sees some queues only sees the stacks of the jobs in them."""
    return view.access.queues is None or each.job_id in mine


def _visible(view: View, told: Sequence[str]) -> list[str]:
    """Of what a worker was told, what names queues that may be seen."""
    seen = sorted(view.access.queues or ())
    return [
        queue if not share else f"{queue}:{share}" for queue in seen if (share := share_of(told, queue)) is not None
    ]


def _count(hows: Sequence[str], running: int) -> int:
    """One that waits stands for all that run there."""
    return max(len(hows), running) if WAITS in hows else len(hows)


def _worker(
    view: View, each: WorkerNow, row: Registered, held: dict[UUID, Held] | None, stuck: Sequence[StuckJob]
) -> WorkerSeen:
    counts = Held(each.running, each.ahead) if held is None else held.get(each.id, Held())
    return WorkerSeen.of(
        each,
        queues=list(row.queues) if held is None else _visible(view, row.queues),
        started_at=row.started_at,
        seen_at=row.seen_at,
        running=counts.running,
        ahead=counts.ahead,
        stuck=0 if held is not None else _count([one.how for one in stuck if one.worker_id == each.id], counts.running),
        whole=held is None,
    )
