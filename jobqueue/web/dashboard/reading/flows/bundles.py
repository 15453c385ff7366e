"""Bundles: what is under way, what has ended with errors, and which job comes after which."""

from datetime import datetime
from uuid import UUID

from jobqueue.base.errors import BundleNotFound
from jobqueue.base.flows.bundle import Bundle
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


class BundleJobs(Model):
    """A bundle, and which of its jobs comes after which."""

    bundle: BundleRow
    jobs: list[GraphNode]


async def read_bundles(
    view: View, *, unfinished: bool = False, name: str | None = None, after: UUID | None = None
) -> Bundles:
    """A page of bundles. Who sees some queues only sees none: a bundle has jobs of any. Raises InvalidOption."""
    if view.access.queues is not None:
        return Bundles(unfinished=0, finished=0, with_errors=0, estimated=[], bundles=[], next=None)
    counts = await view.site.app.bundles.counts()
    found = await view.site.app.bundles.list(unfinished=unfinished, name=name, after=after, limit=_PAGE)
    return Bundles(
        unfinished=counts.unfinished, finished=counts.finished, with_errors=counts.with_errors,
        estimated=sorted(counts.estimated), bundles=[row_of(each) for each in found],
        next=found[-1].id if len(found) == _PAGE else None,
    )  # fmt: skip


async def read_bundle(view: View, id: UUID) -> BundleGraph:
    """A bundle and its graph. Raises BundleNotFound, also for who sees some queues only."""
    if view.access.queues is not None:
        raise BundleNotFound(id)
    return await view.site.app.bundles.graph(id)


async def read_bundle_jobs(view: View, id: UUID) -> BundleJobs:
    """A bundle and its graph, for programs. Raises BundleNotFound, DatabaseError."""
    graph = await read_bundle(view, id)
    return BundleJobs(bundle=row_of(graph.bundle), jobs=nodes_of(graph))


def nodes_of(graph: BundleGraph) -> list[GraphNode]:
    """The graph for programs."""
    return [
        GraphNode(
            id=job.id, task=job.task, state=job.state, after=list(job.after), reason=job.reason, error=job.error,
            outside=job.outside,
        )
        for job in graph.jobs
    ]  # fmt: skip


def row_of(bundle: Bundle) -> BundleRow:
    """A bundle as it is shown."""
    return BundleRow.model_validate(bundle)
