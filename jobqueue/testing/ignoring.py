"""Jobs and bundles that are dropped: all of them by `App.null()`, chosen ones by `app.testing("ignore")`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from jobqueue.base.errors import InvalidOption, JobNotFound
from jobqueue.base.flows.bundle import NewBundle
from jobqueue.base.job import Edges, Job, JobState, NewJob, Sent
from jobqueue.base.new_jobs import NewJobs, job_from
from jobqueue.base.steering import Change
from jobqueue.bundles.storing import IgnoredBundle, Part, Stores
from jobqueue.tasks.phases.result import signal_text
from jobqueue.tasks.run.middleware import DeferMiddleware, nested, store_through
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.sender import Sender
from jobqueue.tasks.sending.sync_producer import store_sync
from jobqueue.tasks.task import Task


class TaskNamed(Protocol):
    """A task, as far as it is asked for here: as a thing to be called it would hide from type checkers what a lambda is
    given."""

    @property
    def name(self) -> str:
        """The registered name."""
        ...

    @property
    def task_options(self) -> object:
        """What no other thing has."""
        ...


WhichJobs: TypeAlias = Callable[[NewJob[Any]], object] | TaskNamed | Iterable[TaskNamed] | bool
"""All or none, those of a task or of some, or those for which a function says so."""
WhichBundles: TypeAlias = bool | Callable[[NewBundle], object]
"""All or none, or those for which a function says so."""


class Ignoring:
    """A `Sender` and `Stores`, which document their methods. Checks and drops, as strict as if it stored."""

    def __init__(
        self, opening: Opening, around_defer: Sequence[DeferMiddleware], jobs: WhichJobs, bundles: WhichBundles,
        beneath: tuple[Sender, Stores] | None = None, *, remembers: bool = False,
    ) -> None:  # fmt: skip
        """`beneath` takes what is not dropped, `remembers` says whether what is dropped can be looked at."""
        self.settings = opening.settings
        self.origin = opening.name
        self.ignored: dict[UUID, Job] = {}
        """What was dropped, if it is remembered."""
        self._opening = opening
        self._around_defer = around_defer
        self._drops, self._drops_bundle = _of_jobs(jobs), _of_bundles(bundles)
        self._beneath = beneath
        self._remembers = remembers

    async def send(self, job: NewJob[Any], connection: object | None) -> Sent:
        """Drop one job, or hand it on."""
        self._opening.check_defer(connection)
        if self._beneath is not None and not self._drops(job):
            return await self._beneath[0].send(job, connection)
        return await nested(self._around_defer, self._drop)(job)

    async def send_many(self, jobs: NewJobs, connection: object | None) -> list[Sent]:
        """Drop them, or hand them on together."""
        self._opening.check_defer(connection)
        meant = jobs.all()
        dropped, kept = self._sorted(meant)
        stored = await self._beneath[0].send_many(NewJobs(kept), connection) if self._beneath and kept else []
        sent = await store_through(self._around_defer, dropped, self._drop_all)
        return _in_order(meant, [*kept, *dropped], [*stored, *sent])

    def send_many_sync(self, jobs: Sequence[NewJob[Any]], connection: object | None) -> list[Sent]:
        """Drop them, or hand them on together."""
        self._opening.check_defer(connection)
        dropped, kept = self._sorted(jobs)
        stored = self._beneath[0].send_many_sync(kept, connection) if self._beneath and kept else []
        sent = store_sync(self._around_defer, dropped, self._drop_all)
        return _in_order(jobs, [*kept, *dropped], [*stored, *sent])

    async def store(self, part: Part, connection: object | None) -> list[Sent]:
        """Drop a bundle, or those of its jobs and callbacks that are to be dropped: others do not wait for them."""
        self._opening.check_defer(connection)
        if self._beneath is None or self._drops_bundle(part.bundle):
            await store_through(self._around_defer, part.jobs, self._drop_all)
            raise IgnoredBundle
        dropped, kept = self._sorted(part.jobs)
        gone = {job.id for job in dropped} | self.ignored.keys()
        callbacks = tuple(each for each in part.bundle.callbacks if not self._drops(each.job))
        rest = replace(
            part, jobs=[_without(job, gone) for job in kept], bundle=replace(part.bundle, callbacks=callbacks)
        )
        stored = await self._beneath[1].store(rest, connection)
        sent = await store_through(self._around_defer, dropped, self._drop_all)
        return _in_order(part.jobs, [*kept, *dropped], [*stored, *sent])

    async def find(self, id: UUID) -> Job:
        """What was dropped is cancelled, with the reason `ignored`."""
        self._opening.refuse_if_closed()
        if id in self.ignored:
            return self.ignored[id]
        if self._beneath is None:
            raise JobNotFound(id)
        return await self._beneath[0].find(id)

    async def wait_final(self, id: UUID, timeout: float | None) -> Job:
        """Nothing is waited for that was dropped."""
        if self._beneath is None or id in self.ignored:
            return await self.find(id)
        return await self._beneath[0].wait_final(id, timeout)

    async def cancel(self, id: UUID) -> Change:
        """What was dropped has ended."""
        self._opening.refuse_if_closed()
        if self._beneath is None or id in self.ignored:
            return Change.TOO_LATE if id in self.ignored else Change.NOT_FOUND
        return await self._beneath[0].cancel(id)

    async def signal(self, id: UUID, name: str, payload: Any) -> Change:
        """The same, for a payload that could be sent."""
        if self._beneath is None or id in self.ignored:
            signal_text(payload, self.settings.max_payload)
            return await self.cancel(id)
        return await self._beneath[0].signal(id, name, payload)

    def _sorted(self, jobs: Sequence[NewJob[Any]]) -> tuple[list[NewJob[Any]], list[NewJob[Any]]]:
        """Those to be dropped, and the others."""
        dropped = [job for job in jobs if self._beneath is None or self._drops(job)]
        ids = {job.id for job in dropped}
        return dropped, [job for job in jobs if job.id not in ids]

    async def _drop(self, job: NewJob[Any]) -> Sent:
        return self._dropped(job)

    async def _drop_all(self, jobs: Sequence[NewJob[Any]]) -> list[Sent]:
        return [self._dropped(job) for job in jobs]

    def _dropped(self, job: NewJob[Any]) -> Sent:
        if self._remembers:
            now = datetime.now(UTC)
            self.ignored[job.id] = job_from(job, JobState.CANCELLED, now, finished_at=now, reason="ignored")
        return Sent(job.id, ignored=True)


def _of_jobs(which: WhichJobs) -> Callable[[NewJob[Any]], object]:
    """Raises InvalidOption. A task can be called too: it is asked for first."""
    if isinstance(which, bool):
        return lambda job: which
    given: object = which
    if callable(given) and not isinstance(given, Task):
        return given
    names = set[str]()
    for task in given if isinstance(given, Iterable) else (given,):
        if not isinstance(task, Task):
            raise InvalidOption("jobs", "must be a task, a list of tasks, or a function that is given a NewJob")
        names.add(task.name)
    return lambda job: job.task in names


def _of_bundles(which: WhichBundles) -> Callable[[NewBundle], object]:
    return (lambda bundle: which) if isinstance(which, bool) else which


def _in_order(jobs: Sequence[NewJob[Any]], answered: Sequence[NewJob[Any]], answers: Sequence[Sent]) -> list[Sent]:
    by_id = {job.id: sent for job, sent in zip(answered, answers, strict=True)}
    return [by_id[job.id] for job in jobs]


def _without(job: NewJob[Any], dropped: Iterable[UUID]) -> NewJob[Any]:
    """The job as one that does not come after these."""
    if job.edges is None or not set(job.edges.after) & set(dropped):
        return job
    after = tuple(id for id in job.edges.after if id not in set(dropped))
    edges: Edges | None = replace(job.edges, after=after) if after else None
    return replace(job, edges=edges)
