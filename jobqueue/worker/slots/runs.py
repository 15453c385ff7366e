"""What one run is: from the claim, in a plain task of its own with a fresh context, to the outcome that is handed on.

A task per job (about 4 µs, measured) keeps context variables, stray cancellations and swallowed ones inside that job.
There are no slot loops that such a job could end: a slot is a count, given back by the job task's own end.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import anyio

from jobqueue.base.errors import InvalidPayload
from jobqueue.base.job import AttemptError, Claimed, Job, WorkerId
from jobqueue.base.log import bind_job_id, bind_log, get_logger, job_facts
from jobqueue.base.outcome import Dead, Done, Outcome, PutAside, Released, Suspended
from jobqueue.base.settings import Settings
from jobqueue.store.claims import Claim, job_of
from jobqueue.tasks.membership import MemberOf
from jobqueue.tasks.phases.journal import Journal
from jobqueue.tasks.run.attempt import Attempt, Conditions
from jobqueue.tasks.run.batch import Registered
from jobqueue.tasks.run.hooks import Teller, failure_of
from jobqueue.tasks.run.middleware import Middleware
from jobqueue.tasks.run.verdict import interrupted
from jobqueue.worker.keeping.holds import MAX_LOST, Held, Hold, aside_for, lost_too_often
from jobqueue.worker.keeping.tally import LOST
from jobqueue.worker.slots.batch import Member
from jobqueue.worker.slots.batches import Batches
from jobqueue.worker.slots.last_look import last_look

_FOLLOWED = 1
"""The bit of a job's `follow` that asks the log for its starts and progress."""
_KINDS = 1_000
"""Kinds of jobs, by task, queue and attempt, whose contexts are kept."""


class Tasks(Protocol):
    """The registered tasks by name; may grow while workers run."""

    def find(self, name: str) -> Registered | None:
        """The task of this name or alias."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """All names and aliases."""
        ...

    @property
    def of_queues(self) -> Mapping[str, object]:
        """The limits of whole queues."""
        ...

    def gates_now(self, name: str, queue: str, args: str) -> tuple[str, ...] | None:
        """The gates that a job has by the limits of now; None if its task is unknown. Raises what a key does."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What runs find around them, the same for all runs of a worker."""

    tasks: Tasks
    settings: Settings
    worker: WorkerId
    holds: Held
    submit: Callable[[Hold, Outcome], None]
    """Takes over an outcome. Never waits, never fails."""
    fatal: Callable[[BaseException], None]
    """Ends the worker: a slot would be lost."""
    resources: Mapping[type, Any]
    middleware: Middleware
    mark: Callable[[Hold], Awaitable[bool]]
    """Notes that a job begins; False if it may not."""
    report: Callable[[Hold, str], None]
    """Called with a job's report of progress, in whatever thread its handler runs."""
    begins: Callable[[Hold], None]
    """Called when a job that somebody follows begins."""
    transact: Callable[
        [Hold, object | None], contextlib.AbstractAsyncContextManager[tuple[Any, Callable[[Done], None]]]
    ]
    """Gives a handler its transaction, and what completes its job in it."""
    bundle: MemberOf
    """Gives a handler what it has of its bundle."""
    journal: Callable[[Hold], Journal]
    """Keeps the phases of a run."""


class Behind:
    """What stands behind one run: see `Backing`."""

    __slots__ = ("_around", "_hold")

    def __init__(self, around: Surroundings, hold: Hold) -> None:
        self._around, self._hold = around, hold

    def job(self) -> Job:
        """The job as it was claimed."""
        return job_of(self._hold.claim)

    def report(self, report: str) -> None:
        """To the worker's reporter."""
        self._around.report(self._hold, report)

    def transaction(
        self, given: object | None
    ) -> contextlib.AbstractAsyncContextManager[tuple[Any, Callable[[Done], None]]]:
        """Of the worker's completions."""
        return self._around.transact(self._hold, given)

    def bundle(self) -> Any:
        """Of the app that the worker serves."""
        claim = self._hold.claim
        bundle = claim["bundle_id"]
        by = Claimed(claim["id"], claim["fence"], self._around.worker)
        return None if bundle is None else self._around.bundle(bundle, by)

    def journal(self) -> Journal:
        """Of the worker's recorder."""
        return self._around.journal(self._hold)


class Runs:
    """The runs of one worker."""

    def __init__(
        self, around: Surroundings, batches: Batches, threads: anyio.CapacityLimiter,
        left: Callable[[Hold], None], freed: Callable[[Hold], None], told: Callable[[], None],
    ) -> None:  # fmt: skip
        """`left` is called with one that goes without a run, `freed` with one whose slot is free.

        `told` is called when hooks have been told of a failure, and keep a slot no more.
        """
        self.going: set[Hold] = set()
        """The jobs that run."""
        self.teller = Teller(around.middleware.on_error, told)
        self._around = around
        self._batches = batches
        self._conditions = Conditions(
            around.settings.max_result, around.resources, threads, around.middleware.around_run
        )
        self._left, self._freed = left, freed
        self._contexts: dict[tuple[str, str, int], Context] = {}
        self._worker = str(around.worker)
        self._log = get_logger(__name__)

    def begin(self, hold: Hold) -> Member | None:
        """Run a claimed job, or hand on at once why it cannot run. Gives its place in a batch, if it has one."""
        claim = hold.claim
        task = self._around.tasks.find(claim["task"])
        unfit = expired(claim) or (
            self._put_aside(claim, "unknown task") if task is None else self._lines_up(hold, task)
        )
        if task is None or unfit is not None:
            self.leave(hold, unfit or Released())
            return None
        member = None if task.batch is None else self._batches.seat(task, task.batch, hold)
        hold.attempt = attempt = self._attempt(hold, member or task)
        self.going.add(hold)
        hold.begins()
        if claim["follow"] & _FOLLOWED:
            self._around.begins(hold)
        context = self._context(claim)
        hold.task = asyncio.get_running_loop().create_task(self._perform(hold, attempt), context=context)
        if member is not None:
            hold.task.add_done_callback(member.leave)
        hold.task.add_done_callback(partial(self._ended, hold, attempt, context))
        return member

    def _lines_up(self, hold: Hold, task: Registered) -> Outcome | None:
        """The last look: a job that came past its limits, whatever has changed since it was stored, does not begin."""
        tasks, fault = self._around.tasks, ""
        if task.gates is None and not tasks.of_queues and hold.start_by is None:
            return None
        try:
            return last_look(hold, tasks.gates_now)
        except InvalidPayload as error:
            fault = f"{error.path}: {error.rule}" if error.path else error.rule
        except BaseException as error:  # the user's own function makes a key, and may do anything
            fault = f"the function that gives the key raised {type(error).__name__}"
        return self._put_aside(hold.claim, "limit", fault)

    async def _perform(self, hold: Hold, attempt: Attempt) -> Outcome:
        claim = hold.claim
        bind_job_id(str(claim["id"]))
        # What may run only once and was claimed ahead says so first: else, if we die, it would run again.
        if claim["max_attempts"] == 1 and not claim["started"] and not await self._around.mark(hold):
            return Released()
        return await attempt.run()

    def _context(self, claim: Claim) -> Context:
        """A fresh one; what the lines of many jobs have in common was bound once, and a copy costs next to nothing."""
        kind = claim["task"], claim["queue"], claim["attempt"]
        common = self._contexts.get(kind)
        if common is None:
            if len(self._contexts) >= _KINDS:  # whoever can write to the table could make up any number of queues
                self._contexts.clear()
            common = self._contexts[kind] = Context()
            common.run(partial(bind_log, **job_facts(claim), worker=self._worker))
        return common.copy()

    def leave(self, hold: Hold, outcome: Outcome) -> None:
        """A claimed job goes without a run."""
        self._left(hold)
        self._hand_over(hold, outcome)

    def _attempt(self, hold: Hold, task: Registered | Member) -> Attempt:
        claim = hold.claim
        return Attempt(
            task,
            claim["args"],
            Behind(self._around, hold),
            claim["attempt"],
            self._conditions,
            timeout=claim["timeout"],
            budget_left=claim["budget_left"],
        )

    def _ended(self, hold: Hold, attempt: Attempt, context: Context, task: asyncio.Task[Outcome]) -> None:
        """Called by the loop when a job's task is done. An error here would lose a slot, so it ends the worker."""
        hold.ends()
        try:
            outcome, tell = self._outcome(hold, attempt, context, task)
            if not attempt.state.in_thread:
                self._conclude(hold, outcome, tell)
            elif _waits_for_thread(attempt, outcome):
                attempt.state.when_thread_ends(partial(self._conclude, hold, outcome, tell))
            else:
                self._hand_over(hold, outcome, tell)
                attempt.state.when_thread_ends(partial(self._free, hold))
        except Exception as error:
            self._around.fatal(error)

    def _outcome(
        self, hold: Hold, attempt: Attempt, context: Context, task: asyncio.Task[Outcome]
    ) -> tuple[Outcome, Callable[[], None] | None]:
        """What the run came to, and what tells the hooks of it if it failed."""
        claim, tell = hold.claim, None
        broken = None if task.cancelled() else task.exception()
        if task.cancelled() or broken is not None:
            return interrupted(attempt.number, job_of(claim), broken), None
        outcome = task.result()
        if attempt.error is not None and (failed := failure_of(claim, attempt.error, outcome)) is not None:
            batch = attempt.task.batch if isinstance(attempt.task, Member) else None
            keeps_slot = not attempt.state.in_thread or _waits_for_thread(attempt, outcome)
            tell = partial(self.teller.tell, failed, (batch or hold) if keeps_slot else None, context)
        if isinstance(outcome, PutAside):
            outcome = self._put_aside(claim, outcome.reason, outcome.detail)
        elif isinstance(outcome, Released) and outcome.lost:
            outcome = _lost(hold)
        return outcome, tell

    def _conclude(self, hold: Hold, outcome: Outcome, tell: Callable[[], None] | None) -> None:
        self._hand_over(hold, outcome, tell)
        self._free(hold)

    def _hand_over(self, hold: Hold, outcome: Outcome, tell: Callable[[], None] | None = None) -> None:
        if hold.completed or (hold.gone and isinstance(outcome, Released)):
            self._around.holds.drop(hold, LOST)  # it is written; or another has it, and there is nothing to give back
            if hold.completed and not isinstance(outcome, Done | Released | Suspended):
                self._log.warning("job.failed_after_completion", **job_facts(hold.claim))
            return
        self._around.submit(hold, outcome)
        if tell is not None:
            tell()

    def _free(self, hold: Hold) -> None:
        self.going.remove(hold)
        hold.attempt = hold.task = None  # breaks a circle, which only the garbage collector would find
        self._freed(hold)

    def _put_aside(self, claim: Claim, reason: str, detail: str = "") -> Outcome:
        if aside_for(claim) < self._around.settings.aside_max_age:
            return PutAside(reason, detail)
        return Dead(reason, AttemptError("PutAside", detail, attempt=claim["attempt"]) if detail else None)


def _lost(hold: Hold) -> Outcome:
    """A run that ended because its claim could not be kept: too often, and the job is dead."""
    times = hold.claim["lost"] + 1
    if hold.unheard or times < MAX_LOST:
        return Released(lost=not hold.unheard)
    return lost_too_often(times, hold.claim["attempt"])


def _waits_for_thread(attempt: Attempt, outcome: Outcome) -> bool:
    """Whether nothing may be said of the job before the thread that works on it has ended."""
    return isinstance(attempt.task, Member) or isinstance(outcome, Released | Suspended)


def expired(claim: Claim) -> Outcome | None:
    """The end of one whose time is over before it begins."""
    if claim["attempt"] == 1 and claim["start_left"] is not None and claim["start_left"] <= 0:
        return Dead("expired")
    if claim["budget_left"] is not None and claim["budget_left"] <= 0:
        return Dead("budget")
    return None
