"""Schedules: put, read, fired, paused. Who fires one has its row locked. See `schema/README.md`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from jobqueue.base.flows.schedule import UNSEEN, Schedule, Source, Timing
from jobqueue.store.connection.executor import Executor, Reader, named
from jobqueue.store.connection.session import Session
from jobqueue.store.dated import fetch_dated
from jobqueue.store.looking.lookup import as_uuid


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to be put: its job without the moment, as JSON, and when."""

    name: str
    task: str
    queue: str
    args: str
    options: str
    timing: Timing


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of a schedule that was due: its next planned time, and the last that was fired, with its job."""

    name: str
    next_at: datetime | None
    last_at: datetime | None
    last_job: UUID | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Planned times that were not fired: they had passed (`missed`), or the job before had not ended (`overlap`)."""

    schedule: Schedule
    reason: str
    first: datetime
    last: datetime
    count: int
    job: UUID
    """The id that the job of the first would have had."""


@dataclass(frozen=True, slots=True)
class Firing:
    """What fires next."""

    name: str
    task: str
    at: datetime
    seconds: float
    """From now; below 0 if it is late."""


async def take_due(session: Session, room: int, without: Collection[str] = ()) -> list[Schedule]:
    """Lock some that are due, past those that others fire, and those of these names."""
    return _schedules("take_due_schedules", await session.fetch("take_due_schedules", room, UNSEEN, list(without)))


async def next_in(reader: Reader) -> float | None:
    """In how many seconds the next one is due; None without any."""
    rows = await reader.fetch("next_schedule", UNSEEN)
    return float(rows[0][0]) if rows else None


async def schedule_lag(reader: Reader) -> float:
    """How late the one is that is most overdue, in seconds; 0 if none is."""
    return max(0.0, -(await next_in(reader) or 0.0))


async def move(session: Session, fired: Sequence[Fired]) -> None:
    """Write where those that are locked stand now."""
    await session.fetch(
        "move_schedules",
        [each.name for each in fired],
        [_text(each.next_at) for each in fired],
        [_text(each.last_at) for each in fired],
        [each.last_job and str(each.last_job) for each in fired],
    )


async def break_off(session: Session, name: str, why: str) -> None:
    """One cannot be fired: leave it until somebody has seen to it."""
    await session.fetch("break_schedule", name, why)


async def unfinished(reader: Reader, ids: Collection[UUID]) -> set[UUID]:
    """Those of these jobs that have not ended."""
    return {as_uuid(row[0]) for row in await reader.fetch("unfinished_of", list(ids))} if ids else set()


async def log_left_out(session: Session, left_out: Sequence[LeftOut]) -> None:
    """Tell the log, in the transaction that leaves them out."""
    await fetch_dated(
        session,
        "log_missed",
        [each.schedule.name for each in left_out],
        [each.schedule.task for each in left_out],
        [each.schedule.queue for each in left_out],
        [str(each.job) for each in left_out],
        [each.reason for each in left_out],
        [_told(each) for each in left_out],
    )


async def lock(executor: Executor, names: Iterable[str]) -> tuple[Mapping[str, Schedule], datetime]:
    """Those of these names that there are, for this transaction; and the database's clock."""
    rows = _schedules("lock_schedules", await executor.fetch("lock_schedules", sorted(names)))
    now = (await executor.fetch("schedule_clock"))[0][0]
    return {row.name: row for row in rows}, now


async def put(
    executor: Executor, source: Source, new: Sequence[NewSchedule], nexts: Mapping[str, datetime | None]
) -> set[str]:
    """Store these, or change those that there are; the names of those that are of this source, and so could be."""
    if not new:
        return set()
    timings = [each.timing for each in new]
    rows = await executor.fetch(
        "put_schedules", source,
        [each.name for each in new], [each.task for each in new], [each.queue for each in new],
        [each.args for each in new], [each.options for each in new],
        [timing.cron for timing in timings], [timing.tz for timing in timings],
        [timing.missed for timing in timings], [timing.overlap for timing in timings],
        [timing.jitter for timing in timings],
        [_text(timing.starts_at) for timing in timings], [_text(timing.ends_at) for timing in timings],
        [_text(nexts[each.name]) for each in new],
    )  # fmt: skip
    return {row[0] for row in rows}


async def see(reader: Reader, names: Sequence[str]) -> set[str]:
    """The code of a worker declares these still; those that are there."""
    return {row[0] for row in await reader.fetch("see_schedules", list(names))}


async def steer(
    executor: Executor, name: str, next_at: datetime | None, *, pausing: bool, until: datetime | None = None
) -> None:
    """Pause one, perhaps until a moment, or resume it."""
    await executor.fetch("steer_schedule", name, _text(next_at), pausing, _text(until))


async def note_triggered(executor: Executor, name: str, job: UUID) -> None:
    """A job was stored by hand, with which a planned time may overlap."""
    await executor.fetch("note_triggered", name, str(job))


async def find(reader: Reader, names: Sequence[str]) -> list[Schedule]:
    """Those of these names that there are."""
    return _schedules("find_schedules", await reader.fetch("find_schedules", list(names)))


async def page(reader: Reader, *, after: str = "", room: int = 100, source: Source | None = None) -> list[Schedule]:
    """Some of all, at most 1 000, by name."""
    return _schedules("list_schedules", await reader.fetch("list_schedules", after, room, source))


async def next_firings(reader: Reader, room: int) -> list[Firing]:
    """What fires next, the nearest first."""
    return [Firing(*row) for row in await reader.fetch("next_firings", room, UNSEEN)]


async def delete(executor: Executor, name: str) -> Source | None:
    """Remove one; where it was said, or None if there is none."""
    rows = await executor.fetch("delete_schedule", name)
    source: Source | None = rows[0][0] if rows else None
    return source


async def forget(reader: Reader, age: float) -> list[str]:
    """Remove those of the code that no worker has declared for so many seconds; their names."""
    return [row[0] for row in await reader.fetch("forget_schedules", age)]


def _schedules(statement: str, rows: Iterable[Any]) -> list[Schedule]:
    return [_schedule(named(statement, row)) for row in rows]


def _schedule(row: dict[str, Any]) -> Schedule:
    timing = Timing(*(row.pop(name) for name in ("cron", "tz", "missed", "overlap", "jitter", "starts_at", "ends_at")))
    last_job = row.pop("last_job")
    return Schedule(
        timing=timing,
        read_at=row.pop("now"),
        args_json=row.pop("args"),
        options_json=row.pop("options"),
        last_job=last_job and as_uuid(last_job),
        **row,
    )


def _told(left_out: LeftOut) -> str:
    facts = {"first": left_out.first, "last": left_out.last, "count": left_out.count}
    return orjson.dumps(facts).decode()


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
