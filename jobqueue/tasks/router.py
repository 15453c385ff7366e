"""Where tasks are declared: `TaskHome` has the decorator, which App and Router share."""

import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from jobqueue.base.errors import ConfigurationError, InvalidSignature
from jobqueue.base.flows.schedule import Missed, Overlap, Timing
from jobqueue.base.moments import Seconds
from jobqueue.base.names import check_name
from jobqueue.base.retry import RetryPolicy
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.options import (
    FairBy,
    Limits,
    TaskOptions,
    Unique,
    check_aliases,
    check_fair,
    check_limits,
    check_queue,
)
from jobqueue.tasks.payload.signature import NO_NAMES, Signature
from jobqueue.tasks.registry import Declared, Registry
from jobqueue.tasks.run.batch import Batching, BatchSignature
from jobqueue.tasks.sending.sender import Sender
from jobqueue.tasks.task import Link, Task, check_timeout

P = ParamSpec("P")
X = TypeVar("X")
T = TypeVar("T")
R = TypeVar("R")


class TaskDecorator(Protocol):
    """What `task(...)` with options gives: it turns a function into a task."""

    def __call__(self, function: Callable[P, X], /) -> Task[P, X]:
        """Register the function."""
        ...


class BatchDecorator(Protocol):
    """What `batch_task(...)` gives: it turns a function of a list into a task of one item."""

    @overload
    def __call__(
        self, function: Callable[[list[T]], Coroutine[Any, Any, None]], /
    ) -> Task[[T], Coroutine[Any, Any, None]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[T]], Coroutine[Any, Any, list[R | BaseException]]], /
    ) -> Task[[T], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[T]], Coroutine[Any, Any, Sequence[R | Exception]]], /
    ) -> Task[[T], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], None], /) -> Task[[T], None]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], list[R | BaseException]], /) -> Task[[T], R]: ...
    @overload
    def __call__(self, function: Callable[[list[T]], Sequence[R | Exception]], /) -> Task[[T], R]: ...


class CronDecorator(Protocol):
    """What `cron(...)` gives: it gives a task a schedule, or makes a function a task first."""

    @overload
    def __call__(self, given: Callable[[], X], /) -> Task[[], X]: ...
    @overload
    def __call__(self, given: Callable[[JobContext], X], /) -> Task[[JobContext], X]: ...


class Owner(Protocol):
    """What a router needs of the app that includes it."""

    @property
    def name(self) -> str:
        """What to call it in an error."""
        ...

    @property
    def is_open(self) -> bool:
        """Opened, and not closed yet."""
        ...

    @property
    def registry(self) -> Registry:
        """Where its workers look tasks up."""
        ...

    @property
    def sender(self) -> Sender:
        """Where its tasks send their jobs."""
        ...


class TaskHome:
    """A place to declare tasks, with the `task` decorator; `link` leads its tasks to where they send jobs."""

    def __init__(self, prefix: str = "", queue: str | None = None, limit: Limits = None, fair: FairBy = None) -> None:
        self.prefix = prefix
        self.queue = check_queue(queue)
        self.limit = check_limits(limit)
        self.fair = check_fair(fair)
        self.registry = Registry()
        self.link = Link(self.registry.of_queues)

    @overload
    def task(self, function: Callable[P, X], /) -> Task[P, X]: ...
    @overload
    def task(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        retry: RetryPolicy | None = None,
        max_attempts: int | None = None,
        timeout: Seconds | None = None,
        budget: Seconds | None = None,
        expires: Seconds | None = None,
        unique: Unique | str | None = None,
        limit: Limits = None,
        fair: FairBy = None,
        follow: bool = False,
        aliases: Iterable[str] = (),
    ) -> TaskDecorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        retry: RetryPolicy | None = None,
        max_attempts: int | None = None,
        timeout: Seconds | None = None,
        budget: Seconds | None = None,
        expires: Seconds | None = None,
        unique: Unique | str | None = None,
        limit: Limits = None,
        fair: FairBy = None,
        follow: bool = False,
        aliases: Iterable[str] = (),
    ) -> Any:
        """Make a function a task, with or without options. Raises InvalidSignature, InvalidOption, DuplicateTask.

        `name`: by default the function's name after this home's prefix; a name given here is taken as it is. `aliases`:
        former names, so that jobs stored under them still run. Limits in seconds or as timedelta: `timeout` for one
        attempt, `budget` for all together, `expires` until the first must have started. `limit`: how many run at once,
        or in a time, in all workers together, see `Limit`. `fair`: the key whose jobs take turns in their queue, such
        as "mail.tenant". `follow`: the log tells of starts and progress, too (`app.events`).

            @app.task(queue="mail", timeout=30)
            async def send_mail(mail: Mail) -> str: ...
        """
        options = TaskOptions(
            queue=self.queue if queue is None else queue,
            priority=priority,
            retry=retry,
            max_attempts=max_attempts,
            timeout=timeout,
            budget=budget,
            expires=expires,
            unique=unique,
            limit=self.limit if limit is None else limit,
            fair=self.fair if fair is None else fair,
            follow=follow,
        )
        others = check_aliases(aliases)

        def decorate(function: Callable[P, X], /) -> Task[P, X]:
            signature = Signature.of(function, _local_names(function, depth))
            task = Task(function, self._named(function, name), options, others, signature, self.link)
            self._register(task)
            return task

        depth = 2 if function is None else 3  # frames up to where the function is written, which has its local names
        return decorate if function is None else decorate(function)

    def batch_task(
        self,
        *,
        size: int = 100,
        wait: Seconds = 0.05,
        name: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        retry: RetryPolicy | None = None,
        max_attempts: int | None = None,
        timeout: Seconds | None = None,
        budget: Seconds | None = None,
        expires: Seconds | None = None,
        unique: Unique | str | None = None,
        limit: Limits = None,
        fair: FairBy = None,
        follow: bool = False,
        aliases: Iterable[str] = (),
    ) -> BatchDecorator:
        """Make a function of a list a task of one item: each item is a job of its own. Raises as `task` does.

        The function begins with `size` items, or with fewer `wait` seconds after the first. It returns a list with one
        result for each item in their order, an exception for one that failed, or None. If it raises, all have failed.
        Each item is retried, cancelled and limited by itself; its `timeout` counts from when it begins to wait for
        others, so it must be more than `wait`. A cancelled item ends with its batch; once all of them are, the function
        is cancelled. A batch takes one slot. Deferred and run with one item; called, it takes the list.

            @app.batch_task(size=100, wait=0.05)
            async def index(docs: list[Doc]) -> list[str | Exception]: ...

            await index.defer(Doc(...))
        """
        batching = Batching.of(size, wait)
        options = TaskOptions(
            queue=self.queue if queue is None else queue,
            priority=priority,
            retry=retry,
            max_attempts=max_attempts,
            timeout=timeout,
            budget=budget,
            expires=expires,
            unique=unique,
            limit=self.limit if limit is None else limit,
            fair=self.fair if fair is None else fair,
            follow=follow,
        )
        check_timeout(options.timeout, batching.wait)
        others = check_aliases(aliases)

        def decorate(function: Callable[..., Any], /) -> Task[..., Any]:
            signature = BatchSignature.of(function, _local_names(function, 2))
            task = Task(function, self._named(function, name), options, others, signature, self.link, batching)
            self._register(task)
            return task

        return cast(BatchDecorator, decorate)

    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        missed: Missed = "skip",
        overlap: Overlap = "allow",
        jitter: Seconds = 0,
        name: str | None = None,
    ) -> CronDecorator:
        """Run a task without arguments at planned times, once in the whole fleet; above a task, or a function.

        `expression` has five fields (minute hour day month weekday), or six with seconds first, in the time zone `tz`.
        Workers store it at their start; while none of them has it in its code it is not fired. `name` is the task's,
        unless there are several. The other options, and what may be done about it, are those of `app.schedules.put`.
        Raises InvalidOption, InvalidSignature if arguments are needed.

            @app.cron("0 7 * * *", tz="Europe/Vienna")
            async def digest() -> None: ...
        """
        timing = Timing.of(expression, tz, missed, overlap, jitter)
        said = None if name is None else check_name("name", name)

        def decorate(given: Any, /) -> Any:
            task = given
            if not isinstance(given, Task):
                signature = Signature.of(given, _local_names(given, 2))
                task = Task(given, self._named(given, None), TaskOptions(queue=self.queue), (), signature, self.link)
            if task.signature.needed:
                rule = f"a schedule has no argument for {task.signature.needed[0]!r}; give it a default"
                raise InvalidSignature(task.signature.name, f"{rule}, or put a job with arguments: app.schedules.put")
            if task is not given:
                self._register(task)
            self._declare(Declared(said or task.name, task, timing))
            return task

        return cast(CronDecorator, decorate)

    def _declare(self, declared: Declared) -> None:
        self.registry.declare(declared)

    def _named(self, function: Callable[..., Any], name: str | None) -> str:
        return check_name("name", f"{self.prefix}{function.__name__}" if name is None else name)

    def _register(self, task: Task[Any, Any]) -> None:
        self.registry.add(task)


def _local_names(function: object, depth: int) -> Mapping[str, Any]:
    """The names that are known where a function is written, so many frames up, if that is inside another function."""
    return sys._getframe(depth).f_locals if "<locals>" in getattr(function, "__qualname__", "") else NO_NAMES


class Router(TaskHome):
    """Tasks without an app, for `app.include(router)`. `prefix` stands before their names.

    `queue`, `limit` and `fair` are for those that say none of their own; a limit without a name is each task's own.
    """

    def __init__(
        self, prefix: str = "", queue: str | None = None, *, limit: Limits = None, fair: FairBy = None
    ) -> None:
        super().__init__(prefix, queue, limit, fair)
        self._owner: Owner | None = None

    def join(self, owner: Owner) -> None:
        """Lend the tasks to an app, later ones too. Raises ConfigurationError while they belong to another open app.

        An app calls this when it includes the router and again when it opens, for another may have had it in between.
        """
        before = self._owner
        if before is not None and before is not owner and before.is_open:
            raise ConfigurationError(
                f"a router is included by app {before.name!r}, which is open; "
                f"close that before app {owner.name!r} includes it, or give each its own Router"
            )
        for task in self.registry:
            owner.registry.check(task)
        for task in self.registry:
            owner.registry.add(task)
        for declared in self.registry.schedules:
            owner.registry.declare(declared)
        self._owner = owner
        self.link.sender = owner.sender
        self.link.of_queues = owner.registry.of_queues

    def _register(self, task: Task[Any, Any]) -> None:
        if self._owner is not None:
            self.registry.check(task)
            self._owner.registry.add(task)
        self.registry.add(task)

    def _declare(self, declared: Declared) -> None:
        if self._owner is not None:
            self._owner.registry.declare(declared)
        self.registry.declare(declared)
