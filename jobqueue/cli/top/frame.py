"""One frame of `top`: what was seen, and how it is put into so many columns and lines."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from jobqueue.base.flows.bundle import BundleCounts
from jobqueue.base.flows.limit import LimitStats
from jobqueue.base.job import JobState, short_id
from jobqueue.base.version import VERSION
from jobqueue.cli.limits.look import HEADERS, NUMBERS, limit_row
from jobqueue.cli.queues.look import queue_row, states_shown
from jobqueue.cli.queues.stuck import stuck_lines
from jobqueue.cli.schedules.words import FIRING_HEADERS, firing_row
from jobqueue.cli.terminal.safe_text import escaped
from jobqueue.store.flows.schedules import Firing
from jobqueue.store.looking.overview import Flow, QueueStats, RunningJob, StuckJob, WorkerNow
from jobqueue.telling.spans import duration

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

_WHOLE_ID = 130
"""Columns from which on ids are shown in full."""
_ORDER = (JobState.READY, JobState.SCHEDULED, JobState.BLOCKED, JobState.RUNNING)
_PLAIN_JOBS = 20
_PLAIN_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Rates:
    """Jobs a second, over the last ten seconds or since the first look."""

    deferred: float
    started: float
    completed: float
    dead: float
    cancelled: float

    @classmethod
    def between(cls, first: Flow, last: Flow) -> "Rates":
        """From two looks, the last of which has counted the dead and the cancelled since the first."""
        seconds = max((last.now - first.now).total_seconds(), 0.001)
        return cls(
            deferred=(last.deferred - first.deferred) / seconds,
            started=(last.started - first.started) / seconds,
            completed=max(last.finished - first.finished - last.dead - last.cancelled, 0) / seconds,
            dead=last.dead / seconds,
            cancelled=last.cancelled / seconds,
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """What one look has found. `database` without its password, `at` on the database's clock."""

    database: str
    at: datetime
    rates: Rates | None
    queues: list[QueueStats]
    workers: list[WorkerNow]
    jobs: list[RunningJob]
    bundles: BundleCounts
    firings: list[Firing] = field(default_factory=list)
    limits: list[LimitStats] = field(default_factory=list)
    """Those at which somebody waits."""
    stuck: list[StuckJob] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Part:
    """A table of the frame. `total` may be more than it has rows."""

    headers: tuple[str, ...]
    right: tuple[str, ...]
    rows: list[tuple[str | None, ...]]
    total: int


def draw(frame: Frame, width: int, height: int, away: float | None = None, trouble: str | None = None) -> "Group":
    """The frame in a terminal of this size: what does not fit is counted."""
    from rich.console import Group
    from rich.text import Text

    head = [Text(line, no_wrap=True, overflow="ellipsis") for line in _head(frame)]
    stuck = stuck_lines(frame.stuck, width)
    head += [Text(line, style="bold yellow", no_wrap=True, overflow="ellipsis") for line in stuck]
    if away is not None:
        head.append(Text(f"database away since {duration(away)} ({trouble})", style="bold red", no_wrap=True))
    parts = _parts(frame, width)
    rooms = shared(height - len(head) - 2 * len(parts), [part.total for part in parts])
    pieces: list[RenderableType] = [*head]
    for part, room in zip(parts, rooms, strict=True):
        pieces += [Text(""), *_table(part, room)]
    return Group(*pieces)


def write_plain(frame: Frame) -> None:
    """The frame as text, for whoever reads lines: all queues and workers, the jobs that have run for longest."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    jobs = min(_PLAIN_JOBS, len(frame.jobs)) + 1
    with console.capture() as written:
        firings = len(frame.firings) + 2 if frame.firings else 0
        limits = len(frame.limits) + 2 if frame.limits else 0
        lines = 9 + len(stuck_lines(frame.stuck)) + len(frame.queues) + len(frame.workers) + jobs + limits + firings
        console.print(draw(frame, console.width, lines))
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in written.get().splitlines())


def shared(lines: int, wanted: Sequence[int]) -> list[int]:
    """Divide lines among parts: nobody gets more than it wants, and what small ones leave goes to the others."""
    rooms = [0] * len(wanted)
    left = max(lines, 0)
    for done, place in enumerate(sorted(range(len(wanted)), key=lambda place: wanted[place])):
        rooms[place] = min(wanted[place], left // (len(wanted) - done))
        left -= rooms[place]
    return rooms


def short(number: int, about: bool = False) -> str:
    """A number in at most six characters: `99999`, `~600 k`, `1.2 M`."""
    if number < 100_000 and not about:
        return str(number)
    mark = "~" if about else ""
    if number < 10_000:
        return f"{mark}{number}"
    return f"{mark}{number / 1e3:.0f} k" if number < 999_500 else f"{mark}{number / 1e6:.1f} M"


def _head(frame: Frame) -> list[str]:
    alive = sum(worker.alive and not worker.leaving for worker in frame.workers)
    gone = len(frame.workers) - alive
    about = {state for queue in frame.queues for state in queue.estimated}
    held = [
        f"{short(sum(getattr(queue, state) for queue in frame.queues), state in about)} {state}"
        for state in _states(frame.queues)
    ]
    workers = f"{alive} {'worker' if alive == 1 else 'workers'}" + (f" ({gone} dead or leaving)" if gone else "")
    unfinished = short(frame.bundles.unfinished, "unfinished" in frame.bundles.estimated)
    bundles = f", {unfinished} unfinished bundles" if frame.bundles.unfinished else ""
    return [
        f"jobqueue {VERSION}  {frame.at.astimezone(UTC):%H:%M:%S} UTC  {escaped(frame.database)}",
        f"{workers}, jobs: {', '.join(held)}{bundles}",
        f"per second: {_flow(frame.rates)}",
    ]


def _flow(rates: Rates | None) -> str:
    if rates is None:
        return "..."
    return ", ".join(f"{name} {getattr(rates, name):.3g}" for name in Rates.__dataclass_fields__)


def _parts(frame: Frame, width: int) -> list[Part]:
    names = {worker.id: f"{worker.host} {worker.pid}" for worker in frame.workers}
    queues, states = sorted(frame.queues, key=_size), _states(frame.queues)
    jobs = [_job_row(job, names, width) for job in frame.jobs if not job.ahead]
    limits = [limit_row(limit) for limit in frame.limits]
    lines = [Part(HEADERS, NUMBERS, limits, len(limits))] if limits else []
    return [
        Part(
            ("queue", *states, "oldest due", "notes"),
            (*states, "oldest due"),
            [queue_row(queue, states, short) for queue in queues],
            len(queues),
        ),
        *lines,
        Part(
            ("worker", "app", "version", "running", "ahead", "up", "beat", "state"),
            ("running", "ahead", "up", "beat"),
            [_worker_row(worker) for worker in frame.workers],
            len(frame.workers),
        ),
        Part(
            ("running", "task", "queue", "try", "for", "progress", "worker"),
            ("try", "for"),
            jobs,
            max(sum(worker.running for worker in frame.workers), len(jobs)),
        ),
        *_firing_parts(frame.firings),
    ]


def _firing_parts(firings: Sequence[Firing]) -> list[Part]:
    """None where there are no schedules: most have none."""
    rows: list[tuple[str | None, ...]] = [firing_row(firing) for firing in firings]
    return [Part(FIRING_HEADERS, (), rows, len(rows))] if rows else []


def _states(queues: Sequence[QueueStats]) -> list[JobState]:
    """Those that are shown, what may run first."""
    return sorted(states_shown(queues), key=_ORDER.index)


def _size(queue: QueueStats) -> tuple[int, int, str]:
    """The long ones first; by powers of two, so that rows do not jump about."""
    later = queue.scheduled + queue.blocked
    return -(queue.ready + queue.running).bit_length(), -later.bit_length(), queue.queue


def _worker_row(worker: WorkerNow) -> tuple[str | None, ...]:
    state = "dead" if not worker.alive else "leaving" if worker.leaving else "alive"
    return (
        f"{worker.host} {worker.pid}",
        worker.app,
        worker.version,
        f"{worker.running}/{worker.concurrency}",
        str(worker.ahead or ""),
        duration(max(worker.up, 0.0)),
        duration(max(worker.silent, 0.0)),
        state,
    )


def _job_row(job: RunningJob, workers: dict[UUID, str], width: int) -> tuple[str | None, ...]:
    reached = [] if job.fraction is None else [f"{job.fraction:.0%}"]
    told = " ".join([*(["cancelling"] if job.cancelling else []), *reached, job.message or ""])
    return (
        str(job.id) if width >= _WHOLE_ID else short_id(job.id),
        job.task,
        job.queue,
        f"{job.attempt}/{job.max_attempts}",
        duration(max(job.seconds, 0.0)),
        told,
        workers.get(job.worker_id, "unknown"),
    )


_STYLES = {"dead": "red", "leaving": "yellow", "alive": "green"}


def _table(part: Part, room: int) -> Iterable["RenderableType"]:
    """The rows that fit into so many lines, and how many do not."""
    from rich.table import Table
    from rich.text import Text

    fits = part.total <= room and len(part.rows) >= part.total
    rows = part.rows[: room if fits else max(room - 1, 0)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
    for header in part.headers:
        table.add_column(header, justify="right" if header in part.right else "left", no_wrap=header in part.right)
    for row in rows:
        cells = [escaped(cell or "") for cell in row]
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis", style=_STYLES.get(cell, "")) for cell in cells))
    yield table
    if not fits and room > 0:
        yield Text(f"+{part.total - len(rows)} more", style="dim")
