"""`app.schedules`: jobs that are stored at planned times."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, takewhile
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.errors import InvalidOption, ScheduleNotFound
from jobqueue.base.flows.cron import Cron
from jobqueue.base.flows.schedule import Missed, Overlap, Schedule, Source, Timing
from jobqueue.base.job import NewJob, Sent
from jobqueue.base.moments import Seconds, check_time
from jobqueue.base.names import check_name, check_whole
from jobqueue.cron.putting import put
from jobqueue.cron.template import new_schedule, planned_job, triggered_job
from jobqueue.store.acting.audit import Noted, Row, noting
from jobqueue.store.connection.edge import executor_for
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows import schedules
from jobqueue.store.intake import insert_all
from jobqueue.store.standby import await_standby

_PAGE = 1_000
_CHUNK = 500
MOST_BACKFILLED = 10_000


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What a backfill came to."""

    stored: int
    """Jobs that it stored."""
    known: int
    """Planned times that had their job already."""


class Schedules:
    """Puts schedules and steers them. With `connection` in the transaction that it is in.

    `by` is who does it, for the audit, which is written in the same transaction.
    """

    def __init__(self, database: Callable[[], Awaitable[Database]], on: Callable[[object], Executor] | None) -> None:
        """`on` gives the executor for a caller's connection; None where nobody has one."""
        self._database = database
        self._on = on

    async def put(
        self,
        name: str,
        job: NewJob[Any],
        cron: str,
        *,
        tz: str = "UTC",
        missed: Missed = "skip",
        overlap: Overlap = "allow",
        jitter: Seconds = 0,
        starts_at: datetime | None = None,
        ends_at: datetime | None = None,
        by: Doer | None = None,
        connection: object | None = None,
    ) -> Schedule:
        """Store a job like this at each planned time, until it is deleted; a schedule of this name is changed.

        `cron` has five fields (minute hour day month weekday), or six with seconds first, in the time zone `tz`.
        `missed`: what becomes of times that passed while no worker was there: `skip` them, `once` for all of them, or
        `all`, the latest thousand at least. `overlap`: what happens if the job of the time before has not ended:
        `allow` another, `skip` this time, or `queue`: the next begins when that one has ended. `jitter`: each job is
        late by up to so many seconds, always the same for one planned time. Planned times lie between `starts_at` and
        `ends_at` inclusive. The clock is the database's. A handler has the planned time as `ctx.job.planned_at`.
        Middleware of defers is not asked.
        Raises InvalidOption.

            await app.schedules.put(f"remind-{user}", remind.job(user), "0 8 * * *", tz="Europe/Vienna")
        """
        timing = Timing.of(cron, tz, missed, overlap, jitter, starts_at, ends_at)
        new, doer = new_schedule(check_name("name", name), job, timing), By.of(by)
        said = {"schedule": name, "task": new.task, "queue": new.queue, "cron": cron, "tz": tz}
        async with (
            self._executor(connection) as executor,
            executor.transaction(),
            noting(executor, doer, "schedule.put", **said),
        ):
            if name not in await put(executor, "stored", [new]):
                raise InvalidOption("name", "is that of a schedule in the code of a worker; choose another")
            return (await schedules.find(executor, [name]))[0]

    async def get(self, name: str, *, connection: object | None = None) -> Schedule:
        """One, as it stands now. Raises ScheduleNotFound."""
        async with self._executor(connection) as executor:
            return await _found(executor, name)

    async def list(
        self,
        *,
        after: str = "",
        source: Source | None = None,
        limit: int = 100,
        connection: object | None = None,
    ) -> Sequence[Schedule]:
        """Schedules by name; `after=page[-1].name` goes on. `source`: only those of the `code`, or the `stored`.

        Raises InvalidOption.
        """
        if check_whole("limit", limit, (1, _PAGE)) is None:
            raise InvalidOption("limit", f"must be a whole number from 1 to {_PAGE}")
        if source not in (None, "code", "stored"):
            raise InvalidOption("source", "must be code or stored")
        async with self._executor(connection) as executor:
            return await schedules.page(executor, after=after, room=limit, source=source)

    async def next(self, name: str, n: int = 5) -> Sequence[datetime]:
        """Its next planned times, at most so many, in UTC; none while it is paused. Raises ScheduleNotFound."""
        many = check_whole("n", n, (1, _PAGE)) or 1
        return upcoming(await self.get(name), many)

    async def pause(
        self, name: str, until: datetime | None = None, *, by: Doer | None = None, connection: object | None = None
    ) -> Schedule:
        """Fire it no more, until it is resumed, or until a moment. What is planned meanwhile does not count as missed.

        Raises ScheduleNotFound, InvalidOption.
        """
        moment = None if until is None else check_time("until", until)
        async with self._locked(name, connection, "pause", by) as (executor, schedule, now, row):
            row.what["until"] = moment
            next_at = None if moment is None else schedule.timing.next(max(now, moment))
            await schedules.steer(executor, name, next_at, pausing=True, until=moment)
            return await _found(executor, name)

    async def resume(self, name: str, *, by: Doer | None = None, connection: object | None = None) -> Schedule:
        """Fire it again, from its next planned time on; also one that had broken. Raises ScheduleNotFound."""
        async with self._locked(name, connection, "resume", by) as (executor, schedule, now, row):
            resting = schedule.paused_at is not None or schedule.broken is not None
            row.changed = int(resting)
            next_at = schedule.timing.next(now) if resting else schedule.next_at
            await schedules.steer(executor, name, next_at, pausing=False)
            return await _found(executor, name)

    async def trigger(self, name: str, *, by: Doer | None = None, connection: object | None = None) -> UUID:
        """Store a job of it now, whatever is planned, paused or not; the job's id. Raises ScheduleNotFound."""
        async with self._locked(name, connection, "trigger", by) as (executor, schedule, _, row):
            job = triggered_job(schedule, uuid7())
            sent = await insert_all(executor, [job], always=connection is not None)
            await schedules.note_triggered(executor, name, sent[0].id)
            row.jobs, row.what["ids"] = [sent[0].id], [str(sent[0].id)]
            return sent[0].id

    async def backfill(
        self,
        name: str,
        since: datetime,
        until: datetime,
        *,
        by: Doer | None = None,
        connection: object | None = None,
    ) -> Backfilled:
        """Store the jobs of planned times from `since` on, before `until`; those that have theirs get no other.

        They are planned as the schedule says now, whatever it said then, and may overlap. At most 10 000, none to come.
        What the archive has forgotten is not known any more. Raises ScheduleNotFound, InvalidOption.
        """
        begin, end, doer = check_time("since", since), check_time("until", until), By.of(by)
        what = {"schedule": name, "since": begin, "until": end}
        note = None if doer is None else Noted(doer, "schedule.backfill", what)
        async with self._executor(connection) as executor:
            schedule = await _found(executor, name)
            if schedule.read_at is None or end > schedule.read_at:
                raise InvalidOption("until", "must not be in the future")
            times = takewhile(lambda time: time < end, _cron(schedule).after(begin - datetime.resolution))
            planned = list(islice(times, MOST_BACKFILLED + 1))
            if len(planned) > MOST_BACKFILLED:
                raise InvalidOption(
                    "since", f"more than {MOST_BACKFILLED} planned times lie before until; do it in parts"
                )
            stored = 0
            for start in range(0, len(planned), _CHUNK):
                jobs = [planned_job(schedule, time) for time in planned[start : start + _CHUNK]]
                sent = await _insert(executor, jobs, note, always=connection is not None or note is not None)
                stored += sum(not each.duplicate for each in sent)
            return Backfilled(stored, len(planned) - stored)

    async def delete(self, name: str, *, by: Doer | None = None, connection: object | None = None) -> None:
        """Remove it; jobs that it has stored stay. One of the code only once no worker declares it any more.

        Raises ScheduleNotFound, InvalidOption.
        """
        async with self._locked(name, connection, "delete", by) as (executor, schedule, _, _):
            if schedule.source == "code" and schedule.declared:
                raise InvalidOption("name", "is declared in the code of a worker: remove it there, or pause it")
            await schedules.delete(executor, name)

    @contextlib.asynccontextmanager
    async def _locked(
        self, name: str, connection: object | None, verb: str, by: Doer | None
    ) -> AsyncIterator[tuple[Executor, Schedule, datetime, Row]]:
        doer = By.of(by)
        async with self._executor(connection) as executor:
            try:
                async with (
                    executor.transaction(),
                    noting(executor, doer, f"schedule.{verb}", schedule=name) as row,
                ):
                    found, now = await schedules.lock(executor, [check_name("name", name)])
                    if name not in found:
                        raise ScheduleNotFound(name)
                    yield executor, found[name], now, row
            except ScheduleNotFound:
                await await_standby(executor)  # an earlier call may have deleted it
                raise

    def _executor(self, connection: object | None) -> contextlib.AbstractAsyncContextManager[Executor]:
        return executor_for(connection, self._on, self._database)


def upcoming(schedule: Schedule, many: int) -> list[datetime]:
    """Its next planned times, at most so many."""
    timing, first = schedule.timing, schedule.next_at
    if first is None:
        return []
    later = takewhile(lambda time: timing.ends_at is None or time <= timing.ends_at, _cron(schedule).after(first))
    return [first, *islice(later, many - 1)]


async def _insert(
    executor: Executor, jobs: Sequence[NewJob[Any]], note: Noted | None, *, always: bool
) -> Sequence[Sent]:
    """Store them, and with them what the audit says of it."""
    if note is None:
        return await insert_all(executor, jobs, always=always)
    async with executor.transaction():
        sent = await insert_all(executor, jobs, always=always)
        stored = [each.id for each in sent if not each.duplicate]
        await note.add(executor, len(sent), len(stored), ids=stored)
    note.keep()
    return sent


def _cron(schedule: Schedule) -> Cron:
    return Cron(schedule.timing.cron, schedule.timing.tz)


async def _found(executor: Executor, name: str) -> Schedule:
    found = await schedules.find(executor, [check_name("name", name)])
    if not found:
        raise ScheduleNotFound(name)
    return found[0]
