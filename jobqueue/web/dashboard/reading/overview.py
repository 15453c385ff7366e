"""The whole in one look: what needs attention, rates, queues, workers, what runs longest."""

from datetime import datetime
from urllib.parse import quote
from uuid import UUID

from jobqueue.store.looking.overview import QueueStats, RunningJob, WorkerNow
from jobqueue.web.dashboard.live.looker import Frame
from jobqueue.web.dashboard.reading.view import Model, View

_LATE = 600.0
"""Seconds after which a job that is due, and that workers could take, has waited for too long."""


class QueueRow(Model):
    """A queue in the overview."""

    queue: str
    ready: int
    scheduled: int
    running: int
    blocked: int
    suspects: int
    oldest_due: float | None
    """Seconds for which the longest waiting ready job has been due."""
    paused: bool
    paused_for: float | None
    resumes_in: float | None
    served: bool
    """A worker lives that takes jobs from it."""
    estimated: list[str]
    """The states whose numbers are about right only."""


class WorkerRow(Model):
    """A worker in the overview."""

    id: UUID
    app: str
    host: str
    pid: int
    concurrency: int
    running: int
    ahead: int
    up: float
    silent: float
    alive: bool
    leaving: bool


class RunningRow(Model):
    """A job that runs."""

    id: UUID
    task: str
    queue: str
    seconds: float
    fraction: float | None
    message: str | None
    """What it says of its progress; None without `payloads`."""
    cancelling: bool


class RatesNow(Model):
    """Jobs a second over the last seconds."""

    deferred: float
    started: float
    finished: float
    failed: float


class Attention(Model):
    """Something that an operator should know first."""

    kind: str
    """Of a queue `failing`, `unserved`, `late`, `paused` or `suspects`; of a worker `lost`; of a handler `stuck`, or
    `starved` for all slots of its worker, which wait for other jobs; of a task `aside`; of a webhook `receiver` (it
    fails) or `disabled`; of the database `snapshot`."""
    subject: str
    number: int
    seconds: float | None = None
    share: float | None = None
    href: str
    """Where to go, below the dashboard's root."""


class Overview(Model):
    """The first page."""

    at: datetime
    rates: RatesNow | None
    attention: list[Attention]
    queues: list[QueueRow]
    workers: list[WorkerRow]
    longest: list[RunningRow]


async def read_overview(view: View) -> Overview:
    """The whole as of the last look. Raises DatabaseError."""
    return overview_of(view, await view.site.looker.frame())


def overview_of(view: View, frame: Frame) -> Overview:
    """A look, as this user may see it."""
    queues = [each for each in frame.queues if view.access.sees(each.queue)]
    everything = view.access.queues is None  # rates, and how much a worker does, are of all queues together
    workers = frame.workers if everything else ()
    return Overview(
        at=frame.at,
        rates=RatesNow.of(frame.rates) if everything and frame.rates is not None else None,
        attention=[*_of_queues(queues), *_of_workers(workers)],
        queues=[queue_row(each) for each in queues],
        workers=[WorkerRow.of(each) for each in workers],
        longest=[running_row(view, each) for each in frame.longest if view.access.sees(each.queue)],
    )


def _of_queues(queues: list[QueueStats]) -> list[Attention]:
    found = []
    for each in queues:
        href = f"/queues/{quote(each.queue, safe='')}"
        if each.ready and not each.served:
            found.append(Attention(kind="unserved", subject=each.queue, number=each.ready, href=href))
        if each.served and not each.paused and (each.oldest_due or 0.0) > _LATE:
            found.append(
                Attention(kind="late", subject=each.queue, number=each.ready, seconds=each.oldest_due, href=href)
            )
        if each.paused:
            waiting = each.ready + each.scheduled
            found.append(
                Attention(kind="paused", subject=each.queue, number=waiting, seconds=each.resumes_in, href=href)
            )
        if each.suspects:
            found.append(Attention(kind="suspects", subject=each.queue, number=each.suspects, href=href))
    return found


def _of_workers(workers: tuple[WorkerNow, ...]) -> list[Attention]:
    lost = [each for each in workers if not each.alive and not each.leaving]
    return [
        Attention(kind="lost", subject=each.app, number=each.running, seconds=each.silent, href=f"/workers/{each.id}")
        for each in lost
    ]


def queue_row(each: QueueStats) -> QueueRow:
    """A queue as it is shown."""
    return QueueRow.of(each, estimated=sorted(each.estimated))


def running_row(view: View, each: RunningJob) -> RunningRow:
    """A job that runs, as this user may see it. Where payloads are redacted no message is shown: that needs its job."""
    message = each.message if view.access.payloads and view.site.redact is None else None
    return RunningRow.of(each, message=message)
