"""Gathers the jobs of batch tasks: each waits in a run of its own for its share of what one call of the handler gives.

So claim, lease, retry, time limits and cancellation stay those of single jobs. A batch takes one slot; its further
items ride along. An item that is asked to end leaves a batch that gathers, and waits for the end of one that runs: no
job is given back while it runs. Once all items were asked to end, the handler is, once, as that of a single job.
"""

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable
from functools import partial
from threading import Lock, get_ident
from typing import Any

import anyio

from jobqueue.base.log import bind_log
from jobqueue.tasks.batch import Batching, BatchSignature, Registered, shares
from jobqueue.tasks.running import Attempt, Why
from jobqueue.worker.holding import Hold


class Batch:
    """Items of one task: gathering until `begin`, then running."""

    def __init__(self, batches: "Batches", task: Registered, batching: Batching) -> None:
        self.task = task
        self.batching = batching
        self.aboard = 1
        """How many jobs are in it, those included whose payload is still being read."""
        self.present: list[Member] = []
        self.runner: asyncio.Task[None] | None = None
        """The handler's own task; None while it gathers."""
        self.wanted = True
        """Whether more items may be claimed for it."""
        self.asked_at: float | None = None
        """When the handler was asked to end, on the monotonic clock."""
        self.thread: int | None = None
        """The identity of the thread that the handler runs in, if it does."""
        self._batches = batches
        self._staying = 0
        self._timer: asyncio.TimerHandle | None = None
        self._may_begin = Lock()
        self._shares: Any = ()

    @property
    def seats(self) -> int:
        """How many more it takes."""
        return self.batching.size - self.aboard if self.runner is None else 0

    def take(self, member: "Member") -> None:
        """An item has come with its payload."""
        self.present.append(member)
        if len(self.present) >= self.batching.size:
            self._stop_timer()
            self.begin()
        elif self._timer is None:
            wait = 0 if self._batches.closed else self.batching.wait
            self._timer = asyncio.get_running_loop().call_later(wait, self.begin)

    def hurry(self) -> None:
        """Nothing more will come: begin with those that are here."""
        if self.present:
            self._stop_timer()
            self.begin()

    def begin(self) -> None:
        """Run the handler in a task of its own, with a fresh context."""
        self._timer = None
        if not self.present:
            return  # those that had come were asked to end; the next one sets a new time
        self.forget()
        self._staying = len(self.present)
        self.runner = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        self.runner.add_done_callback(self._end)
        self._batches.running.add(self)

    def forget(self) -> None:
        """It gathers no more."""
        self._batches.gathers_no_more(self)
        self._stop_timer()

    def withdraw(self, member: "Member") -> bool:
        """An item was asked to end. True if it must wait for the handler first."""
        if self.runner is None:
            self.present.remove(member)
            return False
        self._staying -= 1
        if not self._staying:
            self.asked_at = time.monotonic()
            if self._signature.handler_is_async or self._may_begin.acquire(blocking=False):
                self.runner.cancel()
        return True

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _signature(self) -> BatchSignature:
        signature = self.task.signature
        assert isinstance(signature, BatchSignature)  # noqa: S101 - the decorator makes both
        return signature

    async def _run(self) -> None:
        items = [member.item for member in self.present]
        bind_log(task=self.task.name, worker=self._batches.worker, items=len(items))
        try:
            if self._signature.handler_is_async:
                answer = await self.task.function(items)
            else:
                answer = await self._run_in_thread(partial(self.task.function, items))
            self._shares = shares(self._signature, answer, len(self.present))
        except BaseException as error:
            self._shares = [error] * len(self.present)

    async def _run_in_thread(self, call: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()

        def body() -> Any:
            if not self._may_begin.acquire(blocking=False):
                return None  # given up before a thread came to it
            self.thread = get_ident()
            try:
                return call()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for this thread any more
                    loop.call_soon_threadsafe(self._thread_ended)

        return await anyio.to_thread.run_sync(body, abandon_on_cancel=True, limiter=self._batches.threads)

    def _thread_ended(self) -> None:
        self.thread = None
        if self.runner is not None and self.runner.done():
            self._end(self.runner)

    def _end(self, runner: asyncio.Task[None]) -> None:
        """The handler has ended: give each item its share."""
        if self.thread is not None:
            return  # its task was cancelled from outside, but it goes on
        self._batches.running.discard(self)
        members, self.present = self.present, []
        given = [asyncio.CancelledError()] * len(members) if runner.cancelled() else self._shares
        self._shares = ()  # breaks a circle through the traceback of an error
        for member, share in zip(members, given, strict=True):
            member.have(share)


class Member:
    """One item of a batch, as a task that is run: its run is the wait for its share."""

    __slots__ = (
        "_batches",
        "_has_share",
        "_left_behind",
        "_share",
        "_trace",
        "_woken",
        "batch",
        "hold",
        "item",
        "name",
        "opened",
        "retry",
        "signature",
    )

    def __init__(self, batches: "Batches", task: Registered, hold: Hold, batch: Batch, opened: bool) -> None:
        self.name, self.signature, self.retry = task.name, task.signature, task.retry
        self.batch = batch
        self.opened = opened
        """True if the batch began with it."""
        self.item: Any = None
        self.hold = hold
        self._batches = batches
        self._share: Any = None
        self._has_share = False
        self._trace: Any = None
        self._woken: asyncio.Future[None] | None = None
        self._left_behind: Attempt | None = None
        """Its own run, if that has ended before the handler."""

    async def function(self, *item: Any, **named: Any) -> Any:
        """Join a batch with the payload, which is the one argument; return or raise what the handler gives for it.

        Middleware may call it again: the item goes to the next batch then.
        """
        self.item = item[0] if item else next(iter(named.values()))
        self._woken, self._has_share = asyncio.get_running_loop().create_future(), False
        self._batches.come(self)
        try:
            await self._woken
        except asyncio.CancelledError:
            if not await self._share_counts():
                raise
        return self._take()

    def have(self, share: Any) -> None:
        """Wake up with this share, a result or an exception."""
        self._share, self._has_share = share, True
        if isinstance(share, BaseException):
            self._trace = share.__traceback__  # others may have the same exception, and raising makes its trace longer
        if self._left_behind is not None:
            self._left_behind.thread_ended()
        elif self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def leave(self, run: object) -> None:
        """Its run is over, however: called as that task's end."""
        self._batches.leave(self)

    async def _share_counts(self) -> bool:
        """This item was asked to end. Wait until it may; True if what the handler gave for it counts all the same."""
        if not self._has_share:
            if not self.batch.withdraw(self):
                return False
            self._woken = asyncio.get_running_loop().create_future()
            try:
                await self._woken
            except asyncio.CancelledError:
                # Not from here, but from a loop that is being closed: it is not held up. The handler goes on, as a
                # thread does, and as with a thread the job is not given back before that has ended.
                self._left_behind = self.hold.attempt
                if self._left_behind is not None:
                    self._left_behind.thread_runs = True
                raise
        why = None if self.hold.attempt is None else self.hold.attempt.why
        if why is None or why is Why.CANCEL:  # only of a handler that knew of it
            return self.batch.asked_at is not None or isinstance(self._share, BaseException)
        return True

    def _take(self) -> Any:
        share, self._share = self._share, None
        if not isinstance(share, BaseException):
            return share
        try:
            raise share.with_traceback(self._trace)
        finally:
            self._trace = share = None  # breaks a circle through the traceback


def batch_of(attempt: Attempt) -> Batch | None:
    """The batch that this run is an item of, if it is one."""
    return attempt.task.batch if isinstance(attempt.task, Member) else None


class Batches:
    """The batches of one worker."""

    def __init__(self, worker: str, threads: anyio.CapacityLimiter, ride: Callable[[int], None]) -> None:
        """`ride` is told how many jobs more, or less, run without a slot of their own."""
        self.worker = worker
        self.threads = threads
        self.closed = False
        self.running: set[Batch] = set()
        """They own their handlers' tasks."""
        self._gathering: set[Batch] = set()
        self._open: dict[Registered, Batch] = {}
        """Of those that gather, the ones that may have seats."""
        self._ride = ride

    def seats(self, most: int) -> int:
        """How many items may be claimed beyond free slots, because open batches wait for them."""
        if not self._open:
            return 0
        return min(most, sum(batch.seats for batch in list(self._open.values()) if batch.wanted))

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
        """A job has come with its payload; if its batch has begun without it, it goes to the next."""
        if member.batch.runner is not None:
            task, batching = member.batch.task, member.batch.batching
            self.leave(member)
            member.batch = self.seat(task, batching, member.hold).batch
        member.batch.take(member)

    def leave(self, member: Member) -> None:
        """A job is no longer in its batch."""
        batch = member.batch
        batch.aboard -= 1
        if batch.aboard:
            self._ride(-1)
        elif batch.runner is None:
            batch.forget()

    def gathers_no_more(self, batch: Batch) -> None:
        """It has begun, or nobody is left in it."""
        self._gathering.discard(batch)
        if self._open.get(batch.task) is batch:
            del self._open[batch.task]

    def close(self) -> None:
        """Nothing more is claimed: what gathers begins."""
        self.closed = True
        for batch in list(self._gathering):
            batch.hurry()
