"""What the tests of dependencies stand on: jobs that come after others, stored past the app."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from asyncpg import Connection
from uuid_utils.compat import uuid7

from jobqueue.base.flows.bundle import Callback, NewBundle
from jobqueue.base.job import Edges, NewJob
from jobqueue.bundles.storing import Part, store_part
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import bundles
from jobqueue.store.flows.dependencies import resolve
from tests.support.jobs.store import new_job

EARLY = """
select count(*) from jobqueue.node n cross join lateral unnest(n.after) as a(id)
where n.job_id = any($1) and not exists (
  select from jobqueue.job_archive f where f.id = a.id and f.state = 'completed')
"""
"""Of these jobs, what they come after and is not completed."""


def coming(job: NewJob[None], *after: UUID, any_end: bool = False) -> NewJob[None]:
    """The job as one that comes after others."""
    return replace(job, edges=Edges(waits=True, after=after, any_end=any_end)) if after else job


async def stored_graph(
    session: Session, graph: Mapping[str, Sequence[str]], *callbacks: Callback, any_ends: Iterable[str] = ()
) -> tuple[UUID, dict[str, UUID]]:
    """A closed bundle: names of its jobs, which are their tasks, and of what each comes after. Its id, and theirs."""
    ids = {name: uuid7() for name in graph}
    jobs = [
        coming(new_job(name, id=ids[name]), *(ids[before] for before in after), any_end=name in set(any_ends))
        for name, after in graph.items()
    ]
    new = NewBundle(uuid7(), "graph", None, None, callbacks)
    await store_part(session, Part(new, jobs, first=True, last=True), always=False)
    return new.id, ids


async def see_to_facts(session: Session) -> bool:
    """Do what a worker does with the facts that are there; whether there were any."""
    some, needed = await bundles.waiting_facts(session, 200)
    if needed:
        await resolve(session, needed)
    if some:
        await bundles.fold_bundles(session, some)
    return bool(some or needed)


async def settle(session: Session) -> None:
    """The same until none is left."""
    while await see_to_facts(session):
        pass


async def states(connection: "Connection[Any]") -> dict[str, str]:
    """The state of each job by its task; why it was cancelled, if it was."""
    rows = await connection.fetch(
        "select task, state from jobqueue.job union all"
        " select task, case when reason is not null then reason else state end from jobqueue.job_archive"
    )
    return {row["task"]: row["state"] for row in rows}


async def tallied(connection: "Connection[Any]") -> dict[str, int]:
    """How many jobs are in each of these."""
    return dict(Counter((await states(connection)).values()))
