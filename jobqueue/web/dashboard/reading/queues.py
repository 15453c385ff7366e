"""Queues: all of them from the last look, and one with what serves it, limits it and runs in it."""

from datetime import datetime, timedelta
from uuid import UUID

from jobqueue.base.looking.history import DepthPoint, Rates, Times
from jobqueue.store.connection.session import Session
from jobqueue.store.looking.history import depths, percentiles, rates
from jobqueue.store.looking.holding import running_jobs
from jobqueue.store.looking.overview import Kept, QueueStats, RunningJob
from jobqueue.store.workers import WorkerRow, list_workers
from jobqueue.tasks.options import queue_named
from jobqueue.web.dashboard.reading.flows.limits import LimitRow, all_limits, limit_row, may_see
from jobqueue.web.dashboard.reading.overview import QueueRow, RunningRow, queue_row, running_row
from jobqueue.web.dashboard.reading.view import FRESH, Model, View
from jobqueue.web.dashboard.reading.workers import share_of

_MOST = 500
_RUNNING = 50
_PAUSES = 100
_KEPT = 10.0
_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_STEP, _MINUTE = 600, 60


class QueuesSeen(Model):
    """Some of the queues, by name."""

    at: datetime
    queues: list[QueueRow]
    hidden: int
    """Queues without jobs and without a pause, which were not asked for."""
    more: int
    """Queues beyond those that one page shows."""


class KeepSeen(Model):
    """What a queue keeps of its finished jobs; seconds, and how many of the newest. None: no such limit."""

    completed: float | None
    other: float | None
    most_completed: int | None
    most_other: int | None
    default_completed: float
    """What the settings say."""
    default_other: float


class Serving(Model):
    """A worker that takes jobs from a queue."""

    id: UUID
    app: str
    host: str
    pid: int
    at_most: int | None
    """So many of this queue at once; None: as many as it has slots."""


class TimesSeen(Model):
    """How it went with the jobs of one task in one queue, or with all of a queue, in the last hour. Seconds."""

    queue: str
    task: str | None
    runs: int
    """Attempts that have ended."""
    failed: int
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


class DepthSeen(Model):
    """How long a queue was at the highest of ten minutes; None if nobody could look."""

    at: datetime
    ready: int | None
    running: int | None
    blocked: int | None


class PastSeen(Model):
    """What has happened with a queue."""

    depths: list[DepthSeen]
    """Of a day."""
    completed: list[int]
    """By the minute, of an hour; the last one is under way."""
    failed: list[int]
    """Attempts that failed, the same way."""
    times: list[TimesSeen]
    """Of an hour: first of all tasks together, then of each."""


class QueueSeen(Model):
    """One queue."""

    at: datetime
    queue: QueueRow
    known: bool
    """Whether anything is known of it: else it has no unfinished job, and never was paused."""
    paused_at: datetime | None
    resume_at: datetime | None
    paused_by: str | None
    """As the audit knows."""
    keep: KeepSeen
    workers: list[Serving]
    limits: list[LimitRow]
    tasks: list[str]
    """Tasks of this app whose jobs go there unless their defer says otherwise."""
    running: list[RunningRow]


async def read_queues(view: View, find: str = "", everything: bool = False) -> QueuesSeen:
    """The queues whose names contain a text; those without jobs only if they are asked for. Raises DatabaseError."""
    frame = await view.site.looker.frame()
    seen = [each for each in frame.queues if view.access.sees(each.queue) and find.lower() in each.queue.lower()]
    shown = seen if everything or find else [each for each in seen if not _is_empty(each)]
    return QueuesSeen(
        at=frame.at,
        queues=[queue_row(each) for each in shown[:_MOST]],
        hidden=len(seen) - len(shown),
        more=max(0, len(shown) - _MOST),
    )


async def read_queue(view: View, name: str) -> QueueSeen | None:
    """One queue; None if it may not be seen. Raises InvalidOption, DatabaseError."""
    queue_named("queue", name)
    if not view.access.sees(name):
        return None
    frame = await view.site.looker.frame()
    stats = next((each for each in frame.queues if each.queue == name), None)

    async def now(session: Session) -> tuple[list[WorkerRow], list[RunningJob]]:
        return await list_workers(session), await running_jobs(session, _RUNNING, queues=[name])

    registered, running = await view.site.looker.kept(("queue now", name), FRESH, now)
    workers = [each for each in registered if each.alive]
    serving = [
        Serving.of(each, at_most=share_of(each.queues, name) or None)
        for each in workers
        if share_of(each.queues, name) is not None
    ]
    known = stats or QueueStats(name, 0, 0, 0, None, False, served=bool(serving))
    return QueueSeen.of(
        known,
        at=frame.at,
        queue=queue_row(known),
        known=stats is not None,
        paused_by=await _paused_by(view, name) if known.paused else None,
        keep=_keep(view, known.keep),
        workers=serving,
        limits=await _limits(view, name),
        tasks=sorted(task.name for task in view.site.app.registry if task.queue == name),
        running=[running_row(view, each) for each in running],
    )


async def read_past(view: View, name: str) -> PastSeen:
    """A day of a queue that may be seen. Raises DatabaseError."""

    async def read(session: Session) -> tuple[list[DepthPoint], list[Rates], list[Times]]:
        return (
            await depths(session, name, _DAY, step=_STEP),
            await rates(session, _HOUR, step=_MINUTE, queue=name),
            await percentiles(session, _HOUR, queue=name),
        )

    points, counted, times = await view.site.looker.kept(("queue", name), _KEPT, read)
    return PastSeen(
        depths=[DepthSeen.of(each) for each in points],
        completed=[each.completed for each in counted],
        failed=[each.retried + each.dead for each in counted],
        times=[TimesSeen.of(each) for each in times],
    )


def _is_empty(each: QueueStats) -> bool:
    return not (each.ready or each.scheduled or each.running or each.blocked or each.paused)


async def _paused_by(view: View, name: str) -> str | None:
    """Who paused it last, if that was told and is among the latest pauses."""
    latest = await view.site.app.audit.list(action="queue.pause", limit=_PAUSES)
    return next((each.who for each in latest if each.what.get("queue") == name), None)


def _keep(view: View, keep: Kept) -> KeepSeen:
    settings = view.site.app.settings
    return KeepSeen.of(keep, default_completed=settings.keep_completed, default_other=settings.keep_other)


async def _limits(view: View, name: str) -> list[LimitRow]:
    """The limits of the whole queue, by its own name or as the code calls it, and those of its tasks."""
    registry = view.site.app.registry
    of_queue = registry.of_queues.get(name)
    of_tasks = {each.name for task in registry if task.queue == name and task.gates for each in task.gates.limits}
    names = {f"queue/{name}"} | ({of_queue.name} if of_queue else set()) | of_tasks
    return [limit_row(each) for each in await all_limits(view) if each.name in names and may_see(view, each.name)]
