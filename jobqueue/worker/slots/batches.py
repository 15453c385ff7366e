"""The batches of one worker: which of them an item joins, who rides along without a slot, which seats are free.

A batch takes one slot; its further items ride along. One that opens late, for a job that runs already, gathers without
a slot until one is free.
"""

from collections import deque
from collections.abc import Callable

import anyio

from jobqueue.tasks.run.batch import Batching, Registered
from jobqueue.worker.keeping.holds import Hold
from jobqueue.worker.slots.batch import Batch, Member

_MOST_SEATS = 450
"""Claimed for at the most: no pace says how soon batches begin, and jobs of other tasks may come for their seats."""


class Batches:
    """The batches of one worker."""

    def __init__(
        self,
        worker: str,
        threads: anyio.CapacityLimiter,
        ride: Callable[[int], None],
        free: Callable[[], int],
        opened: Callable[[], None],
    ) -> None:
        """`ride` is told how many jobs more, or less, run without a slot of their own.

        `free` gives how many slots are free; fewer than none, if batches gather without one. `opened` is called when
        one opens for a job that runs already.
        """
        self.worker = worker
        self.threads = threads
        self.closed = False
        self.running: set[Batch] = set()
        """They own their handlers' tasks."""
        self._gathering: set[Batch] = set()
        self._open: dict[Registered, Batch] = {}
        """Of those that gather, the ones that may have seats."""
        self._slotless = deque[Batch]()
        """They gather, each with a job that runs already, until a slot is free."""
        self._ride, self._free, self._opened = ride, free, opened

    @property
    def seats(self) -> int:
        """How many items may be claimed beyond free slots, because open batches wait for them."""
        if not self._open:
            return 0
        return min(_MOST_SEATS, sum(batch.seats for batch in list(self._open.values()) if batch.wanted))

    @property
    def any_open(self) -> bool:
        """Whether any batch gathers that may have seats."""
        return bool(self._open)

    def has_seat(self, task: Registered | None) -> bool:
        """True if a job of this task needs no slot of its own."""
        return task is not None and task in self._open and self._open[task].seats > 0

    def want_no_more(self) -> None:
        """What was claimed for the seats was of other tasks and found no slot: claim no more for these batches."""
        for batch in self._open.values():
            batch.wanted = False

    def seat(self, task: Registered, batching: Batching, hold: Hold) -> Member:
        """A job of a batch task begins its run. One whose worker has died before is a batch of its own: it may not
        take others with it again."""
        if hold.suspect:
            return Member(self, task, hold, Batch(self, task, Batching(1, 0)), opened=True)
        batch = self._open.get(task)
        joins = batch is not None and batch.seats > 0
        if batch is None or not joins:
            batch = self._open[task] = Batch(self, task, batching)
            self._gathering.add(batch)
        else:
            batch.aboard += 1
            self._ride(1)
        return Member(self, task, hold, batch, opened=not joins)

    def come(self, member: Member) -> None:
        """A job has come with its payload; if its batch has begun without it, it goes to another."""
        if member.batch.runner is None:
            member.batch.take(member)
            return
        task, batching = member.batch.task, member.batch.batching
        self.leave(member)
        seated = self.seat(task, batching, member.hold)
        member.batch = seated.batch
        if seated.opened:
            member.batch.has_slot = False
            self._slotless.append(member.batch)
        member.batch.take(member)
        self.give_slots()  # once it is in: a batch that has waited for a slot begins here
        if seated.opened:
            self._opened()

    def give_slots(self) -> None:
        """Give free slots to batches that wait for one: their jobs run already."""
        while self._slotless and self._free() + len(self._slotless) > 0:
            self._slotless.popleft().take_slot()

    def leave(self, member: Member) -> None:
        """A job is no longer in its batch."""
        batch = member.batch
        batch.aboard -= 1
        if batch.aboard:
            self._ride(-1)
        elif batch.runner is None:
            batch.forget()
            if not batch.has_slot:
                self._slotless.remove(batch)

    def gathers_no_more(self, batch: Batch) -> None:
        """It has begun, or nobody is left in it."""
        self._gathering.discard(batch)
        if self._open.get(batch.task) is batch:
            del self._open[batch.task]

    def close(self) -> None:
        """Nothing more is claimed: what gathers begins."""
        self.closed = True
        self.hurry()

    def hurry(self) -> None:
        """Nothing is there that could be claimed: what gathers waits for no more."""
        for batch in list(self._gathering):
            batch.begin()

    def abandon_threads(self) -> None:
        """Wait no longer for threads that were asked to end."""
        for batch in self.running:
            if batch.in_thread and batch.runner is not None:
                batch.runner.cancel()
