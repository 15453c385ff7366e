"""`app.testing()`: what the block of a test gives."""

from collections.abc import Collection
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias
from uuid import UUID

from jobqueue.base.errors import ConfigurationError, InvalidOption
from jobqueue.base.job import Job
from jobqueue.ground import Ground, Site
from jobqueue.tasks.context import resources_of
from jobqueue.tasks.task import Task
from jobqueue.testing.asserting import expect
from jobqueue.testing.ignoring import Ignoring, WhichBundles, WhichJobs
from jobqueue.testing.lent import Lent
from jobqueue.testing.memory.clock import Clock
from jobqueue.testing.memory.stage import Memory

Mode: TypeAlias = Literal["record", "inline", "ignore"]


class Stage(Protocol):
    """Where jobs go inside the block."""

    @property
    def ground(self) -> Ground:
        """What the app stands on."""
        ...

    @property
    def clock(self) -> Clock:
        """The time there."""
        ...

    @property
    def jobs(self) -> list[Job]:
        """All that were deferred."""
        ...

    @property
    def unsure(self) -> Collection[UUID]:
        """Those that came with a connection, if what becomes of its transaction is not known here."""
        ...

    def begin(self) -> None:
        """Called when the block begins."""
        ...

    async def drain(self, queue: str | None) -> list[Job]:
        """Run what is due."""
        ...


class Kit:
    """What was deferred inside `app.testing()`; runs it, and moves the clock. Made by `app.testing()`."""

    def __init__(self, site: Site, stage: Stage) -> None:
        self._site = site
        self._stage = stage
        self._entered = False
        self._leaving = ExitStack()

    def __enter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("app.testing(): is entered once; call it again for another block")
        self._entered = True
        site, ground = self._site, self._stage.ground
        self._stage.begin()
        if ground.location is not None:
            self._leaving.enter_context(site.opening.override(ground.location))
        self._leaving.callback(site.stand_on, site.before)
        site.stand_on(ground)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @property
    def clock(self) -> Clock:
        """The time in the block: `t.clock.advance(3600)`."""
        return self._stage.clock

    def deferred(self, task: Task[..., Any] | None = None) -> list[Job]:
        """What was deferred inside the block so far, in that order, as it stands now; or that of one task."""
        return [job for job in self._stage.jobs if task is None or job.task == task.name]

    def assert_deferred(self, task: Task[..., Any], /, times: int | None = None, **args: Any) -> list[Job]:
        """Fail unless jobs of this task were deferred, with these arguments: so many, or at least one. Gives them.

        Arguments that are not named may be anything. Raises AssertionError, which shows what was deferred instead, and
        TypeError for an argument that the task does not have.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        return expect(task, times, args, self._stage.jobs, self._stage.unsure)

    async def drain(self, queue: str | None = None) -> list[Job]:
        """Run what is due, in all queues or one, and what comes of it, until nothing is; gives those that ran.

        One job after the other, in the order in which workers would take them. What a handler raises is no error here:
        look at the jobs, or at `await handle.result()`. Cancelled, it cancels the handler and gives its job back.
        """
        return await self._stage.drain(queue)


class Ignored:
    """A `Stage` on which chosen jobs are dropped."""

    def __init__(self, site: Site, jobs: WhichJobs | None, bundles: WhichBundles | None) -> None:
        before = site.before
        everything = jobs is None and bundles is None
        self._ignoring = Ignoring(
            site.opening, site.middleware.around_defer, everything if jobs is None else jobs,
            everything if bundles is None else bundles, (before.sender, before.storing), remembers=True,
        )  # fmt: skip
        self.ground = Ground(self._ignoring, self._ignoring, before.views)

    def begin(self) -> None:
        """Nothing runs here."""

    @property
    def clock(self) -> Clock:
        """Nothing is due here."""
        raise ConfigurationError(_RUNS_NOTHING)

    @property
    def jobs(self) -> list[Job]:
        """All that were dropped."""
        return [*self._ignoring.ignored.values()]

    @property
    def unsure(self) -> Collection[UUID]:
        """They are dropped, whatever becomes of a transaction."""
        return ()

    async def drain(self, queue: str | None) -> list[Job]:
        """Nothing runs here."""
        raise ConfigurationError(_RUNS_NOTHING)


_RUNS_NOTHING = 'app.testing("ignore") runs nothing; take "record" or "inline", around it perhaps'


def stage_for(
    site: Site,
    mode: Mode,
    jobs: WhichJobs | None,
    bundles: WhichBundles | None,
    resources: object,
    connection: object | None,
) -> Stage:
    """The stage for what a test says. Raises InvalidOption."""
    if mode == "ignore":
        return Ignored(site, jobs, bundles)
    if mode not in ("record", "inline"):
        raise InvalidOption("mode", 'must be "record", "inline" or "ignore"')
    for option, given in (("jobs", jobs), ("bundles", bundles)):
        if given is not None:
            raise InvalidOption(option, 'says what is dropped: app.testing("ignore", ...)')
    if connection is not None:
        if mode != "record":
            raise InvalidOption("mode", 'with a connection it is "record": `await t.drain()` runs what is there')
        return Lent(site, resources_of(resources), connection)
    return Memory(site, resources_of(resources), inline=mode == "inline")
