"""Bundles in memory: what their jobs come after, when they end, and whom they call back then."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from jobqueue.base.errors import BundleEnded, BundleNotFound, JobNotFound
from jobqueue.base.flows.bundle import Bundle, NewBundle
from jobqueue.base.job import JobState, NewJob, Sent
from jobqueue.bundles.storing import KnownBundle, Part, placed
from jobqueue.store.flows.dependencies import DEPENDENCY
from jobqueue.tasks.task import Task
from jobqueue.testing.memory.kept import Kept
from jobqueue.testing.memory.shelf import Shelf


@dataclass(slots=True, eq=False)
class KeptBundle:
    """A bundle, and where it stands."""

    new: NewBundle
    created_at: datetime
    open: bool = True
    members: list[Kept] = field(default_factory=list)
    unfinished: set[Kept] = field(default_factory=set)
    children: list["KeptBundle"] = field(default_factory=list)
    """Bundles that count as members of it."""
    round: int = 0
    finished_at: datetime | None = None

    def snapshot(self) -> Bundle:
        """As a look into the database would find it."""
        states = [kept.state for kept in self.members] + [_as_member(child) for child in self.children]
        return Bundle(
            id=self.new.id,
            name=self.new.name,
            origin=self.new.origin,
            parent_id=self.new.parent_id,
            open=self.open,
            added=len(states),
            completed=states.count(JobState.COMPLETED),
            cancelled=states.count(JobState.CANCELLED),
            dead=states.count(JobState.DEAD),
            round=self.round,
            cancel_asked=None,
            created_at=self.created_at,
            finished_at=self.finished_at,
        )


class KeptBundles:
    """The bundles of one block."""

    def __init__(self, shelf: Shelf, now: Callable[[], datetime]) -> None:
        self._shelf = shelf
        self._now = now
        self._bundles: dict[UUID, KeptBundle] = {}

    def get(self, id: UUID) -> KeptBundle:
        """Raises BundleNotFound."""
        if id not in self._bundles:
            raise BundleNotFound(id)
        return self._bundles[id]

    def store(self, part: Part) -> list[Sent]:
        """Take in a part, or nothing. Raises KnownBundle, BundleEnded, JobNotFound, DuplicateJob, InvalidOption."""
        id = part.bundle.id
        bundle = self._new(part.bundle) if part.first else self._bundles.get(id)
        if bundle is None or (bundle.finished_at is not None and part.by is None):
            raise BundleEnded(id)
        members = list[Kept]()
        with self._shelf.all_or_none():
            sent = self._put(placed(part), members)
        self._keep(bundle, part, members)
        self.look(bundle)
        return sent

    def ended(self, kept: Kept) -> None:
        """A job has ended: others come after it, and its bundle may end by it."""
        for other in self._shelf.followers.pop(kept.id, ()):
            self._freed(other, kept)
        bundle = self._bundles.get(kept.new.bundle or kept.id)
        if bundle is not None and kept in bundle.unfinished:
            bundle.unfinished.remove(kept)
            self.look(bundle)

    def look(self, bundle: KeptBundle) -> None:
        """End it if nothing is left of it."""
        if bundle.open or bundle.unfinished or bundle.finished_at is not None:
            return
        stands = bundle.snapshot()
        if stands.pending:
            return
        bundle.finished_at, bundle.round = self._now(), bundle.round + 1
        said = {"finish", "failure" if stands.has_errors else "success"}
        for callback in bundle.new.callbacks:
            if callback.when in said:
                job = replace(callback.job, id=uuid7(), bundle=bundle.new.id)
                self._shelf.put(job, callback=True)
        parent = self._bundles.get(bundle.new.parent_id or bundle.new.id)
        if parent is not None and parent is not bundle:
            self.look(parent)

    def cancel(self, bundle: KeptBundle, cancel: Callable[[Kept], object]) -> None:
        """End what has not ended of it."""
        bundle.open = False
        for kept in bundle.members:
            cancel(kept)
        for child in bundle.children:
            self.cancel(child, cancel)
        self.look(bundle)

    def results(self, id: UUID, task: Task[Any, Any]) -> dict[UUID, Any]:
        """The results of completed members of a task, by their ids."""
        return {kept.id: decoded(task, kept) for kept in self.get(id).members if _gave(kept, task)}

    def results_before(self, job: UUID, task: Task[Any, Any]) -> list[Any]:
        """The same of those that this job came after, in the order in which it names them."""
        edges = self._shelf.jobs[job].new.edges
        after = edges.after if edges else ()
        before = [self._shelf.jobs[id] for id in after if id in self._shelf.jobs]
        return [decoded(task, each) for each in before if _gave(each, task)]

    def _new(self, new: NewBundle) -> KeptBundle:
        if new.id in self._bundles:
            raise KnownBundle
        if new.parent_id is not None:
            parent = self._bundles.get(new.parent_id)
            if parent is None or parent.finished_at is not None:
                raise BundleEnded(new.parent_id)
        return KeptBundle(new, self._now())

    def _keep(self, bundle: KeptBundle, part: Part, members: Sequence[Kept]) -> None:
        if part.first:
            self._bundles[part.bundle.id] = bundle
            if part.bundle.parent_id is not None:
                self._bundles[part.bundle.parent_id].children.append(bundle)
        bundle.members += members
        bundle.unfinished |= {kept for kept in members if not kept.state.final}
        if members:
            bundle.finished_at = None
        bundle.open = bundle.open and not part.last

    def _put(self, jobs: Iterable[NewJob[Any]], members: list[Kept]) -> list[Sent]:
        """One whose key another job holds stands for that job."""
        sent = list[Sent]()
        stands_for: dict[UUID, UUID] = {}
        for job in jobs:
            if job.edges is not None and job.edges.after:
                after = tuple(dict.fromkeys(stands_for.get(id, id) for id in job.edges.after))
                job = replace(job, edges=replace(job.edges, after=after))
            one = self._shelf.put(job, blocked_by=self._unmet(job))
            stands_for[job.id] = one.id
            sent.append(one)
            if not one.duplicate:
                members.append(self._shelf.jobs[one.id])
        for kept in members:
            self._doom(kept)
        return sent

    def _unmet(self, job: NewJob[Any]) -> frozenset[UUID]:
        after = job.edges.after if job.edges else ()
        for id in after:
            if id not in self._shelf.jobs:
                raise JobNotFound(id)
        any_end = job.edges is not None and job.edges.any_end
        return frozenset(id for id in after if not _met(self._shelf.jobs[id], any_end))

    def _freed(self, kept: Kept, other: Kept) -> None:
        if kept.state is not JobState.BLOCKED:
            return
        kept.waits_for.discard(other.id)
        if not _met(other, kept.new.edges is not None and kept.new.edges.any_end):
            kept.waits_for.add(other.id)
            self._doom(kept)
        elif not kept.waits_for:
            self._shelf.begin_waiting(kept)

    def _doom(self, kept: Kept) -> None:
        """One that needs a job that is dead or cancelled cannot begin any more."""
        if kept.state is JobState.BLOCKED and any(self._shelf.jobs[id].state.final for id in kept.waits_for):
            self._shelf.end(kept, JobState.CANCELLED, DEPENDENCY, None)
            self.ended(kept)


def decoded(task: Task[Any, Any], kept: Kept) -> Any:
    """Its result, by the return annotation."""
    return task.signature.decode_result(kept.result or "null")


def _gave(kept: Kept, task: Task[Any, Any]) -> bool:
    return kept.new.task == task.name and kept.state is JobState.COMPLETED


def _met(kept: Kept, any_end: bool) -> bool:
    return kept.state is JobState.COMPLETED or (any_end and kept.state.final)


def _as_member(child: KeptBundle) -> JobState:
    if child.finished_at is None:
        return JobState.RUNNING
    return JobState.DEAD if child.snapshot().has_errors else JobState.COMPLETED
