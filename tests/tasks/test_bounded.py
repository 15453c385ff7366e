"""`bounded_map`: many calls at once, never more than its limit, and none that outlives it."""

import asyncio
import contextlib
import contextvars
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
import pytest
import uvloop

from jobqueue import InvalidOption, bounded_map
from tests.support.waiting import wait_until

Work: TypeAlias = Callable[[], Coroutine[Any, Any, object]]


@dataclass
class Calls:
    """Counts calls; each waits until it is cancelled, then cleans up for a while, as a rollback would."""

    begun: int = 0
    running: int = 0
    peak: int = 0
    cancelled: int = 0
    cleaned: int = 0
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    async def wait(self, item: object) -> None:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await asyncio.sleep(0)
            await self.hold.wait()
            await asyncio.sleep(0)
            self.cleaned += 1
            raise

    async def step(self, item: int) -> int:
        self.running += 1
        self.peak = max(self.peak, self.running)
        for _ in range(item % 7 + 1):  # so that they end in another order than they began in
            await asyncio.sleep(0)
        self.running -= 1
        return -item

    @property
    def are_gone(self) -> bool:
        """True if all that began were cancelled once, and have cleaned up."""
        return self.begun == self.cancelled == self.cleaned > 0


async def asynchronously(items: Iterable[int]) -> AsyncIterator[int]:
    for item in items:
        await asyncio.sleep(0)
        yield item


def tasks() -> set["asyncio.Task[Any]"]:
    return asyncio.all_tasks()


# What it does.


@pytest.mark.parametrize("limit", [1, 3, 25, 1000])
async def test_results_come_in_the_order_of_the_items(limit: int) -> None:
    """S0-30: results are in the order of the items, from any kind of iterable, without an app or a database."""
    expected = [-item for item in range(100)]

    for items in (range(100), list(range(100)), iter(range(100)), asynchronously(range(100))):
        assert expected == await bounded_map(Calls().step, items, limit=limit)
    assert [] == await bounded_map(Calls().step, [])
    assert [] == await bounded_map(Calls().step, asynchronously([]))


async def test_the_peak_is_the_limit() -> None:
    """S0-31: of 200 items exactly 25 are in flight at the peak, by default; 200 together with a limit beyond that."""
    by_default, wide = Calls(), Calls()

    await bounded_map(by_default.step, range(200))
    await bounded_map(wide.step, range(200), 1000)

    assert (25, 0) == (by_default.peak, by_default.running)
    assert 200 == wide.peak


@pytest.mark.parametrize("is_async", [False, True])
async def test_items_are_taken_as_there_is_room(is_async: bool) -> None:
    """S0-06, S0-30: never more than `limit` items are taken and not yet done, however many there are."""
    taken, done, ahead = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal taken, ahead
        for item in range(500):
            taken += 1
            ahead = max(ahead, taken - done)
            yield item

    async def one(item: int) -> None:
        nonlocal done
        for _ in range(30):  # longer than seven items take to come
            await asyncio.sleep(0)
        done += 1

    await bounded_map(one, asynchronously(items()) if is_async else items(), limit=7)

    assert (500, 500, 7) == (taken, done, ahead)


async def test_memory_is_that_of_the_results() -> None:
    """S0-06, S0-30: 50,000 items need no more tasks than 25, and little memory beside the list of results."""
    before, most = len(tasks()), 0

    async def one(item: int) -> None:
        nonlocal most
        if item % 1000 == 0:
            most = max(most, len(tasks()) - before)
        await asyncio.sleep(0)

    tracemalloc.start()
    try:
        await bounded_map(one, range(50_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0 < most <= 26, "25 calls and the one who starts them"
    assert peak < 1_000_000


async def test_each_call_sees_the_callers_context() -> None:
    """S0-30: calls see the context variables of their caller; what one sets, no other sees, nor does the caller."""
    name = contextvars.ContextVar("name", default="unset")
    name.set("caller")

    async def one(item: int) -> str:
        seen = name.get()
        name.set(f"call {item}")
        await asyncio.sleep(0)
        assert f"call {item}" == name.get()
        return seen

    async def items() -> AsyncIterator[int]:
        for item in range(10):
            name.set("items")
            yield item

    assert ["caller"] * 10 == await bounded_map(one, range(10), limit=2)
    assert ["caller"] * 10 == await bounded_map(one, items(), limit=2)
    assert "caller" == name.get()


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "25", None])
async def test_a_wrong_limit_is_refused(limit: Any) -> None:
    """S0-05: a limit that is no whole number of at least 1 is refused before any item is taken."""
    items = iter([1])

    with pytest.raises(InvalidOption, match=r"^limit: must be a whole number of at least 1$"):
        await bounded_map(Calls().step, items, limit=limit)
    assert [1] == list(items)


# Errors.


async def test_the_first_error_cancels_the_rest() -> None:
    """S0-27, S0-30: the third of ten fails: the others are cancelled, clean up, and no child is alive on return."""
    before, calls, error = tasks(), Calls(), ValueError("third")

    async def one(item: int) -> None:
        if item == 2:
            await wait_until(lambda: calls.begun == 9, "all others have begun")
            raise error
        await calls.wait(item)

    with pytest.raises(ValueError, match=r"^third$") as caught:
        await bounded_map(one, range(10))

    assert error is caught.value
    assert before == tasks()
    assert calls.are_gone
    assert not hasattr(error, "__notes__")


async def test_nothing_begins_after_an_error() -> None:
    """S0-27: the items behind a failure are neither taken nor begun, though there is room for them."""
    begun, items = [], iter(range(100))

    async def one(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise ValueError
        await asyncio.sleep(0)

    with pytest.raises(ValueError):
        await bounded_map(one, items, limit=2)

    assert list(range(max(begun) + 1)) == begun
    assert max(begun) <= 4
    assert next(items) <= 5


async def test_later_errors_are_a_note_of_classes() -> None:
    """S0-10: what fails while it is cancelled is told on the first error, by class alone: no text of it is quoted."""

    async def one(item: int) -> None:
        if item == 0:
            await asyncio.sleep(0)
            raise ValueError("first")
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("secret") if item == 1 else KeyError("secret")

    with pytest.raises(ValueError, match=r"^first") as caught:
        await bounded_map(one, range(4))

    assert ["bounded_map: 3 more failed while they ended: KeyError, OSError"] == caught.value.__notes__


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_of_the_items_is_raised(is_async: bool) -> None:
    """S0-27: if the items fail half-way, the calls that run are cancelled and the items' error is raised."""
    before, calls, error = tasks(), Calls(), OSError("no more")

    def items() -> Iterator[int]:
        yield from range(5)
        raise error

    async def one(item: int) -> None:
        if item > 0:
            await calls.wait(item)
        await wait_until(lambda: calls.begun == 4, "the others have begun")

    with pytest.raises(OSError, match=r"^no more$") as caught:
        await bounded_map(one, asynchronously(items()) if is_async else items(), limit=5)

    assert error is caught.value
    assert (before, 4) == (tasks(), calls.cancelled)
    assert calls.are_gone


async def test_waiting_for_items_does_not_hold_up_an_error() -> None:
    """S0-27: an error is raised though the next item would never come; the generator is closed, in its own clean-up."""
    before, closed = tasks(), []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def fail(item: int) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        await bounded_map(fail, items())
    assert ([True], before) == (closed, tasks())


async def test_a_generator_that_was_not_read_is_closed() -> None:
    """S0-27: an async generator that stands at a `yield` when the first error comes is closed before the call ends."""
    closed = []

    async def items() -> AsyncIterator[int]:
        try:
            for item in range(100):
                yield item
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def fail(item: int) -> None:
        await asyncio.sleep(0)
        raise ValueError

    with pytest.raises(ValueError):
        await bounded_map(fail, items(), limit=3)
    assert [True] == closed


async def test_a_call_that_was_cancelled_by_others_is_no_result() -> None:
    """S0-30: a call that ends in a cancellation which is not ours leaves no hole in the results: it is raised."""
    gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    gone.cancel()

    async def one(item: int) -> int:
        return await gone if item == 3 else item

    before = tasks()
    with pytest.raises(asyncio.CancelledError):
        await bounded_map(one, range(10))
    assert before == tasks()


async def test_a_call_that_others_cancelled_before_it_began() -> None:
    """S0-30: the same holds for a call whose task somebody cancels before its first step."""
    others = tasks()

    def items() -> Iterator[int]:
        yield 1
        for task in tasks() - others - {asyncio.current_task()}:
            task.cancel()
        yield 2

    with pytest.raises(asyncio.CancelledError):
        await bounded_map(Calls().step, items())
    assert others == tasks()


async def test_items_that_ignore_the_cancellation_begin_nothing() -> None:
    """S0-27: what the items still yield after they were cancelled is not begun."""
    begun, before = [], tasks()

    async def items() -> AsyncIterator[int]:
        yield 1
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        yield 2
        yield 3

    async def fail(item: int) -> None:
        begun.append(item)
        raise ValueError

    with pytest.raises(ValueError):
        await bounded_map(fail, items())
    assert ([1], before) == (begun, tasks())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), type("Own", (BaseException,), {})()])
async def test_any_exception_reaches_the_caller(error: BaseException) -> None:
    """S0-15: even SystemExit in a call reaches the caller, and not the event loop, after the rest was cancelled."""
    before, calls = tasks(), Calls()

    async def one(item: int) -> None:
        if item == 4:
            await asyncio.sleep(0)
            raise error
        await calls.wait(item)

    with pytest.raises(type(error)) as caught:
        await bounded_map(one, range(10))

    assert error is caught.value
    assert calls.are_gone
    assert before == tasks()


# The caller's cancellation. Each way cancels the work as soon as `now` is true.


async def by_cancel(work: Work, now: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(work())
    await wait_until(now, "it is time to cancel")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_scope(work: Work, now: Callable[[], bool]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await wait_until(now, "it is time to cancel")
        group.cancel_scope.cancel()


async def by_timeout(work: Work, now: Callable[[], bool]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            async with asyncio.TaskGroup() as group:
                group.create_task(reschedule(limit, now))
                await work()


async def reschedule(limit: asyncio.Timeout, now: Callable[[], bool]) -> None:
    await wait_until(now, "it is time to cancel")
    limit.reschedule(asyncio.get_running_loop().time())


async def by_fail_after(work: Work, now: Callable[[], bool]) -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(None) as scope:
            async with asyncio.TaskGroup() as group:
                group.create_task(expire(scope, now))
                await work()


async def expire(scope: anyio.CancelScope, now: Callable[[], bool]) -> None:
    await wait_until(now, "it is time to cancel")
    scope.deadline = anyio.current_time()


async def by_all_at_once(work: Work, now: Callable[[], bool]) -> None:
    scope = anyio.CancelScope()

    async def scoped() -> None:
        with scope:
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                await work()

    limits: list[asyncio.Timeout] = []
    task = asyncio.ensure_future(scoped())
    await wait_until(now, "it is time to cancel")
    scope.cancel()
    limits[0].reschedule(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


WAYS = (by_cancel, by_scope, by_timeout, by_fail_after, by_all_at_once)


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_caller_cancels_all_and_waits(
    way: Callable[[Work, Callable[[], bool]], Awaitable[None]],
) -> None:
    """S0-26, S0-27: however the caller is cancelled, each call is cancelled once, may await in its clean-up, and has
    ended when the caller goes on; the items are not taken any further."""
    before, calls, ended = tasks(), Calls(), []

    async def work() -> None:
        mine = tasks()
        try:
            await bounded_map(calls.wait, range(100))
        finally:
            ended.append((calls.begun, calls.are_gone, tasks() - mine))

    await way(work, lambda: calls.begun == 25)

    assert [(25, True, set())] == ended
    assert before == tasks()


async def test_a_cancelled_caller_stops_the_items() -> None:
    """S0-26: a caller who is cancelled while it waits for an item cancels that wait as well."""
    before, waiting, cancelled = tasks(), asyncio.Event(), []

    async def items() -> AsyncIterator[int]:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        yield 1

    await by_cancel(lambda: bounded_map(Calls().step, items()), waiting.is_set)

    assert ([True], before) == (cancelled, tasks())


@pytest.mark.parametrize("natively", [False, True])
async def test_who_is_cancelled_already_begins_nothing(natively: bool) -> None:
    """S0-26: in a cancelled scope or task no call begins and no item is taken."""
    before, calls, items = tasks(), Calls(), iter(range(3))

    async def work() -> None:
        with anyio.CancelScope() as scope:
            this = asyncio.current_task()
            assert this is not None
            cancel = this.cancel if natively else scope.cancel
            cancel()
            await bounded_map(calls.wait, items)
        assert scope.cancelled_caught

    (ended,) = await asyncio.gather(work(), return_exceptions=True)

    assert isinstance(ended, asyncio.CancelledError if natively else None.__class__)
    assert (0, [0, 1, 2], before) == (calls.begun, list(items), tasks())


@pytest.mark.parametrize("first", ["scope", "task"])
async def test_no_second_cancellation_cuts_off_the_clean_up(first: str) -> None:
    """S0-27: further cancellations neither end the wait for the clean-up nor disturb it, and a native one is not lost
    in the anyio scope that was cancelled before it."""
    calls, scope, passed = Calls(), anyio.CancelScope(), []
    calls.hold.clear()

    async def work() -> None:
        with scope:
            await bounded_map(calls.wait, range(25))
        passed.append(True)
        await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await wait_until(lambda: calls.begun == 25, "all run")
    steps = [scope.cancel, task.cancel] if first == "scope" else [task.cancel, scope.cancel]
    for step in (*steps, task.cancel):
        step()
        await wait_until(lambda: calls.cancelled == 25, "all are cancelled")
        for _ in range(10):
            await asyncio.sleep(0)
    assert (False, 0) == (task.done(), calls.cleaned)
    assert task.cancelling() < 6, "it waits: a scope that it does not hold off cancels it at every turn of the loop"
    calls.hold.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert calls.are_gone
    assert [] == passed


async def test_a_cancellation_is_not_lost_behind_an_error() -> None:
    """S0-26: who is cancelled while an error is being cleaned up after ends cancelled; a note tells of the error."""
    calls = Calls()
    calls.hold.clear()

    async def one(item: int) -> None:
        if item == 2:
            await wait_until(lambda: calls.begun == 9, "all others have begun")
            raise ValueError
        await calls.wait(item)

    task = asyncio.ensure_future(bounded_map(one, range(10)))
    await wait_until(lambda: calls.cancelled == 9, "the others clean up")
    task.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    calls.hold.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    assert calls.are_gone
    assert ["bounded_map: 1 more failed while they ended: ValueError"] == caught.value.__notes__


async def test_one_within_the_other() -> None:
    """S0-27: nested, each level waits for its own; an error deep inside comes out as itself and leaves nothing."""
    before, calls = tasks(), Calls()

    async def inner(item: int) -> None:
        if item == 33:
            await asyncio.sleep(0)
            raise LookupError
        await calls.wait(item)

    async def outer(item: int) -> None:
        await bounded_map(inner, range(item * 10, item * 10 + 10), limit=5)

    with pytest.raises(LookupError):
        await bounded_map(outer, range(5))

    assert calls.are_gone
    assert before == tasks()


# Other loops.


async def everything() -> None:
    """The promises in short, for loops that pytest does not start."""
    calls = Calls()
    assert [-item for item in range(200)] == await bounded_map(calls.step, range(200))
    assert 25 == calls.peak
    await test_the_first_error_cancels_the_rest()
    await test_each_call_sees_the_callers_context()
    for way in WAYS:
        await test_a_cancelled_caller_cancels_all_and_waits(way)
    await test_a_cancellation_is_not_lost_behind_an_error()


def test_it_works_on_uvloop() -> None:
    """S0-30: the same holds on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(everything())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks before Python 3.12")
def test_it_works_with_eager_tasks() -> None:
    """S0-30: the same holds where tasks begin before `create_task` returns."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))
        runner.run(everything())


def test_an_app_that_is_stopped_leaves_nothing() -> None:
    """S0-26: when the loop's main task is cancelled, as on Ctrl-C, the calls have cleaned up before the loop closes."""
    calls = Calls()

    async def main() -> None:
        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().call_later(0.01, this.cancel)
        await bounded_map(calls.wait, range(100))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert calls.are_gone
