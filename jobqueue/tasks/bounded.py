"""Many calls at once, and never too many: `bounded_map`, the small tool for a fan-out that needs no queue.

Each call is a plain task of its own, so the caller's cancellation reaches it as one `CancelledError`, after which its
clean-up can still await: a rollback is sent and answered. In a cancelled anyio scope each such wait would be cancelled
again, and what the driver then leaves to end in the background might commit after the caller has seen an error.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

import anyio.lowlevel

from jobqueue.base.errors import InvalidOption
from jobqueue.base.service import outlast

T = TypeVar("T")
R = TypeVar("R")


async def bounded_map(
    fn: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], limit: int = 25
) -> list[R]:
    """Await `fn(item)` for each item, at most `limit` at once; the results come in the order of the items.

    Items are taken one by one, each only when there is room for its call: a million of them cost no memory but that of
    their results. Each call sees the caller's context variables, and keeps its changes to itself.

    The first error, of a call or of the items, cancels the calls that run, waits for their clean-up and is raised as
    itself, never in an ExceptionGroup; if others fail while they end, a note on it names their classes. A cancelled
    caller (anyio scope, `Task.cancel`, `asyncio.timeout`) cancels all calls once, waits likewise, and its cancellation
    goes on, also if it comes while an error is being cleaned up after. However it ends, no call is left running, and an
    async generator that was not read to its end is closed. So a call that ignores its cancellation delays the end.

    Raises InvalidOption if `limit` is not a whole number of at least 1. Needs no app and no database.
    """
    number: object = limit
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InvalidOption("limit", "must be a whole number of at least 1")
    source = aiter(items) if isinstance(items, AsyncIterable) else _stepwise(iter(items))
    return await _Calls(fn, limit).results(source)


async def _stepwise(items: Iterable[T]) -> AsyncGenerator[T, None]:
    for item in items:
        yield item


class _Calls(Generic[T, R]):
    """One use of `bounded_map`: a feeder, the calls it has started, and the caller who waits for all of them."""

    def __init__(self, fn: Callable[[T], Awaitable[R]], limit: int) -> None:
        self._fn = fn
        self._room = asyncio.Semaphore(limit)
        self._context = contextvars.copy_context()
        self._results: list[Any] = []
        self._running: set[asyncio.Task[None]] = set()
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopped = False
        self._errors: list[BaseException] = []

    async def results(self, source: AsyncIterator[T]) -> list[R]:
        """Wait for the feeder and every call, whatever happens, then give the results or raise."""
        await anyio.lowlevel.checkpoint()  # whoever is cancelled already begins nothing
        self._begin(partial(self._feed, source))
        try:
            await asyncio.shield(self._gone)
        except asyncio.CancelledError as cancellation:
            self._stop()
            await outlast(self._gone)
            _note(cancellation, self._errors)
            raise
        if self._errors:
            first, *others = self._errors
            self._errors.clear()  # or the error's traceback would hold the error
            _note(first, others)
            try:
                raise first
            finally:
                del first, others
        return self._results

    async def _feed(self, source: AsyncIterator[T]) -> None:
        """Start a call for each item, as room comes free."""
        try:
            while True:
                await self._room.acquire()
                try:
                    item = await anext(source)
                except StopAsyncIteration:
                    return
                if self._stopped:  # the source has swallowed the cancellation
                    return
                self._results.append(None)
                self._begin(partial(self._call, len(self._results) - 1, item))
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()

    async def _call(self, number: int, item: T) -> None:
        try:
            self._results[number] = await self._fn(item)
        finally:
            self._room.release()

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(work), context=self._context.copy())
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Keep what it raises for the caller, SystemExit too, which would else end the event loop and not the call."""
        try:
            await work()
        except BaseException as error:
            self._fail(error)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if task.cancelled():  # before it began
            self._fail(asyncio.CancelledError())
        if not self._running:  # nor will there be: the feeder has ended as well
            self._gone.set_result(None)

    def _fail(self, error: BaseException) -> None:
        """The first error stops the rest; that they are cancelled then is no error."""
        if not (self._stopped and isinstance(error, asyncio.CancelledError)):
            self._errors.append(error)
        self._stop()

    def _stop(self) -> None:
        """Cancel all, once: a second cancellation would cut off their clean-up."""
        if not self._stopped:
            self._stopped = True
            for task in self._running - {asyncio.current_task()}:
                task.cancel()


def _note(error: BaseException, others: list[BaseException]) -> None:
    """Only the classes: texts of errors may quote what they were called with."""
    if others:
        names = ", ".join(sorted({type(other).__name__ for other in others}))
        error.add_note(f"bounded_map: {len(others)} more failed while they ended: {names}")
