"""Bundles: what is under way, what has ended with errors, and which job comes after which."""

from datetime import datetime
from uuid import UUID

from jobqueue.base.errors import BundleNotFound
from jobqueue.base.job import JobState
from jobqueue.bundles.graph import BundleGraph
from jobqueue.web.dashboard.reading.view import Model, View

_PAGE = 50


class BundleRow(Model):
    """A bundle."""

    id: UUID
    name: str
    origin: str | None
    parent_id: UUID | None
    open: bool
    added: int
    completed: int
    cancelled: int
    dead: int
    pending: int
    fraction: float
    has_errors: bool
    round: int
    cancel_asked: datetime | None
    created_at: datetime
    finished_at: datetime | None


class Bundles(Model):
    """A page of them, the newest first."""

    unfinished: int
    finished: int
    with_errors: int
    estimated: list[str]
    bundles: list[BundleRow]
    next: UUID | None


class GraphNode(Model):
    """A job that comes after others, or that others come after."""

    id: UUID
    task: str
    state: JobState | None
    after: list[UUID]
    reason: str | None
    error: str | None
    outside: bool


class UnlinkedRow(Model):
    """Jobs that come after no other, and no other after them: how many of one task are in one state."""

    task: str
    state: JobState
    jobs: int
    callback: bool
    """They are no members, but were stored because all members had ended."""


class BundleJobs(Model):
    """A bundle, and which of its jobs comes after which."""

    bundle: BundleRow
    jobs: list[GraphNode]
    unlinked: list[UnlinkedRow]
    """All others."""


async def read_bundles(
    view: View, *, unfinished: bool = False, name: str | None = None, after: UUID | None = None
) -> Bundles:
    """A page of bundles. Who sees some queues only sees none: a bundle has jobs of any. Raises InvalidOption."""
    if view.access.queues is not None:
        return Bundles(unfinished=0, finished=0, with_errors=0, estimated=[], bundles=[], next=None)
    counts = await view.site.app.bundles.counts()
    found = await view.site.app.bundles.list(unfinished=unfinished, name=name, after=after, limit=_PAGE)
    return Bundles.of(
        counts,
        estimated=sorted(counts.estimated),
        bundles=[BundleRow.of(each) for each in found],
        next=found[-1].id if len(found) == _PAGE else None,
    )


async def read_bundle(view: View, id: UUID) -> BundleGraph:
    """A bundle and its graph. Raises BundleNotFound, also for who sees some queues only."""
    if view.access.queues is not None:
        raise BundleNotFound(id)
    return await view.site.app.bundles.graph(id)


async def read_bundle_jobs(view: View, id: UUID) -> BundleJobs:
    """A bundle and its graph, for programs. Raises BundleNotFound, DatabaseError."""
    graph = await read_bundle(view, id)
    return BundleJobs(
        bundle=BundleRow.of(graph.bundle),
        jobs=[GraphNode.of(each) for each in graph.jobs],
        unlinked=[UnlinkedRow.of(each) for each in graph.unlinked],
    )
