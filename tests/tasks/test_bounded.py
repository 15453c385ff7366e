"""`bounded_map`: many calls at once, never more than its limit, and none that outlives it."""

import asyncio
import contextlib
import contextvars
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeAlias

import pytest

from jobqueue import InvalidOption, bounded_map
from tests.support.jobs.calls import Calls, tasks
from tests.support.waiting import wait_until

Work: TypeAlias = Callable[[], Coroutine[Any, Any, object]]


async def asynchronously(items: Iterable[int]) -> AsyncIterator[int]:
    for item in items:
        await asyncio.sleep(0)
        yield item


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
