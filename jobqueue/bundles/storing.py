"""A part of a bundle is stored: the jobs, their number, and with the first part the bundle itself; all or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from jobqueue.base.errors import BundleEnded, ClaimLost, InvalidOption
from jobqueue.base.flows.bundle import NewBundle
from jobqueue.base.job import Claimed, Edges, NewJob, Sent
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify, refused_row
from jobqueue.store.flows import bundles
from jobqueue.store.flows.dependencies import Node, insert_dependencies, need
from jobqueue.store.intake import insert_all
from jobqueue.tasks.run.middleware import DeferMiddleware, store_through
from jobqueue.tasks.sending.opening import Opening


class KnownBundle(Exception):
    """Raised when a bundle of this id is there already: somebody sends it again, and nothing is stored."""


class IgnoredBundle(Exception):
    """Raised when a bundle is to be dropped, by an app that does so: nothing is stored."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some members of a bundle."""

    bundle: NewBundle
    jobs: Sequence[NewJob[Any]] = field(repr=False)
    first: bool
    """Whether the bundle itself is still to be stored."""
    last: bool
    """Whether it is closed with this."""
    again: bool = False
    """Whether the answer to a first try was lost: what is there may be ours."""
    by: Claimed | None = None
    """The job of the bundle that adds them; None from outside."""


class Stores(Protocol):
    """Whatever stores parts of bundles."""

    async def store(self, part: Part, connection: object | None) -> list[Sent]:
        """Store a part; answers in the order of its jobs. Raises KnownBundle, BundleEnded, what a defer raises."""
        ...


class Storing:
    """Stores parts on the app's own connections or on a caller's, through the middleware of defers."""

    def __init__(self, opening: Opening, around_defer: Sequence[DeferMiddleware]) -> None:
        self._opening = opening
        self._around_defer = around_defer

    async def store(self, part: Part, connection: object | None) -> list[Sent]:
        """Store a part; answers in the order of its jobs. Raises KnownBundle, BundleEnded, what a defer raises."""
        self._opening.check_defer(connection)
        store = partial(self._store_on, connection) if connection is not None else self._store
        if not self._around_defer:
            return await store(part)
        return await store_through(self._around_defer, part.jobs, lambda jobs: store(replace(part, jobs=jobs)))

    async def _store(self, part: Part) -> list[Sent]:
        """On a connection of ours; if its answer is lost, once more."""
        async with self._opening.session() as session:
            try:
                return await store_part(session, part, always=False)
            except DATABASE_ERRORS as error:
                if classify(error) not in (Fault.UNKNOWN, Fault.AWAY, Fault.READ_ONLY):
                    raise
            known = [replace(job, resent=True, own_id=False) for job in part.jobs]
            sent = await store_part(session, replace(part, jobs=known, again=True), always=False)
            return [Sent(one.id) if one.id == job.id else one for one, job in zip(sent, part.jobs, strict=True)]

    async def _store_on(self, connection: object, part: Part) -> list[Sent]:
        return await store_part(self._opening.executor_on(connection), part, always=True)


async def store_part(executor: Executor, part: Part, *, always: bool) -> list[Sent]:
    """Store a part in one transaction, or in the caller's."""
    try:
        async with executor.transaction():
            known = part.first and not await _store_bundle(executor, part)
            jobs = placed(part)
            sent = await insert_all(executor, jobs, always=always) if jobs else []
            added = sum(not one.duplicate for one in sent)
            if known and added:
                raise KnownBundle  # a first try of ours would have stored these
            await _connect(executor, part.bundle.id, jobs, sent, always)
            if part.by is None:
                await _count(executor, part, added)
            else:
                await _count_inside(executor, part, added, part.by)
            return sent
    except DATABASE_ERRORS as error:
        if classify(error) is not Fault.BAD_DATA:
            raise
        refused = refused_row("in a bundle, one", error)
    raise refused  # out here, so that the row which the driver's error quotes is not its context


def placed(part: Part) -> list[NewJob[Any]]:
    """The jobs with the bundle, and each with its place among the others. Raises InvalidOption."""
    needed = {id for job in part.jobs if job.edges for id in job.edges.after}
    own, before = {job.id for job in part.jobs}, set[UUID]()
    jobs = []
    for job in part.jobs:
        edges = job.edges
        if edges and any(id in own and id not in before for id in edges.after):
            raise InvalidOption("after", "names a job that is added later: add it first")
        if edges or job.id in needed:
            edges = replace(edges or Edges(), needed=job.id in needed)
        jobs.append(replace(job, bundle=part.bundle.id, edges=edges))
        before.add(job.id)
    return jobs


async def _connect(
    executor: Executor, bundle: UUID, jobs: Sequence[NewJob[Any]], sent: Sequence[Sent], always: bool
) -> None:
    """Store what the new ones come after. One whose key another job holds stands for that job. Raises JobNotFound."""
    if not any(job.edges for job in jobs):
        return
    stored = {job.id: one.id for job, one in zip(jobs, sent, strict=True)}
    new = [(one.id, job) for job, one in zip(jobs, sent, strict=True) if not one.duplicate]
    nodes = [
        Node(id, job.task, tuple(dict.fromkeys(stored.get(on, on) for on in job.edges.after)), job.edges.any_end)
        for id, job in new
        if job.edges and job.edges.after
    ]
    tasks = {id: job.task for id, job in new}
    marked = {id for id, job in new if job.edges and job.edges.needed}
    if others := {on for node in nodes for on in node.after} - marked:
        tasks |= await need(executor, sorted(others), always=always)
    await insert_dependencies(executor, bundle, nodes, tasks)


async def _store_bundle(executor: Executor, part: Part) -> bool:
    """False if it is there already, which may be by a first try of ours."""
    stored = await bundles.insert_bundle(executor, part.bundle)
    if stored is None:
        raise BundleEnded(part.bundle.parent_id or part.bundle.id)
    if not stored and not part.again:
        raise KnownBundle
    return stored


async def _count(executor: Executor, part: Part, added: int) -> None:
    """From outside the number is raised in the bundle's own row, which orders it against the end."""
    if not await bundles.add_to_bundle(executor, part.bundle.id, added, close=part.last):
        if part.again and not added:
            return  # all is there since the first try, and has ended by now
        raise BundleEnded(part.bundle.id)
    if part.last and not (part.first and added):
        await bundles.touch_bundle(executor, part.bundle.id)  # perhaps nothing is left whose end would tell


async def _count_inside(executor: Executor, part: Part, added: int, by: Claimed) -> None:
    """A job that runs notes a fact: its own end comes later, and no row is locked that others wait for."""
    if not await bundles.note_added(executor, part.bundle.id, added, by):
        raise ClaimLost(by.job)
    await bundles.touch_bundle(executor, part.bundle.id)
