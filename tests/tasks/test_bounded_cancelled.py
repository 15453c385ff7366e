"""`bounded_map` when its caller is cancelled, in every way there is, and on other loops."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import anyio
import pytest
import uvloop

from jobqueue import bounded_map
from tests.support.jobs.calls import Calls, tasks
from tests.support.waiting import wait_until
from tests.tasks import test_bounded

Work: TypeAlias = Callable[[], Coroutine[Any, Any, object]]

# Each way cancels the work as soon as `now` is true.


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
    await test_bounded.test_the_first_error_cancels_the_rest()
    await test_bounded.test_each_call_sees_the_callers_context()
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
