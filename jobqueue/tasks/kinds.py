"""The four kinds of function that a task can be, as types: async or plain, with the context first or without.

`Task` binds its methods through them: the one signature at the decorator is unwrapped where it is used. They are
protocols because mypy lets only a protocol stand for `self` without being a base of the class.
"""

from collections.abc import Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

from jobqueue.tasks.context import JobContext

Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class AsyncContext(Protocol[Q, R_co]):
    """`async def` with the context first."""

    def __call__(self, ctx: JobContext, /, *args: Q.args, **kwargs: Q.kwargs) -> Coroutine[Any, Any, R_co]: ...


class Async(Protocol[Q, R_co]):
    """`async def` without context."""

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> Coroutine[Any, Any, R_co]: ...


class PlainContext(Protocol[Q, R_co]):
    """`def` with the context first."""

    def __call__(self, ctx: JobContext, /, *args: Q.args, **kwargs: Q.kwargs) -> R_co: ...


class Plain(Protocol[Q, R_co]):
    """`def` without context."""

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R_co: ...


class AsyncContextPayload(Protocol[T_contra, R_co]):
    """`async def` with the context, then a payload; further parameters have defaults."""

    def __call__(self, ctx: JobContext, load: T_contra, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R_co]: ...


class AsyncPayload(Protocol[T_contra, R_co]):
    """`async def` with a payload; further parameters have defaults."""

    def __call__(self, payload: T_contra, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R_co]: ...


class PlainContextPayload(Protocol[T_contra, R_co]):
    """`def` with the context, then a payload; further parameters have defaults."""

    def __call__(self, ctx: JobContext, payload: T_contra, /, *args: Any, **kwargs: Any) -> R_co: ...


class PlainPayload(Protocol[T_contra, R_co]):
    """`def` with a payload; further parameters have defaults."""

    def __call__(self, payload: T_contra, /, *args: Any, **kwargs: Any) -> R_co: ...


class AnyAsync(Protocol[R_co]):
    """`async def`, whatever its parameters."""

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R_co]: ...


class AnyPlain(Protocol[R_co]):
    """`def`, whatever its parameters."""

    def __call__(self, *args: Any, **kwargs: Any) -> R_co: ...
