"""The store of memories: whatever fails or is cancelled, nothing dangles, nothing comes late, orphans are collected."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import UUID

import anyio
import asyncpg
import psycopg
import pytest
import pytest_asyncio

from examples.agent_store.__main__ import Counts, Gauged, count, memories
from examples.agent_store.app import COLLECT, app, collect_orphans, connections, digest
from examples.agent_store.store import MARK_INDEXED, TABLES, WRITE_TAGS, Memory, PayloadGone, Store
from jobqueue import InvalidPayload, JobFailed, JobState
from tests.conftest import fail_on_leaks
from tests.examples.programs import run
from tests.support.leaks import Surroundings
from tests.support.patience import PATIENCE
from tests.support.postgres.database import Databases, name_of
from tests.support.rounds import rounds
from tests.support.waiting import wait_until

Saving: TypeAlias = Callable[[], Awaitable[object]]

INSTANTS = rounds(100)
LONG = "x" * 51
"""A tag that the database refuses, after the payload was written."""

BROKEN = """
select count(*)
from agent_store.payload p
full join (select payload as id, count(*) from agent_store.tag group by payload) t using (id)
full join (select (args ->> 'memory')::uuid as id, count(*) from agent_store.job group by 1) j using (id)
where p.id is null
  or (indexed, coalesce(t.count, 0), coalesce(j.count, 0)) not in ((true, 4, 1), (false, 0, 0))
"""
"""Memories with some of their four tags, without their job, or marked wrongly; tags and jobs without a payload."""

AT_WORK = """
select count(*) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend' and state <> 'idle'
"""
"""Connections that run something or are in a transaction: without one, nothing can commit any more."""

HELD_UP = "select count(distinct pid) from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))"

SLOW_TAGS = """
create function agent_store.slow() returns trigger language plpgsql as
  $$ begin perform pg_sleep(0.3); return new; end $$;
create trigger slow before insert on agent_store.tag for each row when (length(new.name) < 51)
  execute function agent_store.slow()
"""


@pytest.fixture(scope="module")
def laid_out(databases: Databases) -> Iterator[str]:
    """The name of a database with the tables of the store, to be cloned: to make them takes longer than most tests."""
    with databases.temporary() as dsn:
        with app.override(dsn=dsn):
            asyncio.run(migrated())
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLES.encode())
        yield name_of(dsn)


async def migrated() -> None:
    """Make the app's schema, and leave no connection open."""
    await app.migrate()
    await app.close()


@pytest_asyncio.fixture
async def own_database(databases: Databases, laid_out: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A clone; afterwards nothing of the test may still run or be connected."""
    with databases.temporary(laid_out) as dsn:
        before = Surroundings.now()
        yield dsn
        await fail_on_leaks(request.node, before, databases, dsn)


@pytest_asyncio.fixture
async def store(own_database: str) -> AsyncIterator[Store]:
    """An empty store, on the app's own lifespan."""
    with app.override(dsn=own_database):
        async with app, connections(app) as pool:
            yield Store(pool)


@pytest_asyncio.fixture
async def connection(store: Store, own_database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A look from outside."""
    connection = await asyncpg.connect(own_database)
    yield connection
    await connection.close()


async def wait_behind(connection: "asyncpg.Connection[asyncpg.Record]", *tasks: "asyncio.Future[Any]") -> None:
    """Return once the statements of all these tasks wait for a lock that this connection holds."""

    async def all_wait() -> bool:
        for task in tasks:
            assert not task.done(), f"one has ended, and waits for nothing: {await task}"
        held_up: int = await connection.fetchval(HELD_UP)
        return held_up == len(tasks)

    await wait_until(all_wait, "they wait")


async def collected(older_than: float = 0) -> int:
    """What the collector says once a worker has run all that is ready."""
    handle = await collect_orphans.defer(older_than=older_than)
    await app.run_until_idle()
    return await handle.result(timeout=PATIENCE)


def memory(*more: str, body: str = "to be kept") -> Memory:
    return Memory(body, ("a", "b", "c", *more))


async def test_the_demonstration_succeeds_twice_in_a_row(empty_database: str) -> None:
    """S0-22, S0-31: as a reader runs it: 25 at the peak, nothing late, nothing dangling, all orphans collected."""
    for _ in range(2):
        ended = await run("-m", "examples.agent_store", dsn=empty_database)

        assert 0 == ended.code, ended.out + ended.err
        assert "" == ended.err
        assert "never more than 25 at once" in ended.out
        assert "was refused (CheckViolationError)" in ended.out
        assert "the same, nothing came late" in ended.out
        assert 4 == ended.out.count("dangling 0")
        assert ended.out.endswith("Every memory is whole.\n")


async def test_a_memory_is_found_by_each_tag_and_digested(store: Store) -> None:
    """S0-22: what was saved is found by its tags; its job, committed with them, has run. Saving again keeps it."""
    one, two = memory("one", body="three little words"), memory("two")

    assert [one.id, two.id] == await store.save([one, two])
    assert [one.id] == await store.save([replace(one, body="other words")])
    await app.run_until_idle()

    assert {one.id: one.body, two.id: two.body} == await store.find("a")
    assert {one.id: one.body} == await store.find("one")
    assert {} == await store.find("none")
    assert Counts(payloads=2, orphans=0, tags=8, dangling=0, digests=2) == await count(store.pool)
    assert 3 == await store.pool.fetchval("select words from agent_store.digest where payload = $1", one.id)


def test_a_memory_without_tags_is_refused() -> None:
    """S0-22: a memory that nobody could find is refused before anything is written."""
    with pytest.raises(ValueError, match="tags: a memory needs at least one"):
        Memory("lost", ())


async def test_25_of_200_are_in_flight_at_the_peak(store: Store) -> None:
    """S0-31: saving 200 memories has exactly 25 in flight at the peak."""
    gauged = Gauged(store.pool, set(), [])

    await gauged.save(memories("a", 200))

    assert (25, 200, set()) == (max(gauged.peaks), len(gauged.peaks), gauged.saving)


# One write fails, and the other does not: both ways.


async def test_a_payload_that_fails_leaves_nothing(store: Store) -> None:
    """S0-33: if the payload is refused there is no index row, no job and no orphan."""
    await store.pool.execute("alter table agent_store.payload add check (body <> 'bad')")

    with pytest.raises(asyncpg.CheckViolationError):
        await store.save([memory(body="bad")])

    assert Counts(0, 0, 0, 0, 0) == await count(store.pool)
    assert [] == await app.jobs.list()


REFUSALS = {
    "a tag is refused": "alter table agent_store.tag add check (name <> 'bad')",
    "the job is refused": "alter table agent_store.job add constraint refused check (task <> 'digest')",
    "the connection breaks": """
        create function agent_store.die() returns trigger language plpgsql as
          $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
        create trigger die after insert on agent_store.tag for each row when (new.name = 'bad')
          execute function agent_store.die()""",
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
async def test_an_index_that_fails_leaves_an_orphan(refusal: str, store: Store) -> None:
    """S0-22, S0-33, S0-35: if index or job fail there is no tag and no job, a read finds nothing, and the orphan goes
    with the collector; or the memory is saved again and is whole."""
    await store.pool.execute(refusal)
    first, second = memory("bad"), memory("bad", body="another")

    for bad in (first, second):
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, InvalidPayload)):
            await store.save([bad])
    left = await count(store.pool)
    seen = [await store.find(tag) for tag in ("a", "b", "c", "bad")]
    jobs = await app.jobs.list()
    again = replace(second, tags=("a", "b", "c", "good"))
    await store.pool.execute("alter table agent_store.job drop constraint if exists refused")
    await store.save([again])

    assert Counts(payloads=2, orphans=2, tags=0, dangling=0, digests=0) == left
    assert ([{}] * 4, []) == (seen, jobs)
    assert {again.id: "another"} == await store.find("a")
    assert 1 == await collected()
    assert Counts(payloads=1, orphans=0, tags=4, dangling=0, digests=1) == await count(store.pool)


async def test_the_third_of_ten_fails(store: Store, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """S0-27: on return no child is alive and no connection at work, so nothing is committed afterwards."""
    await store.pool.execute(SLOW_TAGS)
    before = asyncio.all_tasks()
    ten = [memory(LONG if number == 2 else "d") for number in range(10)]

    with pytest.raises(asyncpg.CheckViolationError):
        await store.save(ten)
    alive, at_work = asyncio.all_tasks() - before, await connection.fetchval(AT_WORK)
    left = await count(store.pool)

    assert (set(), 0) == (alive, at_work)
    assert (0, 0) == (left.tags, left.dangling)
    assert left.orphans == left.payloads > 0
    assert [] == await app.jobs.list()
    assert left.orphans == await collected()


# The caller is cancelled.


async def by_cancel(saving: Saving, seconds: float) -> None:
    task = asyncio.ensure_future(saving())
    handle = asyncio.get_running_loop().call_later(seconds, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return
    finally:
        handle.cancel()


async def by_scope(saving: Saving, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await saving()


async def by_timeout(saving: Saving, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await saving()
    except TimeoutError:
        return


async def by_all(saving: Saving, seconds: float) -> None:
    await by_cancel(lambda: by_timeout(lambda: by_scope(saving, seconds), seconds), seconds)


async def test_cancellations_at_random_instants(store: Store, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """S0-22, S0-26, S0-27: cancelled at 100 random instants (400 in `make race`) in four ways, index and payloads
    always agree when the call has ended, no connection is at work any more, and the leftovers are collected."""
    chance = random.Random(5)  # noqa: S311 - the same instants each time, nothing to guard
    ways = (by_cancel, by_scope, by_timeout, by_all)
    before = asyncio.all_tasks()
    cut, late, longest = 0, list[str](), 0.04

    for number in range(INSTANTS):
        saved: list[UUID] = []

        async def saving(number: int = number, saved: list[UUID] = saved) -> None:
            saved += await store.save(memories(f"n{number}", 30))

        await ways[number % 4](saving, chance.uniform(0, longest))
        cut += not saved
        longest *= 0.9 if saved else 1.05  # however long a save takes here, some are cut and some are not
        alive, at_work = asyncio.all_tasks() - before, await connection.fetchval(AT_WORK)
        broken = await connection.fetchval(BROKEN)
        if alive or at_work or broken:
            late.append(f"{number} ({ways[number % 4].__name__}): {alive}, {at_work} at work, {broken} broken")

    assert [] == late
    left = await count(store.pool)
    assert INSTANTS / 10 < cut < INSTANTS, "some were cut, some were not"
    assert 0 == left.dangling
    assert 0 < left.orphans < left.payloads
    assert left.tags == 4 * (left.payloads - left.orphans)
    assert left.orphans == await collected()
    assert (await count(store.pool)).is_whole


async def test_a_save_ends_when_its_connection_is_at_rest(store: Store, own_database: str) -> None:
    """S0-27: cancelled while its connection is given back, a save waits for that: no task of the driver is left."""
    resting, hold, kept = asyncio.Event(), asyncio.Event(), memory()

    async def reset(connection: object) -> None:
        resting.set()
        await hold.wait()

    async with asyncpg.create_pool(own_database, min_size=1, max_size=1, reset=reset) as pool:
        before = asyncio.all_tasks()
        saving = asyncio.ensure_future(Store(pool).save([kept]))
        await resting.wait()
        saving.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not saving.done()
        hold.set()
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert before == asyncio.all_tasks()

    assert {kept.id: kept.body} == await store.find("a")


# The collector.


async def test_the_collector_spares_fresh_orphans(store: Store) -> None:
    """S0-22: an orphan goes when it is older than the collector's age, not before; what is indexed never goes."""
    old, fresh, kept = memory(LONG), memory(LONG), memory()
    await store.save([kept])
    for orphan in (old, fresh):
        with pytest.raises(asyncpg.CheckViolationError):
            await store.save([orphan])
    await store.pool.execute(
        "update agent_store.payload set written_at = written_at - interval '2 hours' where id <> $1", fresh.id
    )

    assert 1 == await collected(3600)
    assert {fresh.id, kept.id} == {row["id"] for row in await store.pool.fetch("select id from agent_store.payload")}
    assert 0 == await collected(3600)


async def test_the_collector_waits_for_an_index_under_way(
    store: Store, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """S0-22: a collector that meets a payload whose index is being written waits, looks again and spares it."""
    (slow,) = [memory(LONG)]
    with pytest.raises(asyncpg.CheckViolationError):
        await store.save([slow])

    async with connection.transaction():
        await connection.execute(MARK_INDEXED, slow.id)
        await connection.execute(WRITE_TAGS, slow.id, ["a"])
        collecting = asyncio.ensure_future(store.pool.execute(COLLECT, 0))
        await wait_behind(connection, collecting)

    assert "DELETE 0" == await collecting
    assert {slow.id: slow.body} == await store.find("a")


async def test_an_index_that_comes_too_late_fails(
    store: Store, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """S0-22: if the collector was faster, the index finds its payload gone and fails: no tag, no job; saving helps."""
    late = memory()

    async def collect() -> str:
        async with store.pool.acquire() as conn, conn.transaction():
            await conn.execute("lock agent_store.payload in exclusive mode")
            return await conn.execute(COLLECT, 0)

    async with connection.transaction():  # locks are served in turn: the payload, the collector, the index
        await connection.execute("lock agent_store.payload in exclusive mode")
        saving = asyncio.ensure_future(store.save([late]))
        await wait_behind(connection, saving)
        collecting = asyncio.ensure_future(collect())
        await wait_behind(connection, saving, collecting)
    with pytest.raises(PayloadGone):
        await saving

    assert "DELETE 1" == await collecting
    assert Counts(0, 0, 0, 0, 0) == await count(store.pool)
    assert [] == await app.jobs.list()
    await store.save([late])
    assert {late.id: late.body} == await store.find("a")


async def test_a_job_without_its_payload_says_so(store: Store) -> None:
    """S0-35: if somebody has removed a payload by hand, its job is dead with a clear error, and the next one runs."""
    gone, there = memory(), memory()
    await store.save([gone, there])
    await store.pool.execute("delete from agent_store.payload where id = $1", gone.id)

    await app.run_until_idle()

    jobs = {UUID(job.args["memory"]): job for job in await app.jobs.list(payload=True)}
    assert (JobState.DEAD, JobState.COMPLETED) == (jobs[gone.id].state, jobs[there.id].state)
    with pytest.raises(JobFailed, match="payload missing"):
        await digest.handle(jobs[gone.id].id).result(timeout=PATIENCE)
