"""Graphs of bundles: read, wherever their jobs are by now."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from jobqueue.base.flows.graph import GraphJob, Unlinked
from jobqueue.base.job import JobState
from jobqueue.store.connection.executor import Reader, named
from jobqueue.store.looking.lookup import as_uuid


async def read_graph(reader: Reader, id: UUID) -> tuple[list[GraphJob], list[Unlinked]]:
    """The jobs of a bundle that come after others or that others come after, and how many others it has."""
    rows = [named("bundle_graph", row) for row in await reader.fetch("bundle_graph", id)]
    others = [
        Unlinked(row["task"], JobState(row["state"]), row["jobs"], row["callback"]) for row in rows if not row["id"]
    ]
    drawn = {as_uuid(row["id"]): row for row in rows if row["id"]}
    jobs = {each: _job(each, row) for each, row in drawn.items()}
    strange = [each for each, row in drawn.items() if not row["member"]]
    strange += {before for job in jobs.values() for before in job.after} - jobs.keys()
    if strange:
        found = await reader.fetch("graph_strangers", strange)
        jobs |= _strangers([named("graph_strangers", row) for row in found], jobs, id)
    return list(jobs.values()), others


def _job(id: UUID, row: Mapping[str, Any]) -> GraphJob:
    after = tuple(dict.fromkeys(map(as_uuid, row["after"] or ())))
    return GraphJob(id, row["task"], _state(row), after, row["reason"], row["error"])


def _strangers(rows: Sequence[Mapping[str, Any]], jobs: Mapping[UUID, GraphJob], bundle: UUID) -> dict[UUID, GraphJob]:
    """What is not among the members: of other bundles, of none, deleted, or removed by retention."""
    found = {}
    for row in rows:
        id = as_uuid(row["id"])
        job = jobs.get(id, GraphJob(id, row["task"], None))
        outside = row["bundle_id"] is None or as_uuid(row["bundle_id"]) != bundle
        found[id] = replace(
            job,
            task=job.task or row["task"],
            state=_state(row),
            reason=row["reason"],
            error=row["error"],
            outside=outside,
        )
    return found


def _state(row: Mapping[str, Any]) -> JobState | None:
    return None if row["state"] is None else JobState(row["state"])
