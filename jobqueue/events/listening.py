"""What `app.on` registers: functions that are told of events, each in a task of its own."""

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import anyio
from anyio import CapacityLimiter, to_thread

from jobqueue.base.errors import AppClosed, ConfigurationError, EventsLost
from jobqueue.base.flows.event import Choice, Event, Place
from jobqueue.base.log import get_logger
from jobqueue.base.service import Patience, outlast
from jobqueue.events.stream import EventStream
from jobqueue.store.connection.faults import DATABASE_ERRORS

Hear: TypeAlias = Callable[[Event], Awaitable[object] | object]
_BEGIN_LIMIT, _END_LIMIT = 5.0, 5.0

log = get_logger(__name__)


class Listener:
    """One function that is told of events; `stop` ends that."""

    def __init__(self, hear: Hear, choice: Choice, gone: Callable[["Listener"], None]) -> None:
        self.hear = hear
        self.choice = choice
        self._gone = gone
        self.name = getattr(hear, "__qualname__", type(hear).__qualname__)

    def stop(self) -> None:
        """Tell it of nothing more, wherever it is listening; what it is doing now is cancelled. May be called again."""
        self._gone(self)


class Listeners:
    """All listeners of an app. On each event loop where it listens, every one has a task that is owned here."""

    def __init__(self, stream: Callable[[Choice, Place | None], EventStream]) -> None:
        self._stream = stream
        self._all: list[Listener] = []
        self._ears: list[_Ears] = []

    def add(self, hear: Hear, choice: Choice) -> Listener:
        """Tell this function from now on, wherever the app listens. Raises ConfigurationError."""
        listener = Listener(check_listener(hear), choice, self._remove)
        self._all.append(listener)
        for ears in self._ears:
            ears.from_any_thread(ears.start, listener)
        return listener

    def _remove(self, listener: Listener) -> None:
        with contextlib.suppress(ValueError):
            self._all.remove(listener)
        for ears in self._ears:
            ears.from_any_thread(ears.stop, listener)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen on this event loop while the block runs; nested blocks are one."""
        loop = asyncio.get_running_loop()
        ears = next((ears for ears in self._ears if ears.loop is loop), None)
        if ears is None:
            ears = _Ears(loop, self._stream)
            self._ears.append(ears)
            for listener in self._all:
                ears.start(listener)
        ears.blocks += 1
        try:
            await ears.begun()
            yield
        finally:
            ears.blocks -= 1
            if not ears.blocks:
                self._ears.remove(ears)
                await ears.end()


class _Ears:
    """The tasks of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: Callable[[Choice, Place | None], EventStream]) -> None:
        self.loop = loop
        self.blocks = 0
        self._stream = stream
        self._tasks: dict[Listener, asyncio.Task[None]] = {}
        self._begun: dict[Listener, asyncio.Event] = {}
        self._over = False

    def from_any_thread(self, what: Callable[[Listener], None], listener: Listener) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed
            if asyncio._get_running_loop() is self.loop:
                what(listener)
            else:
                self.loop.call_soon_threadsafe(what, listener)

    def start(self, listener: Listener) -> None:
        if listener not in self._tasks and not self._over:
            self._begun[listener] = asyncio.Event()
            task = self.loop.create_task(self._follow(listener), context=contextvars.Context())
            self._tasks[listener] = task

    def stop(self, listener: Listener) -> None:
        if task := self._tasks.pop(listener, None):
            self._begun.pop(listener).set()
            task.cancel()

    async def begun(self) -> None:
        """Wait until each listener has its place in the log, as far as that can be had soon. Raises what forbids it."""
        with anyio.move_on_after(_BEGIN_LIMIT):
            for begun in list(self._begun.values()):
                await begun.wait()
        for task in self._tasks.values():
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    async def end(self) -> None:
        self._over = True
        tasks = list(self._tasks.values())
        for listener in list(self._tasks):
            self.stop(listener)
        if tasks:
            await outlast(asyncio.gather(*tasks, return_exceptions=True), _END_LIMIT)

    async def _follow(self, listener: Listener) -> None:
        """Tell one listener of one event after the other. Survives all that it raises, and every database error."""
        place, patience, alone = None, Patience(), CapacityLimiter(1)
        begun = self._begun[listener]
        try:
            while True:
                stream = self._stream(listener.choice, place)
                try:
                    async with stream:
                        begun.set()
                        async for event in stream:
                            await _tell(listener, event, alone)
                            patience.reset()
                except EventsLost as lost:
                    log.error("listener.lost_events", listener=listener.name)
                    place = Place.read(lost.oldest)
                    continue
                except AppClosed:
                    return
                except DATABASE_ERRORS:
                    begun.set()  # nobody waits for a database that is away
                place = Place.read(stream.position) if stream.position else place
                await anyio.sleep(patience.next())
        finally:
            begun.set()


async def _tell(listener: Listener, event: Event, alone: CapacityLimiter) -> None:
    """Call it once. What it raises is logged by its class, and harms nobody else."""
    try:
        if inspect.iscoroutinefunction(listener.hear) or inspect.iscoroutinefunction(
            getattr(listener.hear, "__call__", None)  # noqa: B004 - of an object whose call is `async def`
        ):
            answer: Any = listener.hear(event)
        else:  # in a thread: whatever it does, the loop goes on
            answer = await to_thread.run_sync(listener.hear, event, limiter=alone, abandon_on_cancel=True)
        if inspect.isawaitable(answer):
            await answer
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        log.error(
            "listener.failed", listener=listener.name, event_type=event.type, job_id=str(event.job_id),
            error=type(error).__name__,
        )  # fmt: skip


def _is_cancelled() -> bool:
    """Whether it is we who are told to end; else something that the function awaited was cancelled."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def check_listener(hear: Hear) -> Hear:
    """The function, if it can be called with an event. Raises ConfigurationError."""
    try:
        inspect.signature(hear).bind(None)
    except ValueError:
        pass  # one of C without a signature
    except TypeError:
        name = getattr(hear, "__qualname__", type(hear).__qualname__)
        raise ConfigurationError(f"on: {name} must be a function of one argument, the Event") from None
    return hear
