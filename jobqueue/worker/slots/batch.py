"""One batch: each of its jobs waits in a run of its own for its share of what one call of the handler gives.

So claim, lease, retry, time limits and cancellation stay those of single jobs. An item that is asked to end leaves a
batch that gathers, and waits for the end of one that runs, whatever cancellations come: no job is given back while it
runs. Once all items were asked to end, the handler is, once, as that of a single job.
"""

import asyncio
import contextvars
import time
from functools import partial
from typing import Any, Protocol

import anyio

from jobqueue.base.log import bind_log
from jobqueue.base.service import outlast
from jobqueue.tasks.run.attempt import Attempt
from jobqueue.tasks.run.batch import Batching, BatchSignature, Registered, shares
from jobqueue.tasks.run.state import Why
from jobqueue.tasks.run.thread import ThreadCall
from jobqueue.worker.keeping.holds import Hold


class Around(Protocol):
    """What a batch and its items need of those around them."""

    worker: str
    threads: anyio.CapacityLimiter
    closed: bool
    """Whether nothing more is claimed: no batch waits for items then."""
    running: "set[Batch]"

    def gathers_no_more(self, batch: "Batch") -> None:
        """It has begun, or nobody is left in it."""
        ...

    def come(self, member: "Member") -> None:
        """An item has come with its payload."""
        ...

    def leave(self, member: "Member") -> None:
        """An item is no longer in its batch."""
        ...


class Batch:
    """Items of one task: gathering until `begin`, then running."""

    def __init__(self, batches: Around, task: Registered, batching: Batching) -> None:
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
        self.in_thread = False
        """True from the call for a thread until that has returned, or never will begin."""
        self.has_slot = True
        """False for one that was opened without a slot: it gathers on until one is free."""
        self._due = False
        self._batches = batches
        self._staying = 0
        self._timer: asyncio.TimerHandle | None = None
        self._thread_call: ThreadCall | None = None
        self._shares: list[Any] = []

    @property
    def seats(self) -> int:
        """How many more it takes."""
        return self.batching.size - self.aboard if self.runner is None else 0

    def take(self, member: "Member") -> None:
        """An item has come with its payload."""
        self.present.append(member)
        if len(self.present) >= self.batching.size:
            self.begin()
        elif self._timer is None:
            wait = 0 if self._batches.closed else self.batching.wait
            self._timer = asyncio.get_running_loop().call_later(wait, self.begin)

    def begin(self) -> None:
        """Run the handler in a task of its own, with a fresh context; without a slot, once there is one."""
        self._stop_timer()
        self._due = bool(self.present)
        if not self._due or not self.has_slot:
            return  # if those that had come were asked to end, the next one sets a new time
        self.forget()
        self._staying = len(self.present)
        self.runner = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        self.runner.add_done_callback(self._end)
        self._batches.running.add(self)

    def take_slot(self) -> None:
        """A slot is free for it."""
        self.has_slot = True
        if self._due:
            self.begin()

    def forget(self) -> None:
        """It gathers no more."""
        self._batches.gathers_no_more(self)
        self._stop_timer()

    def withdraw(self, member: "Member") -> bool:
        """An item was asked to end. True if it must wait for the handler first."""
        if self.runner is None:
            self.present.remove(member)
            member.waits = False
            return False
        if self._left_behind:
            return False
        self._staying -= 1
        if not self._staying:
            self.asked_at = time.monotonic()
            if self._signature.handler_is_async or self._never_begins():
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

    @property
    def _left_behind(self) -> bool:
        """True if the handler's task was cancelled from outside and its thread goes on."""
        return self.in_thread and self.runner is not None and self.runner.done()

    async def _run(self) -> None:
        try:
            items = [member.item for member in self.present]
            bind_log(task=self.task.name, worker=self._batches.worker, items=len(items))
            if self._signature.handler_is_async:
                answer = await self.task.function(items)
            else:
                answer = await self._run_in_thread(
                    ThreadCall(partial(self.task.function, items), self._thread_begins, self._thread_ended)
                )
            self._shares = shares(self._signature, answer, len(self.present))
        except BaseException as error:
            self._shares = [error] * len(self.present)

    async def _run_in_thread(self, call: ThreadCall) -> Any:
        self._thread_call, self.in_thread = call, True
        try:
            return await call.run(self._batches.threads)
        finally:
            self._never_begins()

    def _never_begins(self) -> bool:
        """True if no thread has come to the handler; none will then."""
        if self._thread_call is not None and not self._thread_call.never_begins():
            return False
        self.in_thread = False
        return True

    def _thread_begins(self, ident: int) -> None:
        self.thread = ident

    def _thread_ended(self) -> None:
        left_behind, self.in_thread, self.thread = self._left_behind, False, None
        if left_behind and self.runner is not None:
            self._end(self.runner)

    def _end(self, runner: asyncio.Task[None]) -> None:
        """The handler has ended: give each item its share."""
        if self._left_behind:  # perhaps by a loop that is being closed: it holds up nobody's run, but what they came to
            for member in self.present:
                member.let_go()
            return
        self._batches.running.discard(self)
        members, self.present = self.present, []
        given = [asyncio.CancelledError()] * len(members) if runner.cancelled() else self._shares
        self._shares = []  # breaks a circle through the traceback of an error
        for place, member in enumerate(members):
            member.have(given[place] if place < len(given) else RuntimeError("its batch has ended without it"))


class Member:
    """One item of a batch, as a task that is run: its run is the wait for its share."""

    __slots__ = (
        "_batches", "_share", "_shared_at", "_trace", "_woken", "batch", "hold", "item", "name", "opened", "retry",
        "signature", "waits",
    )  # fmt: skip

    def __init__(self, batches: Around, task: Registered, hold: Hold, batch: Batch, opened: bool) -> None:
        self.name, self.signature, self.retry = task.name, task.signature, task.retry
        self.batch = batch
        self.opened = opened
        """True if the batch began with it."""
        self.item: Any = None
        self.hold = hold
        self.waits = False
        """True while a batch has it: from its coming with the payload until it has its share."""
        self._batches = batches
        self._share: Any = None
        self._shared_at = 0.0
        self._trace: Any = None
        self._woken: asyncio.Future[None] | None = None

    async def function(self, *item: Any, **named: Any) -> Any:
        """Join a batch with the payload, which is the one argument; return or raise what the handler gives for it.

        Middleware may call it again: the item goes to the next batch then. Asked to end, it waits for a handler that
        runs all the same, and raises that on only if nothing came of it. Raises RuntimeError while it is in a batch.
        """
        if self.waits:
            raise RuntimeError(f"{self.name}: call_next was called again while the batch still has this item")
        self.item = item[0] if item else next(iter(named.values()))
        self._woken, self.waits = asyncio.get_running_loop().create_future(), True
        self._batches.come(self)
        try:
            await self._woken
        except asyncio.CancelledError as cancelled:
            if not await self._share_counts():
                raise
            if isinstance(self._share, asyncio.CancelledError):  # raise its own, which who cancelled it knows again
                self._share = cancelled
        return self._take()

    def have(self, share: Any) -> None:
        """Wake up with this share, a result or an exception."""
        self._share, self.waits, self._shared_at = share, False, time.monotonic()
        if isinstance(share, BaseException):
            self._trace = share.__traceback__  # others may have the same exception, and raising makes its trace longer
        attempt = self.hold.attempt
        if attempt is not None and attempt.state.in_thread:
            attempt.state.leave_thread()
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def let_go(self) -> None:
        """Wait no longer, though the handler goes on."""
        if self._woken is not None:
            self._woken.cancel()

    def leave(self, run: object) -> None:
        """Its run is over, however: called as that task's end.

        If the handler still has it, because the loop is being closed or middleware did not wait for it, that counts as
        a thread that goes on: nothing is told of the job before that has ended.
        """
        if self.waits and self.batch.runner is None:
            self.batch.withdraw(self)
        elif self.waits and self.hold.attempt is not None:
            self.hold.attempt.state.outlive()
        self._batches.leave(self)

    def asked_at(self, attempt: Attempt) -> float | None:
        """When what this run does now was asked to end.

        A batch has one handler and one slot, so its first item stands for all that wait for it.
        """
        if self.waits and self.batch.runner is not None:
            return self.batch.asked_at if self.batch.present[0] is self else None
        return None if attempt.state.asked_at is None else max(attempt.state.asked_at, self._shared_at)

    async def _share_counts(self) -> bool:
        """This item was asked to end. Wait until it may; True if what the handler gave for it counts all the same."""
        if self.waits:
            if not self.batch.withdraw(self):
                return False
            self._woken = asyncio.get_running_loop().create_future()
            await outlast(self._woken)
            if self.waits:
                return False
        why = None if self.hold.attempt is None else self.hold.attempt.state.why
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
    """The batch whose handler has this run's item now, if one has."""
    if not isinstance(attempt.task, Member) or not attempt.task.waits or attempt.task.batch.runner is None:
        return None
    return attempt.task.batch
