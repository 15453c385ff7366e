"""What task code sees of its job: `JobContext`, and `current_job()` to find it in deep code."""

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, final, get_origin, overload
from uuid import UUID

from jobqueue.base.codec import encode
from jobqueue.base.errors import ConfigurationError, InvalidOption
from jobqueue.base.job import Job, JsonValue
from jobqueue.base.log import structlog_logger
from jobqueue.base.moments import LONGEST, Seconds, check_delay, check_moment, check_seconds, plain_seconds
from jobqueue.base.retry import RetryPolicy
from jobqueue.tasks.phasing import ONCE, Phasing, checked

if TYPE_CHECKING:
    from structlog.types import FilteringBoundLogger

    from jobqueue.tasks.membership import Membership

T = TypeVar("T")
S = TypeVar("S", bound="Session")
_REPORT_LIMIT = 16_384

Transact: TypeAlias = Callable[[object | None], AbstractAsyncContextManager[tuple[Any, Callable[[Any], None]]]]


class Session(Protocol):
    """As SQLAlchemy's AsyncSession."""

    def in_transaction(self) -> bool:
        """Whether one has begun."""
        ...


class Backing(Protocol):
    """What a handler has by its context of what stands behind its run."""

    def job(self) -> Job:
        """The job as it was claimed."""
        ...

    def report(self, report: str) -> None:
        """Take over a report of progress, in any thread."""
        ...

    def bundle(self) -> "Membership | None":
        """What the job has of its bundle."""
        ...


@final
class JobContext(Phasing):
    """Given to a task whose first parameter is annotated `JobContext`. Safe to use from the task's thread as well."""

    __slots__ = ("_backing", "_complete", "_job", "_resources", "_stopped", "_transact", "attempt", "awaits")

    def __init__(
        self,
        backing: Backing,
        attempt: int,
        stopped: Callable[[], bool],
        resources: Mapping[type, Any],
        transact: Transact,
        phases: Callable[[], Any],
    ) -> None:
        self._how = ONCE  # as Phasing does: a call less for each job
        self._phases = phases
        self._backing = backing
        self._transact = transact
        self._complete: Callable[[Any], None] | None = None
        self._job: Job | None = None
        self._stopped = stopped
        self._resources = resources
        self.attempt = attempt
        """The number of this run, 1 for the first. Interrupted and snoozed runs are not counted."""
        self.awaits: tuple[UUID, ...] = ()
        """The jobs whose end this run waits for now, by `handle.result()`."""

    @property
    def job(self) -> Job:
        """The job as it was claimed."""
        if self._job is None:
            self._job = self._backing.job()
        return self._job

    @property
    def bundle(self) -> "Membership | None":
        """The bundle that the job is a member or a callback of: to add to it, and to read its results. None without."""
        return self._backing.bundle()

    @overload
    async def results(self, task: Callable[..., Coroutine[Any, Any, T]]) -> list[T]: ...
    @overload
    async def results(self, task: Callable[..., T]) -> list[T]: ...
    async def results(self, task: Callable[..., Any]) -> list[Any]:
        """What the jobs of a task have given that this one came after (`after=`), in the order in which it names them.

        Only those that are completed have results; they are kept for as long as the bundle. Nothing for a job that came
        after no job of this task. Raises InvalidOption for what is no task, InvalidPayload if a result does not fit the
        annotation any more.
        """
        bundle = self._backing.bundle()
        return [] if bundle is None else await bundle.results_before(task)

    def options(
        self,
        *,
        timeout: Seconds | None = None,
        retry: RetryPolicy | None = None,
        max_attempts: int | None = None,
    ) -> Phasing:
        """Phases that are tried otherwise: `await ctx.options(timeout=30, max_attempts=3).phase("charge", charge)`

        `timeout` (seconds or timedelta) limits each try. After a failed one `retry` says when the next comes, here in
        this run, which keeps its slot meanwhile: `max_attempts` tries in all (1; 3 with a `retry` of yours). What is to
        wait for long is better left to the attempts of the job. Raises InvalidOption.
        """
        return Phasing(self._phases, checked(timeout, retry, max_attempts))

    def sleep(
        self,
        name: str,
        delay: Seconds = 0,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        until: datetime | None = None,
    ) -> Coroutine[object, None, None]:
        """Sleep for `delay` (seconds or timedelta) and so many days, hours and minutes, or `until` a moment.

        The run ends here, and gives its slot away; when the time has come a new one, perhaps on another worker, finds
        the phases before and goes on behind the sleep. It ends as soon as no phase runs beside. No attempt is spent.
        `timeout` begins anew, `budget` goes on: a job sleeps no longer than that. How long is settled the first time.
        A handler sees a cancellation; whatever it makes of that, the job sleeps. Raises DuplicatePhase, InvalidOption.
        """
        more = (("days", days, 86_400), ("hours", hours, 3_600), ("minutes", minutes, 60))
        seconds = check_delay("delay", delay) + sum(_in_seconds(*each) for each in more)
        if until is not None and seconds:
            raise InvalidOption("until", "give either until= or how long, not both")
        sleeps, moment = check_moment(None if until is not None else seconds, until)
        asleep: Coroutine[object, None, None] = self._phases().sleep(name, sleeps, moment)
        return asleep

    def wait_for(
        self, name: str, kind: type[T], timeout: Seconds | None = None, *, signal: str | None = None
    ) -> Coroutine[object, None, T]:
        """Wait for the next signal of this name, sent by `handle.signal(name, payload)`, and give its payload.

        One that was sent before is there at once; else the run ends as in a sleep. Signals of a name come in the order
        in which they were sent, each once. The payload is read as a `kind`: one that does not fit is gone, and fails
        this attempt. Name and payload are kept like a phase's, so `signal` is its name where `name` is another, as in a
        loop. `timeout` (seconds or timedelta) counts from the first time; then, and in all later runs, it raises
        TimeoutError. Raises DuplicatePhase, InvalidOption, InvalidPayload.
        """
        longest = check_seconds("timeout", timeout) or LONGEST
        waiting: Coroutine[object, None, T] = self._phases().wait_for(
            name, kind, longest, name if signal is None else signal
        )
        return waiting

    @overload
    async def phase_result(self, name: str, kind: type[T]) -> T: ...
    @overload
    async def phase_result(self, name: str) -> Any: ...
    async def phase_result(self, name: str, kind: Any = Any) -> Any:
        """What a completed phase of this job has given, in this run or an earlier one, as a `kind`.

        Raises LookupError if there is none so far, InvalidPayload if it does not fit.
        """
        return await self._phases().result(name, kind)

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of this job, different for every other job: hand it to services you call."""
        return str(self.job.id)

    @property
    def log(self) -> "FilteringBoundLogger":
        """A structlog logger with the job's id, task, attempt and queue bound."""
        job = self.job
        logger = structlog_logger(f"jobqueue.task.{job.task}")
        return logger.bind(job_id=str(job.id), task=job.task, attempt=self.attempt, queue=job.queue)

    def progress(self, fraction: float, message: str | None = None, data: JsonValue = None) -> None:
        """Say how far this run is: `fraction` from 0 to 1, a word for people, JSON for programs.

        Anybody can read it as `job.progress` while the job runs and afterwards; it outlives retries. Returns at once,
        also in a thread: the worker writes the last report, at most twice a second. Raises InvalidOption and
        InvalidPayload.
        """
        given: object = fraction
        if not isinstance(given, int | float) or not 0 <= given <= 1:  # also refuses NaN
            raise InvalidOption("fraction", "must be a number from 0 to 1")
        report: dict[str, JsonValue] = {"fraction": fraction, "message": message, "data": data}
        self._backing.report(encode(report, "progress", _REPORT_LIMIT))

    @overload
    def transaction(self) -> AbstractAsyncContextManager[Any]: ...
    @overload
    def transaction(self, *, session: Callable[[], T]) -> AbstractAsyncContextManager[T]: ...
    @overload
    def transaction(self, *, session: S) -> AbstractAsyncContextManager[S]: ...
    @overload
    def transaction(self, *, connection: T) -> AbstractAsyncContextManager[T]: ...
    @contextlib.asynccontextmanager
    async def transaction(self, *, session: Any = None, connection: Any = None) -> AsyncIterator[Any]:
        """An asyncpg connection in a transaction that ends together with this job.

        What is written on it, jobs deferred with `connection=` and `ctx.complete(value)` commit together or not at all.
        `session`, SQLAlchemy's `async_sessionmaker` or an AsyncSession, or `connection`, one of psycopg's, SQLAlchemy's
        or asyncpg's, is given instead: not in a transaction yet, for that is begun and committed here.
        A claim that was lost meanwhile makes the block raise ClaimLost before anything commits, also without
        `complete`. If the block raises, or is cancelled, everything is rolled back and the job has not been completed.
        Raises InvalidOption, and ConfigurationError in a `def` task and outside a worker.
        """
        if session is not None and connection is not None:
            raise InvalidOption("connection", "give either session= or connection=, not both")
        async with self._transact(connection if session is None else session) as (given, complete):
            self._complete = complete
            try:
                yield given
            finally:
                self._complete = None

    def complete(self, value: Any = None) -> None:
        """Complete this job with this result, inside `async with ctx.transaction()`: with its commit.

        The handler may go on afterwards; what it returns or raises then changes nothing on record. Raises
        InvalidPayload if the result cannot be stored, ConfigurationError outside the block.
        """
        if self._complete is None:
            raise ConfigurationError("ctx.complete(): belongs inside `async with ctx.transaction()`; else just return")
        self._complete(value)

    @property
    def cancelled(self) -> bool:
        """True once this run was asked to end: timeout, drain, cancel request or lost claim. For threads and loops."""
        return self._stopped()

    def raise_if_cancelled(self) -> None:
        """Raise InterruptedError if this run was asked to end: the polite way out of a thread."""
        if self._stopped():
            raise InterruptedError("this run was asked to end")

    def get(self, kind: type[T]) -> T:
        """The resource of this class that the app's lifespan provided: the one that is just that, or else a subclass.

        Raises ConfigurationError if there is none, or more than one.
        """
        given: object = kind
        if not isinstance(given, type) or get_origin(given) is not None:
            raise ConfigurationError(f"ctx.get(): takes a class; {given!r} is none that a value can be told by")
        found = self._resources.get(kind)
        if found is None:
            raise ConfigurationError(
                f"ctx.get(): there is no {kind.__name__}; the app's lifespan yields what is to be found, alone or in a "
                "tuple; in tests it is app.testing(resources=...), for task.run task.options(resources=...)"
            )
        if isinstance(found, Several):
            raise ConfigurationError(
                f"ctx.get(): there are several of {kind.__name__} ({', '.join(found)}); give each a class of its own"
            )
        value: T = found
        return value


def _in_seconds(option: str, number: float, unit: int) -> float:
    given: object = number
    if isinstance(given, timedelta):
        raise InvalidOption(option, "must be a number; a timedelta is a delay")
    return check_delay(option, plain_seconds(option, number) * unit)


class Several(tuple[str, ...]):
    """Stands for resources that a class does not tell apart: the names of their own classes."""


NO_RESOURCES: Mapping[type, Any] = MappingProxyType({})


def resources_of(given: object) -> Mapping[type, Any]:
    """A lifespan's value, or each of a plain tuple's, findable by its class and every class above it."""
    values = [value for value in (given if type(given) is tuple else (given,)) if value is not None]
    kinds = dict.fromkeys(kind for value in values for kind in type(value).__mro__ if kind is not object)
    return {kind: _one_of(kind, values) for kind in kinds}


def _one_of(kind: type, values: Sequence[object]) -> object:
    exact = [value for value in values if type(value) is kind]
    found = exact or [value for value in values if kind in type(value).__mro__]
    return found[0] if len(found) == 1 else Several(type(value).__name__ for value in found)


CURRENT: ContextVar[JobContext] = ContextVar("jobqueue_current_job")


def current_job() -> JobContext:
    """The context of the job that runs here, for code too deep to be handed it. Raises LookupError outside a job."""
    try:
        return CURRENT.get()
    except LookupError:
        raise LookupError("no job runs here: current_job() works inside a task only") from None
