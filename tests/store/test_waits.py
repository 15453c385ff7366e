"""What a job waits for: of those that it came after, the ones whose end it has not seen."""

from jobqueue.base.job import JobState
from jobqueue.base.outcome import Dead
from jobqueue.store.looking.overview import Dependency, Waits, waits_for
from jobqueue.store.steering import cancel, delete
from tests.support.jobs.blocked import block, resolve
from tests.support.jobs.store import claim_one, connect, failure, finish, insert, new_job, open_session


async def test_what_a_job_waits_for(database: str) -> None:
    """Each with its task, where it stands and what is asked of it; what was met is none of them, and counts in all."""
    async with open_session(database) as session, connect(database) as connection:
        (met,) = await insert(session, new_job("met"))
        running, ended = await insert(session, new_job("load"), new_job("render"))
        await finish(session, await claim_one(session))
        row, over = await claim_one(session), await claim_one(session)
        later, id = await insert(session, new_job("later", delay=60.0), new_job("report"))
        await block(connection, id, [met, running, ended])
        await block(connection, id, [later], any_end=True)
        await resolve(connection, met, "completed")
        await finish(session, over, outcome=Dead("fatal", failure()))

        found = await waits_for(session, id, 10)
        first = await waits_for(session, id, 1)
        nothing = [await waits_for(session, one, 10) for one in (met, running)]

    dead = Dependency(ended, "render", JobState.DEAD, any_end=False)
    expected = (
        dead,
        Dependency(row["id"], "load", JobState.RUNNING, any_end=False),
        Dependency(later, "later", JobState.SCHEDULED, any_end=True),
    )
    assert Waits(3, 4, expected) == found
    assert Waits(3, 4, (dead,)) == first
    assert [Waits(), Waits()] == nothing
    assert [True, False, False] == [one.failed for one in found.first]


async def test_what_a_cancelled_job_was_cancelled_for(database: str) -> None:
    """Among hundreds the one that failed comes first, also once it was deleted, and even if nothing is known of it."""
    async with open_session(database) as session, connect(database) as connection:
        others = await insert(session, *(new_job("good", delay=60.0) for _ in range(300)))
        (bad,) = await insert(session, new_job("bad"))
        (id,) = await insert(session, new_job("report", delay=60.0))
        await block(connection, id, [*others, bad])
        await finish(session, await claim_one(session), outcome=Dead("fatal", failure()))
        await resolve(connection, bad, "dead")
        await cancel(session, [id])

        dead = (await waits_for(session, id, 2)).first
        await delete(session, [bad])
        deleted = (await waits_for(session, id, 1)).first
        await connection.execute("delete from jobqueue.node where job_id = $1", bad)
        gone = (await waits_for(session, id, 1)).first

    assert (Dependency(bad, "bad", JobState.DEAD, any_end=False), others[0]) == (dead[0], dead[1].id)
    assert (Dependency(bad, "bad", None, any_end=False),) == deleted
    assert (Dependency(bad, None, None, any_end=False),) == gone
    assert deleted[0].failed


async def test_one_that_runs_again_has_not_failed(database: str) -> None:
    """What was noted of its first end says nothing any more once a job was retried."""
    async with open_session(database) as session, connect(database) as connection:
        on, id = await insert(session, new_job("load"), new_job("report", delay=60.0))
        await block(connection, id, [on])
        await resolve(connection, on, "dead")

        (one,) = (await waits_for(session, id, 5)).first

    assert (JobState.READY, False) == (one.state, one.failed)
