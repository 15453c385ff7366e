"""The firer: stores the jobs of planned times.

Every worker has one; they take turns by the locks on schedules' rows. One transaction locks some that are due, stores a
job for each planned time, and moves the rows on: whatever dies, each planned time has one job. It sleeps until the next
planned time, and is woken when somebody puts a nearer one.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.flows.schedule import Schedule, planned_id
from jobqueue.base.job import NewJob
from jobqueue.base.log import get_logger
from jobqueue.base.service import FirstLook, Patience, Wakeup
from jobqueue.cron.declaring import Declarer
from jobqueue.cron.planning import Plan, plan
from jobqueue.cron.template import planned_job
from jobqueue.store.connection.faults import CUT_SHORT, DATABASE_ERRORS, Fault, LockTimeout, brief, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import schedules
from jobqueue.store.flows.schedules import Fired, LeftOut
from jobqueue.store.intake import insert_all
from jobqueue.store.locks import wait_briefly
from jobqueue.tasks.registry import Declared

_PAGE = 100
_POLL = 5.0
"""Seconds to the next look if nothing is due before."""
_OTHERS = (0.01, 1.0)
"""Seconds to the next look while others have locked what is due: at first, and at most."""
_PASSED_OVER = 20.0
"""Seconds for which one is left whose job cannot be stored now: a try costs all others a tenth of a second."""
_AT_ONCE = 1_000
"""Jobs that one transaction stores, unless a single schedule has more."""
_LONGEST_LOOK = 1.0
"""Seconds after which what has not been looked at is left to the next transaction.

One expression in a zone takes up to 50 ms after three days, and the server ends a transaction that stands still for ten
seconds: a hundred of them would never be fired on a slow machine.
"""

log = get_logger(__name__)


@dataclass(slots=True)
class _Look:
    """A schedule that is due, and what is to be done about it."""

    schedule: Schedule
    plan: Plan = field(default_factory=lambda: Plan([], None))
    jobs: list[NewJob[Any]] = field(default_factory=list)
    broken: str | None = None

    @property
    def last(self) -> int:
        """The place of the last planned time that is fired."""
        return len(self.jobs) - 1


class Firer:
    """A service of every worker."""

    def __init__(self, database: Database, declared: Callable[[], Sequence[Declared]]) -> None:
        """`declared` gives what the code declares, as it stands at that moment."""
        self.wakeup = Wakeup()
        self.fired = 0
        """Jobs stored so far."""
        self.missed = 0
        """Planned times left out so far."""
        self._session = Session(database)
        self._declarer = Declarer(self._session, declared)
        self._one_by_one = 0
        self._held_up: dict[str, float] = {}
        """Those that are passed over, and until when."""
        self._others = Patience(*_OTHERS)
        self._outage = Outage("schedules", log)
        self._thread = anyio.CapacityLimiter(1)
        """Of its own: rows are locked, and the threads of all may be busy for long with the user's work."""

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Fire until cancelled; a transaction under way is then undone. Survives every database error."""
        first = FirstLook(task_status)
        try:
            while True:
                self.wakeup.clear()
                try:
                    pause = await self.look()
                except DATABASE_ERRORS as error:
                    first.over()
                    await self._outage.wait(error)
                    continue
                self._outage.over()
                first.over()
                await self.wakeup.wait(pause)
        finally:
            await self.close()

    async def close(self) -> None:
        """Give the connection back."""
        await self._session.close()

    async def look(self) -> float:
        """Fire all that is due; in how many seconds to look again."""
        await self._declarer.look()
        poll = _POLL * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
        while await self._page():
            pass
        seconds = await schedules.next_in(self._session)
        await self._session.close()
        if seconds is None or seconds > 0:
            self._others.reset()
            return poll if seconds is None else min(poll, seconds)
        return self._others.next()

    async def _page(self) -> bool:
        """Fire some of those that are due; False if there were none."""
        due: list[Schedule] = []
        warned, now = bool(self._one_by_one or self._held_up), time.monotonic()
        self._held_up = {name: until for name, until in self._held_up.items() if until > now}
        try:
            async with self._session.transaction():
                if warned:
                    await wait_briefly(self._session)
                due = await schedules.take_due(self._session, 1 if self._one_by_one else _PAGE, self._held_up)
                if due:
                    await self._fire(await anyio.to_thread.run_sync(_look_at, due, limiter=self._thread))
        except Exception as error:
            held_up = isinstance(error, (LockTimeout, *CUT_SHORT))
            if isinstance(error, DATABASE_ERRORS) and not held_up and classify(error) is not Fault.BAD_DATA:
                raise
            await self._refused(due, error, held_up)
        else:
            self._one_by_one = max(0, self._one_by_one - 1)
        return bool(due)

    async def _refused(self, due: Sequence[Schedule], error: Exception, held_up: bool) -> None:
        """One that nobody can fire keeps no other from being fired.

        Its row says what cannot be; or it is held up: an open transaction has the unique key of its job.
        """
        if not due:
            raise error
        if len(due) == 1 and held_up:
            self._pass_over(due[0], brief(error))
        elif len(due) == 1:
            await self._break(due[0], brief(error))
        self._one_by_one = len(due) if len(due) > 1 else max(0, self._one_by_one - 1)

    def _pass_over(self, schedule: Schedule, why: str) -> None:
        self._held_up[schedule.name] = time.monotonic() + _PASSED_OVER
        log.warning("schedule.held_up", schedule=schedule.name, error=why, retry_in=_PASSED_OVER)

    async def _break(self, schedule: Schedule, why: str) -> None:
        await schedules.break_off(self._session, schedule.name, why)
        log.error("schedule.broken", schedule=schedule.name, error=why)

    async def _fire(self, looks: Sequence[_Look]) -> None:
        """In a transaction that holds their rows."""
        for look in looks:
            if look.broken is not None:
                await self._break(look.schedule, look.broken)
        sound = [look for look in looks if look.broken is None]
        left_out = await self._leave_out(sound)
        jobs = [job for look in sound for job in look.jobs]
        sent = await insert_all(self._session, jobs, always=False) if jobs else []
        ids_sent, fired = iter([each.id for each in sent]), []
        for look in sound:
            ids = [next(ids_sent) for _ in look.jobs]
            last = look.plan.fire[look.last] if ids else None
            fired.append(Fired(look.schedule.name, look.plan.next, last, ids[-1] if ids else None))
        await schedules.move(self._session, fired)
        if left_out:
            await schedules.log_left_out(self._session, left_out)
        self.fired += sum(not each.duplicate for each in sent)
        self._tell(sound, left_out)

    async def _leave_out(self, looks: Sequence[_Look]) -> list[LeftOut]:
        """What was missed; and what would overlap, whose jobs are taken back here."""
        left_out = [_missed(look) for look in looks if look.plan.count]
        alone = [look for look in looks if look.schedule.timing.overlap == "skip" and look.jobs]
        before = {look.schedule.last_job for look in alone if look.schedule.last_job is not None}
        unfinished = await schedules.unfinished(self._session, before)
        for look in alone:
            most = 0 if look.schedule.last_job in unfinished else 1
            if planned := look.plan.fire[most:]:
                left_out.append(_left_out(look.schedule, "overlap", planned[0], planned[-1], len(planned)))
                del look.jobs[most:]
        return left_out

    def _tell(self, looks: Sequence[_Look], left_out: Sequence[LeftOut]) -> None:
        """Before the commit: what is told of one that fails is told again, with the next try."""
        for look in looks:
            for planned, job in zip(look.plan.fire, look.jobs, strict=False) if log.says("debug") else ():
                facts = {"planned": planned.isoformat(), "job_id": str(job.id)}
                log.debug("schedule.fired", schedule=look.schedule.name, **facts)
        for each in left_out:
            self.missed += each.count
            log.warning("schedule.missed", schedule=each.schedule.name, reason=each.reason, count=each.count,
                        first=each.first.isoformat(), last=each.last.isoformat())  # fmt: skip


def _look_at(due: Iterable[Schedule]) -> list[_Look]:
    """In a thread: an expression takes 0.1 ms, and a hundred of them would hold up the loop."""
    looks: list[_Look] = []
    stored, end = 0, time.monotonic() + _LONGEST_LOOK
    for schedule in due:
        if looks and (stored >= _AT_ONCE or time.monotonic() >= end):
            break  # the others are due still
        looks.append(look := _Look(schedule))
        try:
            look.plan = plan(schedule, _now(schedule))
            look.jobs = [planned_job(schedule, planned) for planned in look.plan.fire]
        except Exception as error:  # plain SQL may have written anything
            look.broken = brief(error)
        stored += len(look.jobs)
    return looks


def _now(schedule: Schedule) -> datetime:
    assert schedule.read_at is not None  # noqa: S101 - whoever reads a row reads the clock
    return schedule.read_at


def _missed(look: _Look) -> LeftOut:
    return _left_out(look.schedule, "missed", look.plan.missed[0], look.plan.missed[-1], look.plan.count)


def _left_out(schedule: Schedule, reason: str, first: datetime, last: datetime, count: int) -> LeftOut:
    return LeftOut(schedule, reason, first, last, count, planned_id(schedule.name, first))
