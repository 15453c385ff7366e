"""What members have given stays with a bundle that needs it, though the archive has forgotten them."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from jobqueue import App
from jobqueue.store import upkeep
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import bundles
from jobqueue.store.flows.bundles import delete_bundle, forget_bundles, results_of
from jobqueue.store.flows.graphs import read_graph
from jobqueue.store.steering import delete
from jobqueue.store.upkeep import Ages, sweep
from tests.support.history import finished, keep, kept, leaf, leaves
from tests.support.jobs.bundled import stored
from tests.support.jobs.store import claim, connect, finish, insert, new_job, open_database, open_session
from tests.support.jobs.working import asked, one_waits

DAY = 86_400.0
AGES = Ages(DAY, 30 * DAY)
LOWEST = UUID(int=0)


async def results(session: Session, bundle: UUID, task: str = "t") -> list[int]:
    """In the order of the members' ids, a page of two at a time."""
    found, after = [], LOWEST
    while page := await results_of(session, bundle, task, after, 2):
        found += [int(result) for _, result in page]
        after = page[-1][0]
    return found


async def ended(dsn: str, bundle: UUID, days: float) -> None:
    """As if it had ended so many days ago."""
    await asked(dsn, "with gone as (delete from jobqueue.job where bundle_id = $1) select 1", bundle)
    await asked(
        dsn,
        "update jobqueue.bundle set finished_at = now() - make_interval(secs => $2) where id = $1 returning 1",
        bundle,
        days * DAY,
    )


async def nodes(dsn: str) -> int:
    return int(await asked(dsn, "select count(*) from jobqueue.node"))


@pytest.mark.parametrize("road", ["a whole day", "a queue's age", "a queue's number"])
async def test_results_outlive_their_members(database: str, road: str) -> None:
    """S4-87: by whatever road a member leaves the archive, its result is read as long as its bundle needs it."""
    seconds = 5 * DAY if road == "a whole day" else 100.0
    if road == "a queue's age":
        keep(database, "mail", completed=10.0)
    if road == "a queue's number":
        async with App(database) as app:
            await app.queues.keep("mail", most_completed=1)
    async with open_database(database) as db, open_session(database) as session:
        unfinished, recent, old = [await stored(session, 1) for _ in range(3)]
        await ended(database, recent, 0.5)
        await ended(database, old, 2.0)
        for bundle in (unfinished, recent, old, None):
            finished(database, 3, seconds=seconds, queue="mail", bundle=bundle)
        finished(database, 1, seconds=seconds, queue="mail", bundle=unfinished, follow=4)
        finished(database, 1, seconds=seconds, queue="mail", bundle=unfinished, state="dead")
        finished(database, 1, queue="mail")
        before = await results(session, unfinished)
        swept = await sweep(db, AGES)

        assert {("mail", "completed"): 1, ("mail", "dead"): 1} == kept(database)
        assert (1, 0) == (swept.days, swept.jobs) if road == "a whole day" else (0, 13) == (swept.days, swept.jobs)
        assert [1, 2, 3] == before == await results(session, unfinished)
        assert [1, 2, 3] == await results(session, recent)
        assert [] == await results(session, old)
        assert [] == await results(session, unfinished, "another")
        assert 6 == await nodes(database)


async def test_a_bundle_whose_callback_waits_needs_them_still(database: str) -> None:
    """S4-87: the callback of a bundle that ended days ago reads what its members gave, however late it comes."""
    async with open_database(database) as db, open_session(database) as session:
        bundle = await stored(session, 0)
        await ended(database, bundle, 9.0)
        await insert(session, new_job("on_finish", bundle=bundle))
        finished(database, 3, seconds=5 * DAY, bundle=bundle)
        assert 1 == (await sweep(db, AGES)).days

        assert [1, 2, 3] == await results(session, bundle)


async def test_many_are_kept_in_bounded_batches(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-87: each statement copies so many rows and no more, whichever bundles they are of; none is left out."""
    batches: list[int] = []
    original = upkeep._run_batch

    async def counted(*order: object) -> object:
        before = await nodes(database)
        rows = await original(*order)  # type: ignore[arg-type]
        batches.append(await nodes(database) - before)
        return rows

    monkeypatch.setattr(upkeep, "_run_batch", counted)
    monkeypatch.setattr(upkeep, "_RESULTS", 10)
    async with open_database(database) as db, open_session(database) as session:
        for number in range(30):
            bundle = await stored(session, 1)
            if number % 3 == 1:
                await ended(database, bundle, 3.0)
            finished(database, 7, seconds=5 * DAY, bundle=bundle)
        large = await stored(session, 1)
        finished(database, 300, seconds=5 * DAY, bundle=large)
        assert 1 == (await sweep(db, AGES)).days

        assert list(range(1, 301)) == await results(session, large)
    assert 20 * 7 + 300 == sum(batches)
    assert 0 < max(batches) <= 40


async def test_a_day_whose_results_cannot_be_kept_stays(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-87: while somebody has the place where results go, the day stays with all that is in it; it goes later."""
    monkeypatch.setattr(upkeep, "_RESULTS", 2)
    async with open_database(database) as db, open_session(database) as session:
        bundle = await stored(session, 1)
        finished(database, 3, seconds=5 * DAY, bundle=bundle)
        async with connect(database) as holder, holder.transaction():
            await holder.execute("lock table jobqueue.node in share mode")
            assert 0 == (await sweep(db, AGES)).days
        assert leaf("completed", 5) in leaves(database, "completed")
        assert [1, 2, 3] == await results(session, bundle)

        assert 1 == (await sweep(db, AGES)).days
        assert [1, 2, 3] == await results(session, bundle)


async def test_the_last_run_of_a_member_counts(database: str) -> None:
    """S4-87: a member that was run again gave anew: neither while it runs nor afterwards is its first result read."""
    async with open_database(database) as db, open_session(database) as session:
        bundle = await stored(session, 1)
        (member,) = await claim(session, 1)
        stale = "insert into jobqueue.node values ($1, $2, 't', '{}', 'completed', '7', true) returning 1"
        await asked(database, stale, bundle, member["id"])
        assert [] == await results(session, bundle)

        await finish(session, member)
        moved = "update jobqueue.job_archive set task = 't', result = '8', finished_at = $1 returning 1"
        finished(database, 1, seconds=5 * DAY)
        await asked(database, "delete from jobqueue.job_archive where bundle_id is null returning 1")
        await asked(database, moved.replace("$1", "now() - interval '5 days'"))
        assert [8] == await results(session, bundle)
        assert 1 == (await sweep(db, AGES)).days
        assert [8] == await results(session, bundle)


async def test_nothing_is_kept_for_a_bundle_that_goes_just_then(database: str) -> None:
    """S4-87, S4-88: a bundle deleted while a sweep keeps results for it leaves nothing behind."""
    async with open_session(database) as session, connect(database) as sweeping:
        bundle = await stored(session, 0)
        finished(database, 3, seconds=5 * DAY, bundle=bundle)
        keeping = sweeping.transaction()
        await keeping.start()
        await sweeping.execute(f"select jobqueue.keep_results('{leaf('completed', 5)}', '{LOWEST}', '{LOWEST}', 100)")
        deleting = asyncio.create_task(delete_bundle(session, bundle))
        await one_waits(database)
        await keeping.commit()

        assert await deleting
        assert 0 == await nodes(database)


async def test_what_was_kept_goes_with_the_bundle(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-88: with an old or a deleted bundle all go that stood for its members; one with a job that waits is left."""
    monkeypatch.setattr(bundles, "_NODES", 3)
    async with open_session(database) as session:
        old, busy, young, deleted = [await stored(session, 0) for _ in range(4)]
        for bundle, days in ((old, 40.0), (busy, 41.0), (young, 1.0), (deleted, 1.0)):
            await ended(database, bundle, days)
            await asked(database, STANDING, bundle)
        others = "insert into jobqueue.node (bundle_id, job_id, task) select $1, job_id, 't' from jobqueue.node"
        await asked(database, f"{others} where bundle_id = $2 returning 1", deleted, young)
        await insert(session, new_job("on_finish", bundle=busy))

        assert 1 == await forget_bundles(session, 30 * DAY, 10)
        assert {busy: 8, young: 8, deleted: 16} == await standing(database)
        assert not await delete_bundle(session, busy)
        assert await delete_bundle(session, deleted)
        assert {busy: 8, young: 8} == await standing(database)


STANDING = """
with made as (
  insert into jobqueue.node (bundle_id, job_id, task, after)
  select $1, gen_random_uuid(), 't', array[$1::uuid] from generate_series(1, 8)
  returning job_id
), waits as (
  insert into jobqueue.dependency (on_id, job_id) select gen_random_uuid(), job_id from made
)
select count(*) from made
"""


async def standing(dsn: str) -> dict[UUID, int]:
    """How many nodes each bundle has, each with what it waits for."""
    async with connect(dsn) as connection:
        both = "jobqueue.node n full join jobqueue.dependency d using (job_id)"
        rows = await connection.fetch(f"select n.bundle_id, count(d.on_id) from {both} group by 1")
    return {row[0]: row[1] for row in rows}


async def test_the_result_of_a_job_that_is_no_member_is_none_of_the_bundle(database: str) -> None:
    """S4-87: what a member came after stands among the nodes of its bundle; only a member's result is the bundle's."""
    async with open_session(database) as session:
        bundle = await stored(session, 1)
        node = "insert into jobqueue.node values ($1, $2, 't', '{}', 'completed', '7') returning 1"
        await asked(database, node, bundle, uuid7())

        assert [] == await results(session, bundle)


async def test_a_graph_shows_no_member_that_is_only_kept(database: str) -> None:
    """S4-87: a graph draws jobs that come after others, or that others come after, whatever else was kept."""
    async with open_database(database) as db, open_session(database) as session:
        bundle = await stored(session, 1)
        finished(database, 3, seconds=5 * DAY, bundle=bundle)
        (first,) = await asked(database, "select array[min(id::text)] from jobqueue.job_archive")
        after = "insert into jobqueue.node values ($1, $2, 'later', array[$3::uuid]) returning job_id"
        later = await asked(database, after, bundle, uuid7(), first)
        assert 1 == (await sweep(db, AGES)).days
        jobs, _ = await read_graph(session, bundle)

        assert {UUID(first), later} == {job.id for job in jobs}


async def test_a_deleted_member_gives_nothing_any_more(database: str) -> None:
    """S4-99: whoever deletes a member deletes its result, also one that a sweep has copied and could not remove yet."""
    async with open_session(database) as session, connect(database) as sweeping:
        bundle = await stored(session, 1)
        finished(database, 3, seconds=5 * DAY, bundle=bundle)
        await sweeping.execute(f"select jobqueue.keep_results('{leaf('completed', 5)}', '{LOWEST}', '{LOWEST}', 100)")
        ids = await sweeping.fetch("select id from jobqueue.job_archive order by id limit 2")
        assert set(await delete(session, [row[0] for row in ids])) == {row[0] for row in ids}

        assert [3] == await results(session, bundle)


async def test_a_job_that_others_come_after_keeps_its_result(database: str) -> None:
    """S4-87: a member whose end is looked at when the archive has forgotten it still gives its result to others."""
    async with open_database(database) as db, open_session(database) as session:
        bundle = await stored(session, 1)
        finished(database, 1, seconds=5 * DAY, bundle=bundle)
        member = await asked(database, "select id from jobqueue.job_archive")
        await asked(database, "insert into jobqueue.node values ($1, $2, 't', '{}') returning 1", bundle, member)
        fact = "insert into jobqueue.fact (target, of_job, completed) values ($1, true, 1) returning 1"
        await asked(database, fact, member)
        assert 1 == (await sweep(db, AGES)).days
        await session.fetch("resolve_jobs", [member], datetime(2000, 1, 1, tzinfo=UTC), 500, [])

        assert 0 == await asked(database, "select count(*) from jobqueue.fact where of_job")
        assert ("completed", "1") == await asked(database, "select (outcome, result::text) from jobqueue.node")
        assert [1] == await results(session, bundle)
