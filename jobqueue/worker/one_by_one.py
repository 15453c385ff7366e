"""A burst inside a caller's transaction: `app.testing(connection=...)`.

A worker has a dozen connections and runs jobs side by side. Here is one connection, which the handlers use as well, so
one thing happens at a time: a claim, a run, its outcome, and what follows from that. Nothing beats, rescues, listens or
fires schedules: the claim cannot be lost to anybody, since nobody else sees it. Time stands still in a transaction.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from jobqueue.base.flows.phase import Found, Looked, Record, Wait, Waking
from jobqueue.base.job import Claimed, Job, WorkerId
from jobqueue.base.log import get_logger
from jobqueue.base.outcome import Dead, Done, PutAside, Retried
from jobqueue.base.settings import Settings
from jobqueue.store.claims import Claim, Ready, claim, job_of, promote_due, ready_between
from jobqueue.store.connection.callers.beginning import begun
from jobqueue.store.connection.lent import LentDatabase
from jobqueue.store.connection.session import Session
from jobqueue.store.flows.limits import admit, declare
from jobqueue.store.flows.phases import Key, load_phases, phase_result, record_phases
from jobqueue.store.flows.signals import take_signals
from jobqueue.store.outcomes import Ended, write
from jobqueue.store.progress import write_progress
from jobqueue.tasks.membership import MemberOf
from jobqueue.tasks.registry import AnyTask, Registry
from jobqueue.tasks.run.attempt import Attempt, Conditions, run_apart
from jobqueue.tasks.run.batch import Alone
from jobqueue.tasks.run.hooks import call_hooks, failure_of
from jobqueue.tasks.run.middleware import Middleware
from jobqueue.worker.declaring import rows_of
from jobqueue.worker.ending.folding import Folder
from jobqueue.worker.ending.lines import tell_failure
from jobqueue.worker.keeping.holds import aside_for
from jobqueue.worker.slots.runs import expired

log = get_logger(__name__)

_LEASE = 3_600.0
_ROOM = 1_000
_FIRST, _LAST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class OneByOne:
    """Runs what is due on a connection that was lent, until nothing is."""

    app: str
    database: LentDatabase
    tasks: Registry
    middleware: Middleware
    settings: Settings
    resources: Mapping[type, Any]
    bundle: MemberOf
    worker: WorkerId = field(default_factory=lambda: WorkerId(uuid4()))

    async def drain(self, queue: str | None) -> list[UUID]:
        """The jobs that ran, in that order. A cancelled drain leaves its job as claimed: the caller rolls back."""
        ran: dict[UUID, None] = {}
        await declare(self.database.session(), rows_of(self.tasks), self.app)
        await self._settle()
        while (found := await self._next(queue)) is not None:
            ran[found["id"]] = None
            await self._run(found)
            await self._settle()
        return [*ran]

    async def _settle(self) -> None:
        """Ends have been noted, members added, delays are over: see to all of it."""
        session = self.database.session()
        await Folder(self.database).settle()
        while (await admit(session, _ROOM, 0.0)).jobs:
            pass
        while (await promote_due(session, _ROOM)).jobs:
            pass

    async def _next(self, queue: str | None) -> Claim | None:
        session = self.database.session()
        ready, *_ = await ready_between(session, _FIRST, _LAST)
        best_first = sorted((each for each in ready if queue in (None, each.queue)), key=_rank, reverse=True)
        for place in dict.fromkeys(each.queue for each in best_first):
            claims = await claim(session, self.worker, 1, _LEASE, {place: 1}, 1, suspects=1)
            if claims:  # a queue that is paused gives none
                return claims[0]
        return None

    async def _run(self, found: Claim) -> None:
        task, said = self.tasks.find(found["task"]), list[Done]()
        outcome, error = expired(found), None
        if task is None:
            outcome = outcome or PutAside("unknown task")
        behind = _Behind(self, found, said)
        if task is not None and outcome is None:
            attempt = self._attempt(found, task, behind)
            outcome, undone = await self.database.survive(run_apart(attempt))
            if undone:
                said.clear()
            await behind.write_noted()
            error = attempt.error
        assert outcome is not None  # noqa: S101 - unfit, or run
        session, fence = self.database.session(), found["fence"]
        if behind.progress is not None:
            await write_progress(session, self.worker, [(found["id"], fence, behind.progress)])
        await write(session, self.worker, [Ended(found["id"], fence, said[-1] if said else outcome, aside_for(found))])
        if isinstance(outcome, Retried | Dead) and not said:
            tell_failure(log, found, outcome, None, self.settings.log_failures or "traceback")
        failed = None if said else failure_of(found, error, outcome)
        if failed is not None:
            await call_hooks(self.middleware.on_error, failed)

    def _attempt(self, found: Claim, task: AnyTask, behind: "_Behind") -> Attempt:
        return Attempt(
            task if task.batch is None else Alone(task),
            found["args"],
            behind,
            found["attempt"],
            Conditions(self.settings.max_result, self.resources, around=self.middleware.around_run),
            timeout=found["timeout"],
            budget_left=found["budget_left"],
        )


@dataclass(slots=True)
class _Behind:
    """Behind a run: see `Backing`. Its journal too, which documents its methods: one record after the other."""

    burst: OneByOne
    claim: Claim
    said: list[Done]
    """What its handler has completed it with, in its own transaction."""
    progress: str | None = None
    _noted: list[Record] = field(default_factory=list)

    def job(self) -> Job:
        """The job as it was claimed."""
        return job_of(self.claim)

    def report(self, report: str) -> None:
        """Written when the run has ended."""
        self.progress = report

    @contextlib.asynccontextmanager
    async def transaction(self, given: object | None) -> AsyncIterator[tuple[Any, Callable[[Done], None]]]:
        """The lent connection, in a savepoint; or what the handler has given, wherever that leads."""
        before = [*self.said]
        try:
            opened = self._begun() if given is None else begun(given, self.burst.database.schema)
            async with opened as (connection, _):
                yield connection, self.said.append
        except BaseException:
            self.said[:] = before
            raise

    @contextlib.asynccontextmanager
    async def _begun(self) -> AsyncIterator[tuple[Any, Any]]:
        driver = await self.burst.database.driver()
        async with driver.transaction():
            yield driver, None

    def bundle(self) -> Any:
        """Of the app."""
        claim = self.claim
        bundle = claim["bundle_id"]
        by = Claimed(claim["id"], claim["fence"], self.burst.worker)
        return None if bundle is None else self.burst.bundle(bundle, by)

    def journal(self) -> "_Behind":
        """This."""
        return self

    async def load(self) -> Sequence[Found]:
        """What earlier runs have left."""
        await self.write_noted()
        found = await load_phases(self._session, [self.claim["id"]])
        return found.get(self.claim["id"], [])

    async def result_of(self, name: str) -> str | None:
        """The result of a completed phase."""
        await self.write_noted()
        return await phase_result(self._session, self.claim["id"], name)

    async def record(self, record: Record) -> Waking | None:
        """Store it."""
        self.note(record)
        return (await self.write_noted()).get((self.claim["fence"], record.name))

    def note(self, record: Record) -> None:
        """Store it with the next one, or when the run has ended."""
        self._noted.append(record)

    async def record_on(self, connection: Any, record: Record) -> None:
        """Store it: it is the same transaction."""
        await self.record(record)

    async def look(self, wait: Wait) -> Looked:
        """Take a signal."""
        await self.write_noted()
        key = self.claim["id"], self.claim["fence"]
        return (await take_signals(self._session, self.burst.worker, [(key, wait)]))[key[1], wait.name]

    async def write_noted(self) -> Mapping[Key, Waking | None]:
        """Store what was noted, each phase once: its last word."""
        noted, self._noted = {record.name: record for record in self._noted}, []
        if not noted:
            return {}
        key = self.claim["id"], self.claim["fence"]
        return await record_phases(self._session, self.burst.worker, [(key, record) for record in noted.values()])

    @property
    def _session(self) -> Session:
        return self.burst.database.session()


def _rank(ready: Ready) -> tuple[int, int]:
    return (0 if ready.priority is None else ready.priority, -ready.seq)
