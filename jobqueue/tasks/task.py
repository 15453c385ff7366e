"""`Task`: a function that can be deferred. Still its function when called.

Typed by the technique that `kinds.py` describes: four heads for each method, async before plain (a coroutine would be a
plain result too), with the context before without (it would be an ordinary parameter too).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import update_wrapper
from importlib import import_module
from pickle import PicklingError
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload
from uuid import UUID

from uuid_utils.compat import uuid7

from jobqueue.base.errors import InvalidOption, InvalidPayload, RouterNotIncluded
from jobqueue.base.job import NewJob
from jobqueue.base.moments import Seconds
from jobqueue.base.new_jobs import Draft, NewJobs, sealed
from jobqueue.base.retry import RetryPolicy
from jobqueue.base.settings import Settings
from jobqueue.tasks.context import resources_of
from jobqueue.tasks.gates.gates import NamedLimit, TaskGates, gates_of
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.kinds import (
    AnyAsync,
    AnyPlain,
    Async,
    AsyncContext,
    AsyncContextPayload,
    AsyncPayload,
    Plain,
    PlainContext,
    PlainContextPayload,
    PlainPayload,
)
from jobqueue.tasks.options import NOTHING_SAID, DeferOptions, TaskOptions, Unique, check_id, stored_key
from jobqueue.tasks.payload.signature import Signature
from jobqueue.tasks.run.batch import Batching
from jobqueue.tasks.sending.sender import Sender
from jobqueue.tasks.sending.sync_producer import refuse_running_loop

P = ParamSpec("P")
X = TypeVar("X")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")

_DEFAULTS = Settings()


class Link:
    """From the tasks of a router to the app that includes it, once one does, and to the limits of its queues."""

    __slots__ = ("of_queues", "sender")

    def __init__(self, of_queues: Mapping[str, NamedLimit]) -> None:
        self.sender: Sender | None = None
        self.of_queues = of_queues
        """The limits that the app has for whole queues."""


class Task(Generic[P, X]):
    """A registered function. P and X are the function exactly as written, the context included."""

    def __init__(
        self,
        function: Callable[P, X],
        name: str,
        options: TaskOptions,
        aliases: tuple[str, ...],
        signature: Signature,
        link: Link,
        batch: Batching | None = None,
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.name = name
        self.task_options = options
        self.aliases = aliases
        self.signature = signature
        self.batch = batch
        """How items are gathered; None for a task whose jobs run one by one."""
        self.queue = options.queue or "default"
        self.gates = TaskGates.of_options(name, options, signature)
        """What its jobs pass before they start; None for a task without limits."""
        self._link = link
        self._said = NOTHING_SAID

    @property
    def retry(self) -> RetryPolicy | None:
        """When a failed job runs again; None for the default policy."""
        return self.task_options.retry

    @property
    def timeout(self) -> float | None:
        """Seconds that one attempt may take, unless a call says otherwise."""
        return self.task_options.timeout

    def resolve(self) -> None:
        """Make sure that all annotations are known, and the keys of limits in them.

        Raises InvalidSignature, InvalidOption.
        """
        self.signature.resolve()
        if self.gates is not None:
            self.gates.resolve()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> X:
        """Call the function, as if it were no task."""
        return self.function(*args, **kwargs)

    def options(
        self,
        *,
        delay: Seconds | None = None,
        at: datetime | None = None,
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        timeout: Seconds | None = None,
        budget: Seconds | None = None,
        expires: Seconds | None = None,
        unique: Unique | str | None = None,
        origin: str | None = None,
        meta: dict[str, Any] | None = None,
        follow: bool | None = None,
        id: UUID | str | None = None,
        connection: object | None = None,
        resources: object | None = None,
        signals: Mapping[str, Sequence[Any]] | None = None,
    ) -> Self:
        """The same task with these options for its next jobs; what is said later wins. Raises InvalidOption.

        `delay` (seconds or timedelta) or `at` (timezone-aware): when to run, `expires`: must have started by then.
        `timeout` limits one attempt, `budget` all together. `meta` travels with the job. `follow`: the log
        tells of its starts and progress, too. With an `id` of your own a
        resend is safe. `connection`: store the job in the transaction of this connection. For `run` alone: `resources`
        is what a lifespan would yield, `signals` are lists of payloads by name, which `ctx.wait_for` finds.

            await resize.options(delay=60, priority=10).defer("a.png")
        """
        later = DeferOptions(
            delay=delay,
            at=at,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            timeout=timeout,
            budget=budget,
            expires=expires,
            unique=unique,
            origin=origin,
            meta=meta,
            follow=follow,
            id=id,
            connection=connection,
            resources=resources,
            signals=signals,
        )
        if self.batch is not None:
            check_timeout(later.timeout, self.batch.wait)
        return self._with(later if self._said is NOTHING_SAID else self._said.merge(later))

    @overload
    async def defer(self: AsyncContext[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> JobHandle[R]: ...
    @overload
    async def defer(self: Async[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> JobHandle[R]: ...
    @overload
    async def defer(self: PlainContext[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> JobHandle[R]: ...
    @overload
    async def defer(self: Plain[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> JobHandle[R]: ...
    async def defer(self, *args: Any, **kwargs: Any) -> JobHandle[Any]:
        """Store a job that calls the function with these arguments.

        Raises InvalidPayload, RouterNotIncluded, and DuplicateJob if `unique` says so.

        A cancelled call has either stored the job or never will.
        """
        sender = self._sender()
        job = self._call(sender, args, kwargs, unseen=True)
        return JobHandle.of(job, await sender.send(job, self._said.connection), sender)

    @overload
    def job(self: AsyncContext[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> NewJob[R]: ...
    @overload
    def job(self: Async[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> NewJob[R]: ...
    @overload
    def job(self: PlainContext[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> NewJob[R]: ...
    @overload
    def job(self: Plain[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> NewJob[R]: ...
    def job(self, *args: Any, **kwargs: Any) -> NewJob[Any]:
        """A job for `app.defer_many([...])`, its id already assigned. Its connection is given there."""
        return self._call(self._sender(), args, kwargs)

    @overload
    async def defer_many(self: AsyncContextPayload[T, R], payloads: Iterable[T], /) -> list[JobHandle[R]]: ...
    @overload
    async def defer_many(self: AsyncPayload[T, R], payloads: Iterable[T], /) -> list[JobHandle[R]]: ...
    @overload
    async def defer_many(self: PlainContextPayload[T, R], payloads: Iterable[T], /) -> list[JobHandle[R]]: ...
    @overload
    async def defer_many(self: PlainPayload[T, R], payloads: Iterable[T], /) -> list[JobHandle[R]]: ...
    async def defer_many(self, payloads: Iterable[Any], /) -> list[JobHandle[Any]]:
        """Store one job for each payload, which is the first argument: all or none, in one transaction.

        Some are stored while later ones are still read: change no payload until it returns. Raises as `defer` does.
        """
        sender = self._sender()
        if self._said.id is not None:
            raise InvalidOption("id", "names one job; use app.defer_many([task.options(id=...).job(...), ...])")
        settings, origin = sender.settings, sender.origin
        texts = (self.signature.encode_payload(payload, settings.max_payload) for payload in [*payloads])
        jobs = NewJobs(self._new_job(settings, origin, text, unseen=True) for text in texts)
        jobs.more()  # what is wrong with the first needs no database to be told
        answers = await sender.send_many(jobs, self._said.connection)
        return [JobHandle.of(job, sent, sender) for job, sent in zip(jobs.made, answers, strict=True)]

    @overload
    def defer_sync(self: AsyncContext[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> JobHandle[R]: ...
    @overload
    def defer_sync(self: Async[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> JobHandle[R]: ...
    @overload
    def defer_sync(self: PlainContext[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> JobHandle[R]: ...
    @overload
    def defer_sync(self: Plain[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> JobHandle[R]: ...
    def defer_sync(self, *args: Any, **kwargs: Any) -> JobHandle[Any]:
        """Store a job without an event loop: from scripts, threads, views of Django's.

        On a few connections of this process's own (extra `psycopg`), or, with `options(connection=...)`, in the
        transaction of a synchronous connection. Raises what `defer` does, and ConfigurationError inside a running event
        loop, which it would block. Interrupted by a Ctrl-C, it is stored, or never will be; a thread whose awaiter is
        cancelled goes on, and stores it.
        """
        sender = self._sender()
        refuse_running_loop("defer_sync", "task.defer(...)")
        job = self._call(sender, args, kwargs, unseen=True)
        return JobHandle.of(job, sender.send_many_sync([job], self._said.connection)[0], sender)

    @overload
    async def run(self: AsyncContext[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> R: ...
    @overload
    async def run(self: Async[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> R: ...
    @overload
    async def run(self: PlainContext[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> R: ...
    @overload
    async def run(self: Plain[Q, R], *args: Q.args, **kwargs: Q.kwargs) -> R: ...
    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here, without a database: the same JSON round trip, context and outcome as in a worker.

        The caller's cancellation is the job's. What `ctx.get` is to find: `task.options(resources=pool).run(...)`.
        Phases run and are kept in memory, `ctx.sleep` is over at once.
        """
        from jobqueue.tasks.run.here import run_here  # here: who defers need not load what runs jobs

        sender = self._link.sender
        settings, origin = (_DEFAULTS, "") if sender is None else (sender.settings, sender.origin)
        job = self._new_job(settings, origin, self._encoded(args, kwargs, settings.max_payload))
        return await run_here(self, job, settings.max_result, resources_of(self._said.resources), self._said.signals)

    @overload
    def handle(self: AnyAsync[R], id: UUID | str) -> JobHandle[R]: ...
    @overload
    def handle(self: AnyPlain[R], id: UUID | str) -> JobHandle[R]: ...
    def handle(self, id: UUID | str) -> JobHandle[Any]:
        """The typed handle of a job of this task whose id was kept. Nothing is looked up yet."""
        return JobHandle(check_id(id), self.name, self._sender(), self.signature.decode_result)

    def decode_result(self, text: str) -> Any:
        """A result as the handler returned it, from its JSON. Not the signature's: a NewJob is pickled with this."""
        return self.signature.decode_result(text)

    def _key(self, unique: Unique, args: str) -> str:
        return stored_key(self.name, unique, self.signature.canonical(args) if unique.key is None else "")

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __copy__(self) -> Self:
        return self._with(self._said)

    def __deepcopy__(self, memo: object) -> Self:
        return self._with(self._said)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as functions are, by the place where it is defined, with what `options` said."""
        place = self.function.__module__, self.function.__qualname__
        try:
            found = _task_at(*place, None)
        except (ImportError, AttributeError, TypeError):
            found = None
        if found is None or found.function is not self.function:
            raise PicklingError(
                f"task {self.name!r} is not found again as {'.'.join(place)}; send its name, or a handle's id"
            )
        return _task_at, (*place, None if self._said is NOTHING_SAID else self._said)

    def _with(self, said: DeferOptions) -> Self:
        same = object.__new__(type(self))
        same.__dict__.update(self.__dict__)
        same._said = said
        return same

    def _sender(self) -> Sender:
        if self._link.sender is None:
            raise RouterNotIncluded(self.name)
        return self._link.sender

    def _call(
        self, sender: Sender, args: tuple[Any, ...], kwargs: dict[str, Any], *, unseen: bool = False
    ) -> NewJob[Any]:
        settings = sender.settings
        text = self._encoded(args, kwargs, settings.max_payload)
        return self._new_job(settings, sender.origin, text, unseen=unseen)

    def _encoded(self, args: tuple[Any, ...], kwargs: dict[str, Any], limit: int) -> str:
        """Raises InvalidPayload, which says so if an option was given like an argument."""
        try:
            return self.signature.encode_args(args, kwargs, limit)
        except InvalidPayload as error:
            if error.kind != "unexpected" or error.path not in DeferOptions.__slots__:
                raise
            fault = error
        rule = f"{fault.rule}; as an option it is given before the call: task.options({fault.path}=...)"
        raise InvalidPayload(f"{self.name} arguments", fault.path, fault.kind, rule)

    def _new_job(self, settings: Settings, origin: str, args: str, *, unseen: bool = False) -> NewJob[Any]:
        """Call beats task beats router beats settings. All but priority and follow are true once they are said.

        `unseen`: nobody gets the id before the job is stored.
        """
        said, ours = self._said, self.task_options
        unique = said.unique or ours.unique
        queue, of_queues = said.queue or self.queue, self._link.of_queues
        return sealed(Draft(
            id=said.id or uuid7(),
            task=self.name,
            args=args,
            queue=queue,
            priority=ours.priority if said.priority is None else said.priority,
            delay=said.delay,
            at=said.at,
            max_attempts=said.max_attempts or ours.max_attempts or settings.max_attempts,
            timeout=said.timeout or ours.timeout,
            budget=said.budget or ours.budget,
            expires=said.expires or ours.expires,
            origin=said.origin or origin,
            meta=said.meta,
            follow=ours.follow if said.follow is None else said.follow,
            key=None if unique is None else self._key(unique, args),
            key_scope="unfinished" if unique is None else unique.scope,
            key_period=None if unique is None else unique.seconds,
            on_conflict="skip" if unique is None else unique.on_conflict,
            gates=gates_of(self.gates, of_queues, queue, args) if self.gates or of_queues else (),
            resent=said.id is not None,
            own_id=unseen and said.id is None,
            decode_result=self.decode_result,
        ))  # fmt: skip


def _task_at(module: str, path: str, said: DeferOptions | None) -> Task[Any, Any]:
    found: object = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not isinstance(found, Task):
        raise TypeError(f"{module}.{path} is no task")
    return found if said is None else found._with(said)


def check_timeout(timeout: float | None, wait: float) -> None:
    """Refuse a limit that is over before a batch has begun: it counts from when an item begins to wait for others."""
    if timeout is not None and timeout <= wait:
        raise InvalidOption("timeout", f"must be more than wait: an item waits up to {wait:g} s for others first")
