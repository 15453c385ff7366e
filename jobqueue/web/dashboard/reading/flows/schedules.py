"""Schedules: what comes when, and one with its next times and its last jobs."""

from datetime import datetime
from itertools import islice, takewhile
from uuid import UUID

from jobqueue.base.errors import InvalidOption
from jobqueue.base.flows.cron import Cron
from jobqueue.base.flows.schedule import Schedule, Source, origin_of
from jobqueue.base.job import JobState
from jobqueue.base.moments import check_time
from jobqueue.base.names import check_name
from jobqueue.cron.schedules import MOST_BACKFILLED, Schedules, upcoming
from jobqueue.web.dashboard.reading.jobs import QUICK
from jobqueue.web.dashboard.reading.view import Model, View

PAGE = 100
_PAGES = 5
_NEXT = 10
_LAST = 10
_LATE = 2.0


class ScheduleRow(Model):
    """A schedule."""

    name: str
    source: str
    """`code` or `stored`."""
    task: str
    queue: str
    cron: str
    tz: str
    missed: str
    overlap: str
    jitter: float
    state: str
    next_at: datetime | None
    next_in: float | None
    """Seconds until then; below 0: it is late. None if it is not fired."""
    last_at: datetime | None
    last_job: UUID | None
    paused_at: datetime | None
    paused_until: datetime | None
    broken: str | None
    """Why it cannot be fired."""
    seen_at: datetime | None
    starts_at: datetime | None
    ends_at: datetime | None
    created_at: datetime | None
    deletable: bool
    """Stored, or no worker has it in its code any more."""

    @property
    def late(self) -> bool:
        """It should have been fired, and was not."""
        return self.next_in is not None and self.next_in <= -_LATE


class SchedulesSeen(Model):
    """A page of schedules by name."""

    schedules: list[ScheduleRow]
    next: str | None
    """Where the next page begins; None at the end."""
    alive: bool
    """A worker lives: only workers fire."""


class Fired(Model):
    """A job of a schedule."""

    id: UUID
    state: JobState
    planned_at: datetime | None
    error_class: str | None


class Backfill(Model):
    """What a backfill is about, before it is done."""

    since: datetime
    until: datetime
    planned: int
    """Planned times between the two; those that have their job get no other."""
    too_many: bool


class ScheduleSeen(Model):
    """One schedule."""

    at: datetime | None
    schedule: ScheduleRow
    alive: bool
    planned: list[datetime]
    wrong: str | None
    """Why its planned times cannot be told."""
    jobs: list[Fired]
    reached: datetime | None
    """How far back its jobs were looked for; None if that is everything."""
    may_show: bool
    """Its arguments may be asked for: not without `payloads`, nor where payloads are redacted, which needs a job."""
    backfill: Backfill | None


async def read_schedules(view: View, after: str = "", source: Source | None = None) -> SchedulesSeen:
    """A page of those that may be seen. Raises InvalidOption, DatabaseError."""
    if after:
        check_name("after", after)
    schedules = Schedules(view.site.app.looks, None)
    found: list[Schedule] = []
    next: str | None = after
    for _ in range(_PAGES):
        page = await schedules.list(after=next or "", source=source, limit=PAGE)
        found += [each for each in page if view.access.sees(each.queue)]
        next = page[-1].name if len(page) == PAGE else None
        if next is None or len(found) >= PAGE:
            break
    if len(found) > PAGE:
        found, next = found[:PAGE], found[PAGE - 1].name
    return SchedulesSeen(schedules=[_row(each) for each in found], next=next, alive=await _alive(view))


async def read_schedule(
    view: View, name: str, since: datetime | None = None, until: datetime | None = None
) -> ScheduleSeen | None:
    """One; None if it may not be seen. `since`, `until`: what a backfill of that time would be about.

    Raises ScheduleNotFound, InvalidOption, DatabaseError.
    """
    schedule = await Schedules(view.site.app.looks, None).get(name)
    if not view.access.sees(schedule.queue):
        return None
    jobs = await view.jobs.list(origin=origin_of(name), limit=_LAST, patience=QUICK)
    planned, wrong = _planned(schedule)
    return ScheduleSeen(
        at=schedule.read_at,
        schedule=_row(schedule),
        alive=await _alive(view),
        planned=planned,
        wrong=wrong,
        jobs=[
            Fired.of(each, error_class=each.error.error_class if each.error else None)
            for each in jobs
            if view.access.sees(each.queue)
        ],
        reached=jobs.reached,
        may_show=_may_show(view),
        backfill=None if since is None else _backfill(schedule, since, until),
    )


async def read_arguments(view: View, name: str) -> str | None:
    """JSON text of its jobs' arguments; None if they may not be seen. The look is in the audit before it is shown.

    Raises ScheduleNotFound, DatabaseError.
    """
    schedule = await Schedules(view.site.app.looks, None).get(name)
    if not view.access.sees(schedule.queue) or not _may_show(view):
        return None
    await view.site.app.audit.note(view.by, "schedule.look", schedule=name)
    return schedule.args_json


def _may_show(view: View) -> bool:
    return view.access.payloads and view.site.redact is None


def _row(each: Schedule) -> ScheduleRow:
    timing = each.timing
    fires = each.next_at is not None and each.declared and each.broken is None
    next_in = None
    if fires and each.next_at is not None and each.read_at is not None:
        next_in = (each.next_at - each.read_at).total_seconds()
    return ScheduleRow.of(
        each, cron=timing.cron, tz=timing.tz, missed=timing.missed, overlap=timing.overlap, jitter=timing.jitter,
        next_at=each.next_at if fires else None, next_in=next_in, starts_at=timing.starts_at, ends_at=timing.ends_at,
        paused_at=each.paused_at if each.paused else None, paused_until=each.paused_until if each.paused else None,
        deletable=each.source == "stored" or not each.declared,
    )  # fmt: skip


def _planned(schedule: Schedule) -> tuple[list[datetime], str | None]:
    try:
        fires = schedule.declared and schedule.broken is None
        return (upcoming(schedule, _NEXT) if fires else []), None
    except InvalidOption as error:  # plain SQL has written it, and no worker has come to it
        return [], str(error)


def _backfill(schedule: Schedule, since: datetime, until: datetime | None) -> Backfill:
    check_time("since", since)
    now = schedule.read_at or since
    end = now if until is None else check_time("until", until)
    if end > now:
        raise InvalidOption("until", "must not be in the future")
    if since >= end:
        raise InvalidOption("since", "must be before until, which is now unless it is given")
    cron = Cron(schedule.timing.cron, schedule.timing.tz)
    times = takewhile(lambda time: time < end, cron.after(since - datetime.resolution))
    planned = sum(1 for _ in islice(times, MOST_BACKFILLED + 1))
    return Backfill(
        since=since, until=end, planned=min(planned, MOST_BACKFILLED), too_many=planned > MOST_BACKFILLED
    )  # fmt: skip


async def _alive(view: View) -> bool:
    frame = await view.site.looker.frame()
    return any(each.alive and not each.leaving for each in frame.workers)
