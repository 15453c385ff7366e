"""Takes back the claims of workers that died: in every worker, at its start and every few seconds.

What counts is the lease in the job's own row, on the database's clock. That a worker is dead is concluded from its
beats, or seen at once if its process was on this machine. A crash counts against a job only if its handler had started
and nobody vouches for the worker; the job is a suspect then, delayed, and run by one worker beside no other suspect.
"""

import random
import time
from collections.abc import Callable, Collection
from uuid import UUID

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.job import AttemptError, WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.outcome import Dead, Outcome, Released, Rescued
from jobqueue.base.settings import Settings
from jobqueue.store import leases, workers
from jobqueue.store.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.leases import Expired
from jobqueue.store.outage import Outage
from jobqueue.store.outcomes import Ended, write
from jobqueue.store.pool import Database, Session
from jobqueue.worker.holding import Held
from jobqueue.worker.machine import is_gone, this_machine

_PAGE = 500
_MAX_LOST = 10
"""A claim may be lost without a crash so often (its worker lives, but does not hold it), then its job is dead."""
_SETTLE_BEATS = 2
_NEVER = 1e9


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
        self._not_before = 0.0
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
                    if classify(error) is not Fault.CONFLICT:
                        self._let_others_settle()
                    await self._outage.wait(error)
                    continue
                spread = random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
                await anyio.sleep(self._settings.rescue_interval * spread)
        finally:
            await self._session.close()

    def _let_others_settle(self) -> None:
        """They may have been cut off as we were: they get time to renew before a lease counts as over."""
        self._not_before = time.monotonic() + self._settle

    async def _sweep(self) -> None:
        breaks = self._session.breaks
        await self._session.ready()
        if self._session.breaks > breaks:
            self._let_others_settle()
        dead = await self._dead_neighbours()
        while await self._take_back(dead) == _PAGE:
            pass
        await workers.forget_dead(self._session, dead)
        fences, answered = self._holds.fences(), self._answered()
        await leases.give_back_strays(self._session, self._worker, answered, fences)

    async def _dead_neighbours(self) -> list[UUID]:
        """Workers of this machine whose process is gone: no need to wait for their leases."""
        if self._machine is None:
            return []
        there = await workers.on_machine(self._session, self._machine)
        others = [each for each in there if each.id != self._worker and each.born is not None]
        return [each.id for each in others if is_gone(each.pid, each.born)]

    async def _take_back(self, dead: Collection[UUID]) -> int:
        """Rescue one page; how many."""
        settle = self._settle if time.monotonic() >= self._not_before else _NEVER
        async with self._session.transaction():
            rows = await leases.take_expired(self._session, self._worker, _PAGE, dead, settle)
            ends = [Ended(row["id"], row["fence"], self._verdict(row)) for row in rows]
            if any(isinstance(end.outcome, Dead) for end in ends):
                # Whoever finishes on a day without a partition makes it and tries again; inside here it could not.
                await self._session.fetch("extend_archive", 1)
            await write(self._session, ends)
        for row, end in zip(rows, ends, strict=True):
            self._report(row, end.outcome)
        self.rescued += len(rows)
        return len(rows)

    def _verdict(self, row: Expired) -> Outcome:
        if row["crashed"]:
            most = self._settings.max_crashes
            story = f"its worker died while it ran (crash {row['crashes']} of {most})"
            error = AttemptError("WorkerCrashed", story, attempt=row["attempt"])
            if row["crashes"] >= most or row["max_attempts"] == 1:  # one attempt means: never a second time
                return Dead("crashed", error)
            return Rescued(error, 2.0 ** row["crashes"] * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
        if row["lost"] >= _MAX_LOST:
            story = f"its claim was lost {row['lost']} times, though no worker died"
            return Dead("lost", AttemptError("ClaimLost", story, attempt=row["attempt"]))
        return Released()

    def _report(self, row: Expired, outcome: Outcome) -> None:
        facts = {"job_id": str(row["id"]), "task": row["task"], "queue": row["queue"], "attempt": row["attempt"]}
        if isinstance(outcome, Dead):
            error = outcome.error and outcome.error.error_class
            self._log.error("job.dead", reason=outcome.reason, error=error, **facts)
        else:
            self._log.warning("job.rescued", crashed=row["crashed"], of_worker=str(row["worker_id"]), **facts)
