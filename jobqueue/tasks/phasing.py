"""The typed heads of phases: `ctx.phase(...)`, and `ctx.options(...).phase(...)` with a limit or retries of its own.

They give coroutines but are none, so that a `def` task, which cannot await them, is refused at the call.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import Seconds, check_seconds
from jobqueue.base.retry import DEFAULT_RETRY, RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")
_MOST_TRIES = 1_000


@dataclass(frozen=True, slots=True)
class How:
    """How a phase is tried."""

    timeout: float | None = None
    """Seconds for one try."""
    retry: RetryPolicy = DEFAULT_RETRY
    max_attempts: int = 1


ONCE = How()


def checked(timeout: Seconds | None, retry: RetryPolicy | None, max_attempts: int | None) -> How:
    """These as given. Raises InvalidOption."""
    if retry is not None and not callable(retry):
        raise InvalidOption("retry", "must be a policy: a function of job and error, such as exponential()")
    whole: object = max_attempts
    if whole is None:
        whole = 1 if retry is None else 3
    if isinstance(whole, bool) or not isinstance(whole, int) or not 1 <= whole <= _MOST_TRIES:
        raise InvalidOption("max_attempts", f"must be a whole number from 1 to {_MOST_TRIES}")
    return How(check_seconds("timeout", timeout), retry or DEFAULT_RETRY, whole)


class Phasing:
    """Runs phases."""

    __slots__ = ("_how", "_phases")

    def __init__(self, phases: Callable[[], Any], how: How = ONCE) -> None:
        """`phases` gives what runs them; made when the first one comes."""
        self._phases = phases
        self._how = how

    @overload
    def phase(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, None, R]: ...
    @overload
    def phase(
        self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, None, R]: ...
    def phase(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run `fn(*args, **kwargs)` as a durable step of this job, and give its result.

        Once the result is stored, which it is before this returns, no later attempt of the job runs the step again: it
        gets the stored result. `async def`, or `def`, which runs in a thread. The result goes through JSON by the
        return annotation of `fn`, the first time as well. Phases may run side by side, in any order; each has a name
        that is unique in the job. A step that raises has failed: its error goes on to the handler, and the next attempt
        runs it again. It may run twice if the worker dies between its effect and the record: `ctx.idempotency_key`
        with the name tells a service so, and `phase_in_transaction` excludes it for rows of this database.

        Cancelled, it cancels `fn`; a result that was reached by then is stored nonetheless. Raises DuplicatePhase;
        InvalidOption; InvalidPayload if the result cannot be stored, or a stored one does not fit the annotation any
        more; ClaimLost if another worker has the job; and what `fn` raises.
        """
        called: Coroutine[Any, Any, Any] = self._phases().phase(self._how, name, fn, args, kwargs)
        return called

    def phase_in_transaction(
        self,
        name: str,
        fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Coroutine[object, None, R]:
        """As `phase`, with `fn(connection, *args, **kwargs)`: its rows and the record of the phase commit together.

        So the step has its effect exactly once. `connection` is an asyncpg connection in a transaction; jobs deferred
        on it belong to it as well. Raises ConfigurationError outside a worker, and what `phase` raises.
        """
        called: Coroutine[object, None, R] = self._phases().phase(
            self._how, name, fn, args, kwargs, in_transaction=True
        )
        return called
