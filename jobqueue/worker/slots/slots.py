"""Room for running jobs: at most `concurrency` run at once, each in a plain task of its own with a fresh context.

A task per job (about 4 µs, measured) keeps context variables, stray cancellations and swallowed ones inside that job.
There are no slot loops that such a job could end: a slot is a count, given back by the job task's own end.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Protocol

import anyio

from jobqueue.base.job import WorkerId
from jobqueue.base.log import bind_log, get_logger, job_facts
from jobqueue.base.outcome import Cancelled, Dead, Done, Outcome, PutAside, Released
from jobqueue.base.settings import Settings
from jobqueue.store.claims import Claim, job_of
from jobqueue.tasks.run.attempt import Attempt, Why, interrupted
from jobqueue.tasks.run.batch import Registered
from jobqueue.tasks.run.hooks import Teller, failure_of
from jobqueue.tasks.run.middleware import Middleware
from jobqueue.worker.keeping.holds import MAX_LOST, Held, Hold, aside_for, lost_too_often
from jobqueue.worker.keeping.tally import LOST
from jobqueue.worker.slots.batch import Member
from jobqueue.worker.slots.batches import Batches

AHEAD = 0.01
_MOST_AHEAD = 450
_EARLY_KEPT = 100_000
_HELD_UP = 0.1
"""Seconds after which jobs claimed ahead are given back: a slow one has taken the slot that they waited for."""


class Tasks(Protocol):
    """The registered tasks by name; may grow while workers run."""

    def find(self, name: str) -> Registered | None:
        """The task of this name or alias."""
        ...


class Slots:
    """Starts claimed jobs and hands on their outcomes."""

    def __init__(
        self,
        tasks: Tasks,
        settings: Settings,
        holds: Held,
        submit: Callable[[Hold, Outcome], None],
        resources: Mapping[type, Any],
        fatal: Callable[[BaseException], None],
        middleware: Middleware,
        worker: WorkerId,
    ) -> None:
        self._around = middleware.around_run
        self._teller = Teller(middleware.on_error, self._fill)
        self._worker = str(worker)
        self._fatal = fatal
        self.concurrency = settings.concurrency
        """How many jobs may run at once: as many as there are slots, the spare ones, and those that ride along."""
        self._spare = 0
        """Slots beyond the configured ones, beside handlers that are stuck."""
        self.freed = asyncio.Event()
        """Set whenever a slot came free; whoever waits clears it."""
        self.when_freed: Callable[[], None] = lambda: None
        """Called when a job has left of which only so many may run at once: the next one waits for nothing else."""
        self.transact: Callable[[Hold], contextlib.AbstractAsyncContextManager[Any]] | None = None
        """Gives a handler its transaction."""
        self.when_reported: Callable[[Hold, str], None] = lambda hold, report: None
        """Called with a job's report of progress, in whatever thread its handler runs."""
        self.limited: Container[str] = ()
        """The queues of which only so many may run at once; of suspects it is one."""
        self.running: set[Hold] = set()
        self.held = Counter[str]()
        """Claimed and unfinished jobs by queue."""
        self.suspects = 0
        """How many of them have seen their worker die: one at a time, so that only they can be blamed twice."""
        self._holds = holds
        self._tasks = tasks
        self._settings = settings
        self._submit = submit
        self._resources = resources
        self._waiting: deque[Hold] = deque()
        self._ahead = settings.prefetch or 0
        self._ended_since, self._measured_at = 0, 0.0
        self._threads = anyio.CapacityLimiter(settings.concurrency)
        self._batches = Batches(str(worker), self._threads, self._ride, self._free_slots, self._board)
        self._cancelled_early = set[int]()
        self._open = True
        self._watched = False
        """Whether somebody will look if what is claimed ahead moves on."""
        self._log = get_logger(__name__)

    @property
    def room(self) -> int:
        """How many more jobs may be claimed now; none once it is closed."""
        if not self._open:
            return 0
        if self._settings.prefetch is None:
            self._measure_pace()
        return self.capacity - self.concurrency + self._free_slots() - len(self._waiting)

    @property
    def unused(self) -> int:
        """How many jobs would start at once, whatever their task: seats of batches are not for all."""
        return max(0, self._free_slots() - len(self._waiting))

    @property
    def ahead(self) -> int:
        """How many claimed jobs wait for a slot."""
        return len(self._waiting)

    @property
    def capacity(self) -> int:
        """How many jobs are claimed at the most now: the slots, what is claimed ahead, and seats in open batches."""
        return self.concurrency + self._ahead + self._batches.seats(_MOST_AHEAD)

    @property
    def idle(self) -> bool:
        """True if no job runs or waits, and no failure is being told."""
        return not self.running and not self._waiting and self._teller.idle

    def _free_slots(self) -> int:
        """How many are taken neither by jobs that run nor by failures that are being told."""
        return self.concurrency - len(self.running) - self._teller.slots

    def start(self, claim: Claim, lease_ends: float) -> None:
        """Run a claimed job as soon as a slot is free."""
        hold = Hold(claim, lease_ends, suspect=claim["crashes"] > 0)
        self._holds.add(hold)
        self.held[claim["queue"]] += 1
        self.suspects += hold.suspect
        if not self._open:
            self._leave(hold, Released())
        elif self._cancelled_early and hold.fence in self._cancelled_early:
            self._leave(hold, Cancelled("requested"))
        elif self._free_slots() > 0 or self._rides(hold):
            self._launch(hold)
        else:
            self._wait(hold)

    def lose(self, holds: Sequence[Hold]) -> None:
        """The claims on these jobs are over, or soon will be: cancel those that run. What has ended is left alone."""
        for hold in holds:
            if hold.completed or (hold.attempt is not None and hold.attempt.held_off):
                continue  # while it commits, the fence decides
            if hold in self.running:
                _running(hold).stop(Why.LOST)
            elif hold in self._waiting:
                self._waiting.remove(hold)
                self._leave(hold, Released())
            else:
                continue
            self._log.warning("job.lost", gone=hold.gone, **job_facts(hold.claim))

    def cancel(self, fences: Collection[int]) -> None:
        """End the jobs of these claims, if they are here, or as soon as the claim's answer brings them."""
        here = [hold for hold in self._holds.snapshot() if hold.fence in fences]
        if not here:
            if len(self._cancelled_early) > _EARLY_KEPT:  # the whole fleet's; answers to claims come within seconds
                self._cancelled_early.clear()
            self._cancelled_early.update(fences)
        for hold in here:
            if hold in self.running:
                _running(hold).stop(Why.CANCEL)
            elif hold in self._waiting:
                self._waiting.remove(hold)
                self._leave(hold, Cancelled("requested"))

    def open_spare(self, stuck: int) -> None:
        """So many handlers will not end: let as many others run beside them, twice as many in all at the most."""
        more = min(stuck, self._settings.concurrency) - self._spare
        if more == 0:
            return
        self._spare += more
        self.concurrency += more
        self._threads.total_tokens += more
        self._fill()

    def close(self) -> None:
        """Start nothing more; what was claimed ahead is given back at once."""
        self._open = False
        self._give_back_waiting(0)
        self._batches.close()

    def hurry_batches(self) -> None:
        """Nothing is ready: batches that gather wait for no more."""
        self._batches.hurry()

    def stop_running(self) -> None:
        """Cancel every running job, and hooks: their outcomes are known."""
        self._teller.stop()
        for hold in list(self.running):
            _running(hold).stop(Why.STOP)

    def abandon_threads(self) -> None:
        """Wait no longer for threads that were asked to end."""
        self._batches.abandon_threads()
        for hold in list(self.running):
            _running(hold).abandon()

    async def wait_idle(self, until: Callable[[], float]) -> bool:
        """Wait for the running jobs to end; True if all have.

        `until` is a time of the loop's clock, asked for anew whenever `freed` is set.
        """
        loop = asyncio.get_running_loop()
        while not self.idle and (left := until() - loop.time()) > 0:
            self.freed.clear()
            with anyio.move_on_after(left):
                await self.freed.wait()
        return self.idle

    def _wait(self, hold: Hold) -> None:
        self._waiting.append(hold)
        if not self._watched and len(self._waiting) > (self._settings.prefetch or 0):
            self._watch_waiting()

    def _watch_waiting(self) -> None:
        self._watched = True
        asyncio.get_running_loop().call_later(_HELD_UP, self._give_back_held_up, self._waiting[-1])

    def _give_back_held_up(self, newest: Hold) -> None:
        """Give back what is claimed ahead if it has not moved on as fast as its claim supposed.

        As many may wait as the settings say. What came for the seats of a batch and is of another task would come again
        at once, so nothing more is claimed for those seats.
        """
        self._watched = False
        if newest in self._waiting:
            self._ahead = self._settings.prefetch or 0
            self._give_back_waiting(self._ahead)
            self._batches.want_no_more()
        elif len(self._waiting) > (self._settings.prefetch or 0):
            self._watch_waiting()

    def _give_back_waiting(self, kept: int) -> None:
        while len(self._waiting) > kept:
            self._leave(self._waiting.pop(), Released())

    def _ride(self, more: int) -> None:
        """So many jobs more, or less, run in the slot that their batch has."""
        self.concurrency += more

    def _rides(self, hold: Hold) -> bool:
        return not hold.suspect and self._batches.has_seat(self._tasks.find(hold.claim["task"]))

    def _board(self) -> None:
        """A batch has opened: jobs that wait for a slot and fit in need none, and more may be claimed for it."""
        self.freed.set()
        waiting, self._waiting = self._waiting, deque[Hold]()
        for hold in waiting:
            if self._rides(hold):
                self._launch(hold)
            else:
                self._waiting.append(hold)

    def _measure_pace(self) -> None:
        """Claim ahead what ends in AHEAD seconds: then nothing claimed waits longer than that for its slot."""
        now = asyncio.get_running_loop().time()
        if (passed := now - self._measured_at) >= AHEAD / 2:
            self._ahead = min(_MOST_AHEAD, int(self._ended_since * AHEAD / passed))
            self._ended_since, self._measured_at = 0, now

    def _launch(self, hold: Hold) -> None:
        claim = hold.claim
        task = self._tasks.find(claim["task"])
        unfit = _expired(claim) or (self._put_aside(claim, "unknown task") if task is None else None)
        if task is None or unfit is not None:
            self._leave(hold, unfit or Released())
            return
        member = None if task.batch is None else self._batches.seat(task, task.batch, hold)
        hold.attempt = Attempt(
            member or task,
            claim["args"],
            partial(job_of, claim),
            claim["attempt"],
            timeout=claim["timeout"],
            budget_left=claim["budget_left"],
            result_limit=self._settings.max_result,
            threads=self._threads,
            resources=self._resources,
            around=self._around,
            report=partial(self.when_reported, hold),
            transact=None if self.transact is None else partial(self.transact, hold),
        )
        self.running.add(hold)
        hold.begins()
        context = Context()
        hold.task = asyncio.get_running_loop().create_task(_perform(claim, hold.attempt, self._worker), context=context)
        if member is not None:
            hold.task.add_done_callback(member.leave)
        hold.task.add_done_callback(partial(self._ended, hold, hold.attempt, context))
        if member is not None and member.opened and self._waiting:
            self._board()

    def _ended(self, hold: Hold, attempt: Attempt, context: Context, task: asyncio.Task[Outcome]) -> None:
        """Called by the loop when a job's task is done. An error here would lose a slot, so it ends the worker."""
        claim = hold.claim
        hold.ends()
        try:
            broken = None if task.cancelled() else task.exception()
            ended = not task.cancelled() and broken is None
            outcome = task.result() if ended else interrupted(attempt, job_of(claim), broken)
            failed = failure_of(claim, attempt.error, outcome) if ended else None
            if isinstance(outcome, PutAside):
                outcome = self._put_aside(claim, outcome.reason)
            elif isinstance(outcome, Released) and outcome.lost and claim["lost"] + 1 >= MAX_LOST:
                outcome = lost_too_often(claim["lost"] + 1, claim["attempt"])
            batch = attempt.task.batch if isinstance(attempt.task, Member) else None
            waits = attempt.thread_runs and (batch is not None or isinstance(outcome, Released))
            slot = None if attempt.thread_runs and not waits else batch or hold
            tell = None if failed is None else partial(self._teller.tell, failed, slot, context)
            if waits:  # until its thread ends, that works on the job
                attempt.when_thread_ends(partial(self._conclude, hold, outcome, tell))
            elif attempt.thread_runs:
                self._hand_over(hold, outcome, tell)
                attempt.when_thread_ends(partial(self._free, hold))
            else:
                self._conclude(hold, outcome, tell)
        except Exception as error:
            self._fatal(error)

    def _leave(self, hold: Hold, outcome: Outcome) -> None:
        """A claimed job goes without a run."""
        self._uncount(hold)
        self._hand_over(hold, outcome)

    def _conclude(self, hold: Hold, outcome: Outcome, tell: Callable[[], None] | None) -> None:
        self._hand_over(hold, outcome, tell)
        self._free(hold)

    def _hand_over(self, hold: Hold, outcome: Outcome, tell: Callable[[], None] | None = None) -> None:
        if hold.completed or (hold.gone and isinstance(outcome, Released)):
            self._holds.drop(hold, LOST)  # it is written; or another has it, and there is nothing to give back
            if hold.completed and not isinstance(outcome, Done | Released):
                self._log.warning("job.failed_after_completion", **job_facts(hold.claim))
            return
        self._submit(hold, outcome)
        if tell is not None:
            tell()

    def _uncount(self, hold: Hold) -> None:
        queue = hold.claim["queue"]
        self.held[queue] -= 1
        self.suspects -= hold.suspect
        if hold.suspect or queue in self.limited:
            self.when_freed()

    def _free(self, hold: Hold) -> None:
        self._ended_since += 1
        self.running.remove(hold)
        hold.attempt = hold.task = None  # breaks a circle, which only the garbage collector would find
        self._uncount(hold)
        self._fill()

    def _fill(self) -> None:
        """A slot may be free: let the next begin."""
        self.freed.set()
        self._batches.give_slots()
        while self._waiting and self._free_slots() > 0:
            self._launch(self._waiting.popleft())

    def _put_aside(self, claim: Claim, reason: str) -> Outcome:
        return Dead(reason) if aside_for(claim) >= self._settings.aside_max_age else PutAside(reason)


def _expired(claim: Claim) -> Outcome | None:
    if claim["attempt"] == 1 and claim["start_left"] is not None and claim["start_left"] <= 0:
        return Dead("expired")
    if claim["budget_left"] is not None and claim["budget_left"] <= 0:
        return Dead("budget")
    return None


def _running(hold: Hold) -> Attempt:
    assert hold.attempt is not None  # noqa: S101 - set before it goes among the running
    return hold.attempt


async def _perform(claim: Claim, attempt: Attempt, worker: str) -> Outcome:
    bind_log(**job_facts(claim), worker=worker)
    return await attempt.run()
