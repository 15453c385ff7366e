"""`app.schedules`, and what the code declares, in memory: fired as the clock of the block is moved on."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.errors import InvalidOption, ScheduleNotFound
from jobqueue.base.flows.schedule import Missed, Overlap, Schedule, Timing
from jobqueue.base.job import Edges, NewJob
from jobqueue.base.moments import Seconds
from jobqueue.base.names import check_name
from jobqueue.cron.schedules import Schedules
from jobqueue.cron.template import new_schedule, planned_job, triggered_job
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.schedules import NewSchedule
from jobqueue.tasks.registry import Declared
from jobqueue.testing.memory.clock import Clock
from jobqueue.testing.memory.shelf import Shelf


class MemorySchedules(Schedules):
    """Keeps and fires schedules; what else there is of `Schedules` needs a database, and says so."""

    def __init__(
        self, database: Callable[[], Awaitable[Database]], shelf: Shelf, declared: Callable[[], Sequence[Declared]]
    ) -> None:
        super().__init__(database, None)
        self.clock: Clock
        self._shelf = shelf
        self._declared = declared
        self._kept: dict[str, Schedule] = {}

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
        """Keep a schedule."""
        By.of(by)
        self.declare()
        new = new_schedule(
            check_name("name", name), job, Timing.of(cron, tz, missed, overlap, jitter, starts_at, ends_at)
        )
        before = self._kept.get(name)
        if before is not None and before.source == "code":
            raise InvalidOption("name", "is that of a schedule in the code of a worker; choose another")
        self._kept[name] = _schedule(new, self.clock.now, before)
        return self._kept[name]

    async def get(self, name: str, *, connection: object | None = None) -> Schedule:
        """One, as it stands now. Raises ScheduleNotFound."""
        return self._found(name)

    async def trigger(self, name: str, *, by: Doer | None = None, connection: object | None = None) -> UUID:
        """Keep a job of it now; the job's id. Raises ScheduleNotFound."""
        By.of(by)
        job = triggered_job(self._found(name), uuid7())
        return self._shelf.put(job).id

    async def delete(self, name: str, *, by: Doer | None = None, connection: object | None = None) -> None:
        """Remove it. Raises ScheduleNotFound, InvalidOption."""
        By.of(by)
        if self._found(name).source == "code":
            raise InvalidOption("name", "is declared in the code of a worker: remove it there, or pause it")
        del self._kept[name]

    def declare(self) -> None:
        """What the code declares by now is kept too."""
        for each in self._declared():
            if each.name not in self._kept:
                new = new_schedule(each.name, each.task.job(), each.timing)
                self._kept[each.name] = replace(_schedule(new, self.clock.now, None), source="code")

    def planned(self) -> datetime | None:
        """The next time at which something is to be fired."""
        self.declare()
        return min((each.next_at for each in self._kept.values() if each.next_at is not None), default=None)

    def fire(self) -> None:
        """Keep the jobs of all planned times that have come."""
        for schedule in list(self._kept.values()):
            if schedule.next_at is not None and schedule.next_at <= self.clock.now:
                self._fire(schedule, schedule.next_at)

    def _fire(self, schedule: Schedule, planned: datetime) -> None:
        moved = replace(schedule, next_at=schedule.timing.next(planned), last_at=planned, read_at=self.clock.now)
        last = self._shelf.jobs.get(schedule.last_job) if schedule.last_job is not None else None
        before = frozenset[UUID]() if last is None or last.state.final else frozenset({last.id})
        if not before or schedule.timing.overlap != "skip":
            waits = before if schedule.timing.overlap == "queue" else frozenset[UUID]()
            edges = Edges(waits=True, after=tuple(waits), any_end=True) if waits else None
            job = replace(planned_job(schedule, planned), edges=edges)
            moved = replace(moved, last_job=self._shelf.put(job, blocked_by=waits).id)
        self._kept[schedule.name] = moved

    def _found(self, name: str) -> Schedule:
        self.declare()
        if check_name("name", name) not in self._kept:
            raise ScheduleNotFound(name)
        return self._kept[name]


def _schedule(new: NewSchedule, now: datetime, before: Schedule | None) -> Schedule:
    return Schedule(
        name=new.name,
        source="stored",
        task=new.task,
        queue=new.queue,
        timing=new.timing,
        next_at=new.timing.next(now),
        last_at=None if before is None else before.last_at,
        last_job=None if before is None else before.last_job,
        created_at=now,
        read_at=now,
        args_json=new.args,
        options_json=new.options,
    )
