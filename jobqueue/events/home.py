"""What an App has of its events."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload
from uuid import UUID

from jobqueue.base.flows.event import EventType, Place
from jobqueue.events.hub import Hub, choice_of
from jobqueue.events.listening import Hear, Listener
from jobqueue.events.stream import EventStream

L = TypeVar("L", bound=Hear)


class EventHome:
    """Events to read, and functions to call with them."""

    _hub: Hub

    def events(
        self,
        after: str | None = None,
        *,
        types: Sequence[EventType] | EventType = (),
        task: str | None = None,
        queue: str | None = None,
        origin: str | None = None,
        job: UUID | str | None = None,
        bundle: UUID | str | None = None,
    ) -> EventStream:
        """What becomes of jobs, as it happens: `async for event in app.events(types="job.dead"): ...`

        All ends, retries, deletions and revivals of all jobs, in one order for all readers, each once; chosen by type,
        task, queue, origin, job or bundle. `after` is the id of an event, to go on behind it, with nothing missed or
        doubled, on any machine; "0" is the log's beginning; without it, from now on. The log keeps `keep_events`. All
        streams of an event loop share one reader. Raises InvalidOption; iterating raises EventsLost, AppClosed.
        """
        choice = choice_of(types, task=task, queue=queue, origin=origin, job=job, bundle=bundle)
        return self._hub.stream(choice, None if after is None else Place.read(after))

    @overload
    def on(
        self, types: Sequence[EventType] | EventType, hear: None = None, *, task: str | None = None,
        queue: str | None = None, origin: str | None = None, bundle: UUID | str | None = None,
    ) -> Callable[[L], L]: ...  # fmt: skip
    @overload
    def on(
        self, types: Sequence[EventType] | EventType, hear: Hear, *, task: str | None = None,
        queue: str | None = None, origin: str | None = None, bundle: UUID | str | None = None,
    ) -> Listener: ...  # fmt: skip
    def on(
        self,
        types: Sequence[EventType] | EventType,
        hear: Hear | None = None,
        *,
        task: str | None = None,
        queue: str | None = None,
        origin: str | None = None,
        bundle: UUID | str | None = None,
    ) -> Any:
        """Call a function, `def` (in a thread) or `async def`, with each event of these types; also as a decorator.

        It is told in every process that runs a worker, or is inside `async with app.listening()`, from that moment on:
        for caches, pages and counters. It is called for one event after the other, in order; what it raises is logged,
        and whether it hangs is its own affair. A reaction that must happen once, whatever dies, is a job or a webhook.
        `.stop()` of what is given ends it. Raises InvalidOption, ConfigurationError.
        """
        choice = choice_of(types, task=task, queue=queue, origin=origin, bundle=bundle)
        if hear is not None:
            return self._hub.listeners.add(hear, choice)

        def listen(hear: L) -> L:
            self._hub.listeners.add(hear, choice)
            return hear

        return listen

    def listening(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Tell the functions of `app.on` while the block runs, in a process without a worker."""
        return self._hub.listening()
