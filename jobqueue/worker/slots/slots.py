"""Who may run: at most `concurrency` jobs at once, some more that are claimed ahead, and those that ride in a batch."""

import asyncio
from collections.abc import Callable, Collection, Sequence

import anyio

from jobqueue.base.log import get_logger, job_facts
from jobqueue.base.outcome import Cancelled, Released
from jobqueue.store.claims import Claim
from jobqueue.tasks.run.attempt import Attempt
from jobqueue.tasks.run.state import Why
from jobqueue.worker.keeping.holds import Hold
from jobqueue.worker.slots.batches import Batches
from jobqueue.worker.slots.line import Line
from jobqueue.worker.slots.quotas import Quotas
from jobqueue.worker.slots.runs import Runs, Surroundings
from jobqueue.worker.slots.way import Way

_EARLY_KEPT = 100_000


class Slots:
    """Starts claimed jobs, or lets them wait for a slot."""

    def __init__(self, around: Surroundings) -> None:
        settings = around.settings
        self._around = around
        self._configured = settings.concurrency
        self._slots = settings.concurrency
        """How many there are: the configured ones, spare ones, and one for each job that rides in that of its batch."""
        self._spare = 0
        """Slots beyond the configured ones, beside handlers that are stuck."""
        self.freed = asyncio.Event()
        """Set whenever a slot came free; whoever waits clears it."""
        self.quotas = Quotas()
        self.way = Way()
        self._threads = anyio.CapacityLimiter(settings.concurrency)
        self._batches = Batches(str(around.worker), self._threads, self._ride, self._free_slots, self._board)
        self._runs = Runs(around, self._batches, self._threads, self.quotas.uncount, self._freed, self._fill)
        # What came for the seats of a batch and is of another task would come again at once.
        self._line = Line(settings.prefetch, self.give_back, self._batches.want_no_more)
        self._cancelled_early = set[int]()
        self._open = True
        self._log = get_logger(__name__)

    @property
    def running(self) -> Collection[Hold]:
        """The jobs that run."""
        return self._runs.going

    @property
    def room(self) -> int:
        """How many more jobs may be claimed now; none once it is closed, or while one runs alone or is to."""
        if not self._open or self.way.hold is not None or (self.way.made and not self.idle):
            return 0
        self._line.measure()
        return self._line.ahead + self._batches.seats + self._free_slots() - len(self._line)

    @property
    def unused(self) -> int:
        """How many jobs would start at once, whatever their task: seats of batches are not for all."""
        return max(0, self._free_slots() - len(self._line))

    @property
    def ahead(self) -> int:
        """How many claimed jobs wait for a slot."""
        return len(self._line)

    @property
    def lasts(self) -> float:
        """For how many seconds there is enough that is claimed ahead."""
        return self._line.lasts

    @property
    def capacity(self) -> int:
        """How many jobs are claimed at the most now: the slots, what is claimed ahead, and seats in open batches."""
        return self._slots + self._line.ahead + self._batches.seats

    @property
    def idle(self) -> bool:
        """True if no job runs or waits, and no failure is being told."""
        return not self._runs.going and not self._line and self._runs.teller.idle

    def _free_slots(self) -> int:
        """How many are taken neither by jobs that run nor by failures that are being told."""
        return self._slots - len(self._runs.going) - self._runs.teller.slots

    def hold(self, claim: Claim, lease_ends: float) -> Hold:
        """Hold a claimed job from now on, at once when the claim's answer comes: what is not held is given back."""
        hold = Hold(claim, lease_ends, suspect=claim["crashes"] > 0)
        if (token_left := claim["token_left"]) is not None:
            hold.start_by = lease_ends - self._around.settings.lease + token_left
        self._around.holds.add(hold)
        self.quotas.count(hold)
        return hold

    def start(self, hold: Hold, *, alone: bool = False) -> None:
        """Run a job that is held as soon as a slot is free; `alone`: nothing runs now, and nothing may beside it."""
        if alone:
            self.way.takes(hold)
        if not self._open or hold.lost:
            self.give_back(hold)
        elif self._cancelled_early and hold.fence in self._cancelled_early:
            self._runs.leave(hold, Cancelled("requested"))
        elif self._free_slots() > 0 or self._rides(hold):
            self._launch(hold)
        else:
            self._line.join(hold)

    def gathers(self, hold: Hold) -> bool:
        """True if the job waits for others of its task, to be run with them."""
        task = self._around.tasks.find(hold.claim["task"])
        return task is not None and task.batch is not None

    def lose(self, holds: Sequence[Hold]) -> None:
        """The claims on these jobs are over, or soon will be: cancel those that run. What has ended is left alone."""
        for hold in holds:
            if hold.completed or (hold.attempt is not None and hold.attempt.state.committing):
                continue  # while it commits, the fence decides
            if hold in self._runs.going:
                _running(hold).state.ask(Why.LOST)
            elif hold in self._line:
                self._line.leave(hold)
                self.give_back(hold)
            else:
                continue
            self._log.warning("job.lost", gone=hold.gone, **job_facts(hold.claim))

    def cancel(self, fences: Collection[int]) -> None:
        """End the jobs of these claims, if they are here, or as soon as the claim's answer brings them."""
        here = [hold for hold in self._around.holds.snapshot() if hold.fence in fences]
        if not here:
            if len(self._cancelled_early) > _EARLY_KEPT:  # the whole fleet's; answers to claims come within seconds
                self._cancelled_early.clear()
            self._cancelled_early.update(fences)
        for hold in here:
            if hold in self._runs.going:
                _running(hold).state.ask(Why.CANCEL)
            elif hold in self._line:
                self._line.leave(hold)
                self._runs.leave(hold, Cancelled("requested"))
            else:  # it is about to start
                self._cancelled_early.add(hold.fence)

    def open_spare(self, stuck: int) -> None:
        """So many handlers will not end: let as many others run beside them, twice as many in all at the most."""
        more = min(stuck, self._configured) - self._spare
        if more == 0:
            return
        self._spare += more
        self._slots += more
        self._threads.total_tokens += more
        self._fill()

    def close(self) -> None:
        """Start nothing more; what was claimed ahead is given back at once."""
        self._open = False
        self._line.shorten(0)
        self._batches.close()

    def hurry_batches(self) -> None:
        """Nothing is ready: batches that gather wait for no more."""
        self._batches.hurry()

    def stop_running(self) -> None:
        """Cancel every running job, and hooks: their outcomes are known."""
        self._runs.teller.stop()
        for hold in list(self._runs.going):
            _running(hold).state.ask(Why.STOP)

    def abandon_threads(self) -> None:
        """Wait no longer for threads that were asked to end."""
        self._batches.abandon_threads()
        for hold in list(self._runs.going):
            _running(hold).state.abandon()

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

    def _launch(self, hold: Hold) -> None:
        member = self._runs.begin(hold)
        if member is not None and member.opened and self._line:
            self._board()

    def give_back(self, hold: Hold) -> None:
        """Leave a job that has not begun to another worker."""
        self._runs.leave(hold, Released())

    def _ride(self, more: int) -> None:
        """So many jobs more, or less, run in the slot that their batch has."""
        self._slots += more

    def _rides(self, hold: Hold) -> bool:
        if hold.suspect or not self._batches.any_open:
            return False
        return self._batches.has_seat(self._around.tasks.find(hold.claim["task"]))

    def _board(self) -> None:
        """A batch has opened: jobs that wait for a slot and fit in need none, and more may be claimed for it."""
        self.freed.set()
        for hold in self._line:
            if self._rides(hold) and hold in self._line:  # to find one in a long line takes longer
                self._line.leave(hold)
                self._launch(hold)

    def _freed(self, hold: Hold) -> None:
        self._line.one_ended()
        self.quotas.uncount(hold)
        self._fill()

    def _fill(self) -> None:
        """A slot may be free: let the next begin."""
        self.freed.set()
        self._batches.give_slots()
        waiting = self._line.waiting
        while waiting and self._free_slots() > 0:
            self._launch(waiting.popleft())


def _running(hold: Hold) -> Attempt:
    assert hold.attempt is not None  # noqa: S101 - set before it goes among the running
    return hold.attempt
