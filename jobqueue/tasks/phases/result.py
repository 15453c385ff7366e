"""Results of phases as JSON, by the return annotation of the function; signals by the type that is waited for."""

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

from jobqueue.base.errors import ConfigurationError, InvalidSignature
from jobqueue.tasks.payload.adapter import Adapter
from jobqueue.tasks.payload.annotations import Unresolved, resolve
from jobqueue.tasks.payload.signature import NO_NAMES

_known: "WeakKeyDictionary[Callable[..., Any], Adapter]" = WeakKeyDictionary()


def adapter_of(fn: Callable[..., Any]) -> Adapter:
    """What writes and reads the result of a function; anything that JSON holds if it has no annotation.

    Raises InvalidSignature for an annotation that cannot be stored.
    """
    function = _written(fn)
    try:
        known = _known.get(function)
    except TypeError:  # it cannot be weakly referenced, such as a callable of C
        return adapter_for(Any)
    if known is None:
        known = _known[function] = _made(function)
    return known


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine, as far as can be seen before."""
    function = _written(fn)
    return any(map(inspect.iscoroutinefunction, (fn, function, type(function).__call__)))


def adapter_for(kind: Any) -> Adapter:
    """What writes and reads values of this type. Raises ConfigurationError if that cannot be."""
    try:
        return _cached(kind)
    except TypeError:  # not hashable: rare, and as good when made anew
        return _adapter(kind)


def signal_text(payload: Any, limit: int) -> str:
    """JSON text of what is sent to a job: plain values, models, dataclasses. Raises InvalidPayload."""
    kind = Any if payload is None or isinstance(payload, str | bool | int | float | list | dict) else type(payload)
    return adapter_for(kind).write(payload, "signal", limit, "max_payload")


@cache
def _cached(kind: Any) -> Adapter:
    return _adapter(kind)


def _adapter(kind: Any) -> Adapter:
    try:
        adapter = Adapter(kind)
    except Exception as error:  # pydantic raises many kinds; each means that it cannot handle the annotation
        raise ConfigurationError(f"the type {kind!r} cannot be handled by pydantic: {type(error).__name__}") from None
    fault = adapter.find_fault(adapter.schema)
    if fault is not None:
        raise ConfigurationError(f"the type {kind!r} {fault}")
    return adapter


def _written(fn: Callable[..., Any]) -> Any:
    """The function as somebody has written it, under partials, methods and tasks."""
    while isinstance(fn, partial):
        fn = fn.func
    if not inspect.isroutine(fn):
        fn = getattr(fn, "function", fn)  # a task is still its function
    return inspect.unwrap(getattr(fn, "__func__", fn))


def _made(function: Callable[..., Any]) -> Adapter:
    written = getattr(function, "__annotations__", {}).get("return", Any)
    name = getattr(function, "__qualname__", repr(function))
    try:
        kind = resolve(function, "return", written, NO_NAMES) if isinstance(written, str) else written
        return adapter_for(type(None) if kind is None else kind)
    except Unresolved as error:
        raise InvalidSignature(name, f"the result: the name {error.name!r} in its annotation is unknown") from None
    except ConfigurationError as error:
        raise InvalidSignature(name, f"the result: {error}") from None
