"""The graph of a bundle is read from wherever its jobs are by now."""

from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from jobqueue.base.errors import BundleNotFound
from jobqueue.base.flows.graph import GraphJob, Unlinked
from jobqueue.base.job import JobState
from jobqueue.store.flows.graphs import read_graph
from tests.support.jobs.linked import CALLBACK, put_bundle, put_job, put_node
from tests.support.jobs.store import Connection, connect, open_session
from tests.support.jobs.working import new_app


async def graph_of(dsn: str, bundle: UUID) -> dict[UUID, GraphJob]:
    async with open_session(dsn) as session:
        jobs, unlinked = await read_graph(session, bundle)
    assert [] == unlinked
    return {job.id: job for job in jobs}


async def member(connection: Connection, bundle: UUID, state: JobState, *after: UUID, **said: str) -> UUID:
    id = await put_job(connection, "load", state, bundle, **said)  # type: ignore[arg-type]
    await put_node(connection, bundle, id, "load", after)
    return id


async def test_each_job_has_its_state_and_what_it_comes_after(database: str) -> None:
    """Whether it waits, runs or has ended; of its last error the class alone, and the reason of its end."""
    async with connect(database) as connection:
        bundle = await put_bundle(connection)
        ids = [await member(connection, bundle, state) for state in JobState]
        dead = await member(connection, bundle, JobState.DEAD, *reversed(ids), reason="attempts", error="OSError")
        again = await member(connection, bundle, JobState.SCHEDULED, error="KeyError")
    found = await graph_of(database, bundle)
    assert {id: GraphJob(id, "load", state) for id, state in zip(ids, JobState, strict=True)} == {
        id: found[id] for id in ids
    }
    assert GraphJob(dead, "load", JobState.DEAD, tuple(reversed(ids)), "attempts", "OSError") == found[dead]
    assert GraphJob(again, "load", JobState.SCHEDULED, error="KeyError") == found[again]
    assert len(JobState) + 2 == len(found)


async def test_what_retention_removed_is_known_by_its_outcome(database: str) -> None:
    """A job whose row is gone is what it was when others looked at it; one that nobody came after is gone."""
    async with connect(database) as connection:
        bundle = await put_bundle(connection)
        first, last = uuid7(), uuid7()
        await put_node(connection, bundle, first, "load", outcome="dead")
        await put_node(connection, bundle, last, "sum", [first])
        revived = await member(connection, bundle, JobState.READY)
        await connection.execute("update jobqueue.node set outcome = 'dead' where job_id = $1", revived)
    found = await graph_of(database, bundle)
    assert {
        first: GraphJob(first, "load", JobState.DEAD),
        last: GraphJob(last, "sum", None, (first,)),
        revived: GraphJob(revived, "load", JobState.READY),
    } == found


async def test_jobs_outside_the_bundle_are_found(database: str) -> None:
    """What members come after may be a job of another bundle or of none, waiting, ended or gone."""
    async with connect(database) as connection:
        bundle, other = await put_bundle(connection), await put_bundle(connection)
        waiting = await put_job(connection, "alone", JobState.READY, None)
        ended = await put_job(connection, "alone", JobState.CANCELLED, None, reason="requested")
        theirs = await member(connection, other, JobState.COMPLETED)
        pruned, gone = uuid7(), uuid7()
        await put_node(connection, other, pruned, "old", outcome="completed")
        noted = await put_job(connection, "alone", JobState.RUNNING, None)
        await put_node(connection, bundle, noted, "")  # as it is healed
        failed = await put_job(connection, "alone", JobState.DEAD, None, error="OSError")
        await put_node(connection, bundle, failed, "alone", outcome="dead")
        after = (waiting, ended, theirs, pruned, gone, noted, failed)
        ours = await member(connection, bundle, JobState.BLOCKED, *after)
    found = await graph_of(database, bundle)
    assert {
        waiting: GraphJob(waiting, "alone", JobState.READY, outside=True),
        ended: GraphJob(ended, "alone", JobState.CANCELLED, reason="requested", outside=True),
        theirs: GraphJob(theirs, "load", JobState.COMPLETED, outside=True),
        pruned: GraphJob(pruned, "old", JobState.COMPLETED, outside=True),
        gone: GraphJob(gone, "", None, outside=True),
        noted: GraphJob(noted, "alone", JobState.RUNNING, outside=True),
        failed: GraphJob(failed, "alone", JobState.DEAD, error="OSError", outside=True),
        ours: GraphJob(ours, "load", JobState.BLOCKED, after),
    } == found


async def test_jobs_without_a_place_are_counted(database: str) -> None:
    """Members that come after nothing, and nothing after them, by task and state; callbacks apart."""
    async with connect(database) as connection:
        bundle, other = await put_bundle(connection), await put_bundle(connection)
        for state in (JobState.READY, JobState.READY, JobState.COMPLETED, JobState.DEAD):
            await put_job(connection, "load", state, bundle, follow=1)
        await put_job(connection, "load", JobState.READY, bundle, follow=1 | CALLBACK)
        await put_job(connection, "load", JobState.READY, other)
        await member(connection, other, JobState.READY)
        linked = await member(connection, bundle, JobState.READY)
    async with open_session(database) as session:
        jobs, unlinked = await read_graph(session, bundle)
    assert [linked] == [job.id for job in jobs]
    assert {
        Unlinked("load", JobState.READY, 2, False),
        Unlinked("load", JobState.COMPLETED, 1, False),
        Unlinked("load", JobState.DEAD, 1, False),
        Unlinked("load", JobState.READY, 1, True),
    } == set(unlinked)
    assert 4 == len(unlinked)


async def test_the_graph_of_no_bundle(database: str) -> None:
    """One that is not there raises BundleNotFound; one without links is drawn all the same."""
    async with connect(database) as connection:
        bundle = await put_bundle(connection, added=1)
        await put_job(connection, "load", JobState.READY, bundle)
    async with new_app(database) as app:
        graph = await app.bundles.graph(str(bundle))
        with pytest.raises(BundleNotFound):
            await app.bundles.graph(uuid7())
    assert (bundle, ()) == (graph.bundle.id, graph.jobs)
    assert "1 job  load  1 ready" in graph.text
