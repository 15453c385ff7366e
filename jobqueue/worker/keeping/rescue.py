"""Takes back the claims of workers that died: in every worker, at its start and every few seconds.

What counts is the lease in the job's own row, on the database's clock. That a worker is dead is concluded from its
beats, or seen at once if its process was on this machine. A crash counts against all jobs that the worker had, if
nobody vouches for it: they are suspects then, and run again after a moment. One crash before the limit a job runs
alone: only a crash that nobody else can have caused ends a job.
"""

import random
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.codec import loads
from jobqueue.base.job import AttemptError, JsonValue, WorkerId
from jobqueue.base.log import get_logger, job_facts
from jobqueue.base.outcome import Cancelled, Dead, Outcome, Released, Rescued
from jobqueue.base.settings import Settings
from jobqueue.store import leases, workers
from jobqueue.store.connection.faults import CUT_SHORT, DATABASE_ERRORS, Fault, brief, classify
from jobqueue.store.connection.outage import Outage
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.flows.phases import Stood, phases_under_way
from jobqueue.store.leases import Expired
from jobqueue.worker.keeping.holds import MAX_LOST, Held, lost_too_often
from jobqueue.worker.keeping.machine import is_gone, this_machine
from jobqueue.worker.keeping.windows import Rest, Windows

_PAGE = 500
_SETTLE_BEATS = 2
_DOUBLINGS = 12
"""After so many crashes, if a setting allows them, the delay grows no further: it is an hour then."""
_WALK = 0.5
"""Seconds of looking in one sweep, unless a worker has died."""


class Rescuer:
    """One worker's share of the rescue; SKIP LOCKED keeps the others' apart."""

    def __init__(
        self, database: Database, worker: WorkerId, settings: Settings, holds: Held, answered: Callable[[], int]
    ) -> None:
        """`answered`: the number of the last claim whose answer has come."""
        self.rescued = 0
        """Claims taken back so far."""
        self._session = Session(database)
        self._worker = worker
        self._settings = settings
        self._settle = _SETTLE_BEATS * settings.beat
        self._holds = holds
        self._answered = answered
        self._machine = this_machine()
        self._cut_off = False
        self._windows, self._rest = Windows(), Rest()
        self._known_dead = set[UUID]()
        """Their jobs were looked for among all."""
        self._tried = UUID(int=0)
        """The last job, or the first of a page, that was to be taken back."""
        self._log = get_logger(__name__)
        self._outage = Outage("rescue", self._log)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Rescue until cancelled. Survives every database error."""
        task_status.started()
        try:
            while True:
                try:
                    await self._sweep()
                    self._outage.over()
                    await self._session.rest()
                except DATABASE_ERRORS as error:
                    self._cut_off = self._cut_off or classify(error) in (Fault.UNKNOWN, Fault.AWAY, Fault.READ_ONLY)
                    await self._outage.wait(error)
                    continue
                spread = random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
                await anyio.sleep(max(self._rest.left, self._settings.rescue_interval * spread))
        finally:
            await self._session.close()

    async def _sweep(self) -> None:
        breaks = self._session.breaks
        await self._session.ready()
        if self._cut_off or self._session.breaks > breaks:
            await anyio.sleep(self._settle)  # others may have been cut off as we were: they get time to renew
            self._cut_off = False
        dead = await self._dead_neighbours()
        silent = {*dead, *await workers.silent(self._session, self._settings.beat)}
        spent = await self._walk(dead, whole=not silent <= self._known_dead)
        self._known_dead = silent
        await workers.forget_dead(self._session, dead)
        self._rest.begin(spent)

    async def _walk(self, dead: Collection[UUID], *, whole: bool) -> float:
        """Go over the running jobs, in seconds that it gives; where that takes long only a part, the rest next time.

        `whole`: all of them, since a worker has died.
        """
        newest, spent = await leases.newest_seq(self._session), 0.0
        if whole:
            self._windows.again()
        while True:
            piece, began = self._windows.piece(newest), time.monotonic()
            fences, answered = self._holds.fences(), self._answered()
            try:
                await leases.give_back_strays(self._session, self._worker, answered, fences, piece)
                took = time.monotonic() - began
                if await leases.any_expired(self._session, dead, self._settle, piece):
                    await self._take_back_all(dead, piece)
            except CUT_SHORT:
                self._windows.cut_short()
                raise
            over = self._windows.passed(piece[0], took)
            spent += 2 * took  # as long for those of others; to take them back is no looking
            if over or (spent > _WALK and not whole):
                return spent

    async def _take_back_all(self, dead: Collection[UUID], piece: tuple[int, int]) -> None:
        """Page by page; one by one if a page has a job that the database refuses to store."""
        page, refused = _PAGE, list[UUID]()
        while True:
            try:
                if await self._take_back(dead, page, refused, piece) < page:
                    return
            except DATABASE_ERRORS as error:
                if classify(error) is not Fault.BAD_DATA or self._tried in refused:
                    raise
                if page == 1:
                    self._log.error("job.rescue_failed", job_id=str(self._tried), error=brief(error))
                    refused.append(self._tried)
                page = 1

    async def _dead_neighbours(self) -> list[UUID]:
        """Workers of this machine whose process is gone: no need to wait for their leases."""
        if self._machine is None:
            return []
        there = await workers.on_machine(self._session, self._machine)
        others = [each for each in there if each.id != self._worker and each.born is not None]
        return [each.id for each in others if is_gone(each.pid, each.born)]

    async def _take_back(
        self, dead: Collection[UUID], page: int, skip: Collection[UUID], piece: tuple[int, int]
    ) -> int:
        """Rescue one page; how many."""
        unheard = [hold.fence for hold in self._holds.snapshot() if hold.unheard]
        async with self._session.transaction():
            rows = await leases.take_expired(
                self._session, self._worker, page, dead, self._settle, skip, self._settings.max_crashes, piece, unheard
            )
            if not rows:
                return 0
            self._tried = rows[0]["id"]
            stood = await phases_under_way(self._session, [(row["id"], row["worker_id"]) for row in rows])
            ends = {row["id"]: (row, self._verdict(row, stood.get(row["id"]))) for row in rows}
            # Whoever finishes on a day without a partition makes it and tries again; inside here it could not.
            await self._session.fetch("extend_archive", 1)
            outcomes = await leases.write_expired(self._session, ends)
        for id, (row, verdict) in ends.items():
            self._report(row, outcomes.get(id, verdict))
        self.rescued += len(rows)
        return len(rows)

    def _verdict(self, row: Expired, stood: Stood | None) -> Outcome:
        if row["crashed"]:
            most = self._settings.max_crashes
            error = _crash(row, most, stood)
            if (row["was_alone"] and row["crashes"] >= most) or row["max_attempts"] == 1:  # one: never a second time
                return Dead("crashed", error)
            return Rescued(error, 2.0 ** min(row["crashes"], _DOUBLINGS) * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
        return lost_too_often(row["lost"], row["attempt"]) if row["lost"] >= MAX_LOST else Released()

    def _report(self, row: Expired, outcome: Outcome) -> None:
        facts = job_facts(row)
        if isinstance(outcome, Dead):
            error = outcome.error and outcome.error.error_class
            self._log.error("job.dead", reason=outcome.reason, error=error, **facts)
        elif isinstance(outcome, Cancelled):
            self._log.info("job.cancelled", **facts)
        else:
            self._log.warning("job.rescued", crashed=row["crashed"], of_worker=str(row["worker_id"]), **facts)


def _crash(row: Expired, most: int, stood: Stood | None) -> AttemptError:
    """What is kept of a crash: in which phase the job stood, and what its handler had reported last."""
    where = ""
    if stood is not None:
        where = f" after phase {stood.phase!r}" if stood.over else f" {stood.seconds:.0f} s into phase {stood.phase!r}"
    story = f"its worker died while it had this job,{where}" if where else "its worker died while it had this job"
    error = AttemptError("WorkerCrashed", f"{story} (crash {row['crashes']} of {most})", attempt=row["attempt"])
    if stood is None:
        return error
    data: JsonValue = None if stood.progress is None else {"progress": loads(stood.progress)}
    return replace(error, data=data, phase=None if stood.over else stood.phase, place=stood.place)
