"""The user's own code around every run and every defer: `App(middleware=[...])`.

`async def timed(ctx: JobContext, call_next)` goes around a run, `async def tagged(job: NewJob, call_next)` around a
defer: the annotation of the first parameter says which. The first one given is the outermost. Free when there is none.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar, cast, get_origin, get_type_hints

import anyio

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import NewJob, Sent
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.run.hooks import ErrorHook

A = TypeVar("A")
B = TypeVar("B")
Layer: TypeAlias = Callable[[A, Callable[[A], Awaitable[B]]], Awaitable[B]]
RunMiddleware: TypeAlias = Layer[JobContext, Any]
DeferMiddleware: TypeAlias = Layer[NewJob[Any], Sent]


class Middleware:
    """An app's middleware, sorted by what it goes around. Raises ConfigurationError for what is neither."""

    def __init__(self, given: Iterable[RunMiddleware | DeferMiddleware]) -> None:
        self.around_run: list[RunMiddleware] = []
        self.around_defer: list[DeferMiddleware] = []
        self.on_error: list[ErrorHook] = []
        """Called after a failed attempt; may grow while workers run."""
        for layer in given:
            subject = _subject(layer)
            if subject is JobContext:
                self.around_run.append(cast(RunMiddleware, layer))
            elif subject is NewJob:
                self.around_defer.append(cast(DeferMiddleware, layer))
            else:
                name = getattr(layer, "__qualname__", type(layer).__qualname__)
                raise ConfigurationError(
                    f"middleware: {name} must be async def (ctx: JobContext, call_next), "
                    "or async def (job: NewJob, call_next)"
                )


def nested(layers: Sequence[Layer[A, B]], innermost: Callable[[A], Awaitable[B]]) -> Callable[[A], Awaitable[B]]:
    """One call that goes through all layers, the first one outermost."""
    call = innermost
    for layer in reversed(layers):
        call = _around(layer, call)
    return call


async def store_through(
    layers: Sequence[DeferMiddleware],
    jobs: Sequence[NewJob[Any]],
    store: Callable[[Sequence[NewJob[Any]]], Awaitable[list[Sent]]],
) -> list[Sent]:
    """Send many jobs through the layers side by side; once each has come through or was held back, store them together.

    All or none: an error in any layer before that stores nothing.
    """
    through: dict[int, NewJob[Any]] = {}
    answers: dict[int, Sent] = {}
    stored: asyncio.Future[dict[int, Sent]] = asyncio.get_running_loop().create_future()
    settled = anyio.Semaphore(0)

    async def one(place: int) -> None:
        async def innermost(job: NewJob[Any]) -> Sent:
            through[place] = job
            settled.release()
            return (await asyncio.shield(stored))[place]

        answers[place] = await nested(layers, innermost)(jobs[place])
        if place not in through:
            settled.release()

    try:
        async with anyio.create_task_group() as group:
            for place in range(len(jobs)):
                group.start_soon(one, place)
            for _ in jobs:
                await settled.acquire()
            places = sorted(through)
            sent = await store([through[place] for place in places])
            stored.set_result(dict(zip(places, sent, strict=True)))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [answers[place] for place in range(len(jobs))]


def _around(layer: Layer[A, B], call_next: Callable[[A], Awaitable[B]]) -> Callable[[A], Awaitable[B]]:
    def call(subject: A) -> Awaitable[B]:
        return layer(subject, call_next)

    return call


def _subject(layer: object) -> object:
    """What the first parameter is annotated with."""
    function = layer if inspect.isfunction(layer) or inspect.ismethod(layer) else getattr(layer, "__call__", None)  # noqa: B004 - its annotations are wanted
    if function is None or not inspect.iscoroutinefunction(function):
        return None
    first = next(iter(inspect.signature(function).parameters), None)
    hint = get_type_hints(function).get(first or "")
    return get_origin(hint) or hint
