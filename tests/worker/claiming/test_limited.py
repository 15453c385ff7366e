"""A worker with limits: how many run at once, whoever frees a place; and its last look at what it has claimed."""

from datetime import timedelta

import pytest

from jobqueue import JobState, Limit, Settings
from jobqueue.worker.claiming.admitting import Admitter
from tests.support.jobs.gates import declare_limit, limited, wrong_with_gates
from tests.support.jobs.limited_site import site_with
from tests.support.jobs.store import connect, insert, open_database, open_session
from tests.support.jobs.working import all_ended, archived, end_of, reached
from tests.support.waiting import wait_until


@pytest.mark.parametrize("how", ["", "fails once", "in transaction"])
async def test_no_more_run_at_once_than_the_limit(database: str, how: str) -> None:
    """Twenty jobs of a limit of three, beside ten plain ones: three at once, all of them in the end."""
    async with site_with(database, ("smtp", 3)) as site:
        await site.send(20, "smtp", how=how)
        async with site.app.worker(concurrency=10):
            await wait_until(lambda: site.running["a"] == 3, "three run")
            await site.send(10, key="plain")
            await wait_until(lambda: site.running["plain"] == 7, "the other slots are for others")
            site.go.set()
            await all_ended(database)
        assert 3 == site.most["a"]
        async with connect(database) as connection:
            assert [] == await wrong_with_gates(connection)
    assert 30 == await archived(database)


async def test_who_comes_to_a_free_gate_starts_at_once(database: str) -> None:
    """A job whose limit is free starts without anybody's poll, also after the worker has gone to sleep."""
    async with site_with(database, ("smtp", 1)) as site:
        site.go.set()
        async with site.app.worker():
            for _ in range(3):
                (handle,) = await site.send(1, "smtp")
                assert JobState.COMPLETED is (await end_of(site.app, handle)).state


async def test_a_limit_added_to_a_backlog_holds_at_once(database: str) -> None:
    """Jobs stored without a limit that their task has now line up for it, in their order, and no attempt is spent."""
    async with site_with(database, ("smtp", 2)) as site:
        handles = await site.send(30)
        site.limit(Limit(2, name="smtp"))
        async with site.app.worker(concurrency=10):
            await wait_until(lambda: site.running["a"] == 2, "two run")
            for handle in handles[2:]:
                assert "smtp" == (await reached(site.app, handle, JobState.BLOCKED)).waits_for
            site.go.set()
            await all_ended(database)
        assert 2 == site.most["a"]
        jobs = [await site.app.sender.find(handle.id) for handle in handles]
        assert {1} == {job.attempt for job in jobs}
        assert sorted(job.claimed_at for job in jobs if job.claimed_at) == [job.claimed_at for job in jobs]


async def test_a_key_that_cannot_be_made_puts_the_job_aside(database: str) -> None:
    """What the user's key function raises does not run the job past its limit, and hurts nobody else."""

    def of(key: str, how: str) -> None:
        if key == "bad":
            raise KeyError(key)

    async with site_with(database) as site:
        site.go.set()
        bad, good = await site.send(1, key="bad") + await site.send(1, key="good")
        site.limit(Limit(1, key=of))
        async with site.app.worker():
            await end_of(site.app, good)
            assert 0 == (await reached(site.app, bad, JobState.SCHEDULED)).attempt
        assert 0 == site.most["bad"]


async def test_what_is_cancelled_or_moved_in_line_makes_way(database: str) -> None:
    """Jobs that wait at a gate are cancelled, put off, deleted; those behind them go when it is their turn."""
    async with site_with(database, ("smtp", 1)) as site:
        handles = await site.send(5, "smtp")
        async with site.app.worker():
            await wait_until(lambda: site.running["a"] == 1, "one runs")
            assert [handles[1].id] == (await site.app.jobs.cancel(handles[1].id)).changed
            assert [handles[2].id] == (await site.app.jobs.delete(handles[2].id)).changed
            assert [handles[3].id] == (await site.app.jobs.reschedule(handles[3].id, delay=timedelta(hours=1))).changed
            site.go.set()
            await end_of(site.app, handles[4])
            assert JobState.SCHEDULED is (await site.app.sender.find(handles[3].id)).state
            await site.app.jobs.reschedule(handles[3].id, delay=0)
            await end_of(site.app, handles[3])
        assert 1 == site.most["a"]


async def test_a_burst_ends_only_when_all_have_passed(database: str) -> None:
    """`run_until_idle` runs jobs that wait at gates as well."""
    async with site_with(database, ("smtp", 1), ("key", 2)) as site:
        site.go.set()
        await site.send(6, "key\na", "smtp")
        await site.app.run_until_idle()
        assert 6 == await archived(database)
        assert 1 == site.most["a"]


async def test_a_drain_gives_back_what_has_a_place(database: str) -> None:
    """What a stopped worker gives back keeps its place, and the next worker goes on with just as many."""
    async with site_with(database, ("smtp", 2)) as site:
        await site.send(6, "smtp")
        async with site.app.worker(drain_timeout=0.1):
            await wait_until(lambda: site.running["a"] == 2, "two run")
        async with connect(database) as connection:
            assert [] == await wrong_with_gates(connection)
            assert 2 == await connection.fetchval(
                "select count(*) from jobqueue.job where passed = 1 and state = 'ready'"
            )
        site.go.set()
        async with site.app.worker():
            await all_ended(database)
        assert 2 == site.most["a"]


async def test_a_gate_that_another_keeps_is_not_hurried_for(database: str) -> None:
    """While somebody has a gate for long, as an open recount does, looks at it come further and further apart."""
    async with open_database(database) as db, open_session(database) as session, connect(database) as holder:
        await declare_limit(session, "smtp")
        await insert(session, limited("smtp"))
        await holder.execute("insert into jobqueue.gate (name, \"limit\") values ('smtp', 'smtp')")
        admitter = Admitter(db, Settings(), lambda: None)
        async with holder.transaction():
            await holder.execute("select from jobqueue.gate for update")
            pauses = [admitter._pause(await admitter._look()) for _ in range(8)]
        assert pauses[0] < 0.01 < 8 * pauses[0] < pauses[7]
        assert 1 == (await admitter._look()).ready
        await admitter._session.close()
