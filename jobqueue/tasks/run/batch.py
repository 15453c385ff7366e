"""Batch tasks: one function for many jobs. Each item is a job of its own; the function takes a list of them at once.

Here is what such a function may look like and what its answer means to each item. `worker/slots/batches.py` gathers
items.
"""

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Protocol, Union, get_args, get_origin

from jobqueue.base.errors import InvalidOption, InvalidPayload, InvalidSignature
from jobqueue.base.moments import Seconds, plain_seconds
from jobqueue.base.names import check_whole
from jobqueue.base.retry import RetryPolicy
from jobqueue.tasks.context import CURRENT, JobContext
from jobqueue.tasks.payload.annotations import mentions
from jobqueue.tasks.payload.signature import NO_NAMES, Signature
from jobqueue.tasks.run.runnable import Runnable

SIZES = (1, 10_000)
_LONGEST_WAIT = 3600.0


@dataclass(frozen=True, slots=True)
class Batching:
    """How items are gathered: the handler begins with `size` of them, or `wait` seconds after the first."""

    size: int
    wait: float

    @classmethod
    def of(cls, size: int, wait: Seconds) -> "Batching":
        """Raises InvalidOption."""
        seconds = plain_seconds("wait", wait)
        if not 0 <= seconds <= _LONGEST_WAIT:
            raise InvalidOption("wait", f"must be from 0 to {_LONGEST_WAIT:g} seconds, as a number or timedelta")
        whole = check_whole("size", size, SIZES)
        if whole is None:
            raise InvalidOption("size", f"must be a whole number from {SIZES[0]} to {SIZES[1]}")
        return cls(whole, float(seconds))


class Registered(Runnable, Protocol):
    """A registered task, which may be a batch task."""

    @property
    def batch(self) -> Batching | None:
        """How its items are gathered; None if each of its jobs runs alone."""
        ...

    @property
    def gates(self) -> object | None:
        """What its jobs pass before they start; None for a task without limits."""
        ...


class Unusable:
    """Stands for the result of each item if the handler's answer cannot be shared out."""

    def __init__(self, rule: str) -> None:
        self.rule = rule


class BatchSignature(Signature):
    """The signature of one item: what is deferred, and what its handle gives back. Made by `BatchSignature.of`.

    `is_async` is true: an item waits for its share on the event loop, also if the handler runs in a thread.
    """

    def __init__(self, function: Callable[..., Any], names: Mapping[str, Any] = NO_NAMES) -> None:
        super().__init__(function, names)
        self.handler_is_async, self.is_async = self.is_async, True

    @property
    def gives_results(self) -> bool:
        """False if the handler is annotated to return None."""
        self.resolve()
        return self._gives_results

    def encode_result(self, value: Any, limit: int) -> str:
        """JSON text of one item's result. Raises InvalidPayload."""
        if isinstance(value, Unusable):
            raise InvalidPayload(self._what_result, "", "batch", value.rule)
        return super().encode_result(value, limit)

    def _annotations(self) -> tuple[dict[str, Any], Any]:
        found, returns = super()._annotations()
        if any(mentions(annotation, JobContext) for annotation in found.values()):
            raise InvalidSignature(self.name, "a batch has many jobs, so its function gets no JobContext")
        if len(found) != 1:
            rule = f"a batch task takes one parameter, annotated list[...]; this one has {len(found)}"
            raise InvalidSignature(self.name, rule)
        part = self._all[0]
        if part.kind is part.KEYWORD_ONLY:
            raise self._fault(part.name, "the list of items must be a positional parameter")
        if part.default is not part.empty:
            raise self._fault(part.name, "the list of items has no default; it is always given, and never empty")
        if get_origin(found[part.name]) is not list:
            raise self._fault(part.name, "must be annotated list[...], with the type of one item")
        self._gives_results = returns is not NoneType
        return {part.name: get_args(found[part.name])[0]}, self._result_of_one(returns)

    def _result_of_one(self, returns: Any) -> Any:
        if returns is NoneType:
            return returns
        if get_origin(returns) not in (list, Sequence):
            raise self._fault("return", "must be annotated None, or list[...] with the type of one item's result")
        of_item = get_args(returns)[0]
        choices = get_args(of_item) if get_origin(of_item) in (Union, UnionType) else (of_item,)
        results = tuple(choice for choice in choices if not _is_exception(choice))
        if not results:
            rule = "its list has exceptions only; write list[Exception | None] if success has no result"
            raise self._fault("return", rule)
        return of_item if len(results) == len(choices) else Union[results]  # noqa: UP007 - of a tuple


def shares(signature: BatchSignature, answer: Any, count: int) -> list[Any]:
    """What the handler's answer means to each of its items: a result, or the exception that it failed with.

    Read once and now: the handler may keep the list and change it later. Raises whatever reading it raises.
    """
    if not signature.gives_results:
        rule = f"must be None, as its annotation says, not {type(answer).__name__}"
        return [None if answer is None else Unusable(rule)] * count
    listed = isinstance(answer, Sequence) and not isinstance(answer, str | bytes)
    given: list[Any] = list(answer) if listed else []
    if not listed:
        rule = f"must be a list of {count}, one for each item of the batch, not {type(answer).__name__}"
    elif len(given) != count:
        rule = f"must be a list of {count}, one for each item of the batch in its order, not of {len(given)}"
    else:
        return given
    return [Unusable(rule)] * count


class Alone:
    """A batch task whose one item is the whole batch: `task.run`."""

    def __init__(self, task: Registered) -> None:
        assert isinstance(task.signature, BatchSignature)  # noqa: S101 - made together
        self.name = task.name
        self.retry: RetryPolicy | None = task.retry
        self._handler = task.function
        self._of_items = task.signature
        self.signature: Signature = copy(task.signature)
        self.signature.is_async = task.signature.handler_is_async
        self.function = self._await if self.signature.is_async else self._call

    async def _await(self, *item: Any, **named: Any) -> Any:
        async def handle() -> Any:
            return await self._handler([*item, *named.values()])

        runner = asyncio.get_running_loop().create_task(handle(), context=_jobless())
        return self._share(await runner)  # cancelled, it cancels the handler and waits for it

    def _call(self, *item: Any, **named: Any) -> Any:
        return self._share(_jobless().run(self._handler, [*item, *named.values()]))

    def _share(self, answer: Any) -> Any:
        share = shares(self._of_items, answer, 1)[0]
        if isinstance(share, BaseException):
            raise share
        return share


def _jobless() -> contextvars.Context:
    """The caller's context without its job: a batch has none, here as in a worker."""
    context = contextvars.Context()
    for variable, value in contextvars.copy_context().items():
        if variable is not CURRENT:
            context.run(variable.set, value)
    return context


def _is_exception(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation  # ExceptionGroup[...] has an origin
    return isinstance(kind, type) and issubclass(kind, BaseException)
