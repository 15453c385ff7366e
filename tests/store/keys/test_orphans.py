"""A unique key whose job somebody has deleted past the library counts as free, and does not stay for ever."""

import asyncio

import pytest

from jobqueue.base.job import Sent
from jobqueue.base.outcome import Dead
from jobqueue.base.steering import Change
from jobqueue.store import steering
from jobqueue.store.schema import migrate as rooms
from jobqueue.store.schema.migrate import migrate, migrations
from jobqueue.store.upkeep import NO_AGES, sweep
from tests.store.keys.test_keys import holders, keyed, send, skipped
from tests.support.jobs.store import (
    Connection,
    claim_one,
    connect,
    failure,
    finish,
    insert,
    new_job,
    open_session,
    open_sessions,
    somebody_waits,
)
from tests.support.waiting import wait_until


async def delete_past_us(connection: Connection) -> None:
    await connection.execute("delete from jobqueue.job")


@pytest.mark.parametrize("conflict", ["skip", "raise", "replace", "move", "replace+move"])
@pytest.mark.parametrize("scope", ["waiting", "unfinished"])
async def test_a_key_without_a_job_is_free(database: str, scope: str, conflict: str) -> None:
    """A defer takes over the key of a job that is nowhere, whatever it would have done to that."""
    async with open_session(database) as session, connect(database) as connection:
        await send(session, keyed(scope=scope))
        await delete_past_us(connection)
        later, latest = keyed(scope=scope, on_conflict=conflict), keyed(scope=scope)

        assert [Sent(later.id)] == await send(session, later)
        assert [skipped(later.id)] == await send(session, latest)
        assert {"k": later.id} == await holders(connection)


async def test_a_period_outlives_a_job_that_was_deleted(database: str) -> None:
    """A key of scope `period` holds until its time is over: its job may be nowhere by then, that is what it is for."""
    async with open_session(database) as session, connect(database) as connection:
        first = keyed(scope="period")
        await send(session, first)
        await delete_past_us(connection)

        assert [skipped(first.id)] == await send(session, keyed(scope="period"))
        await sweep(session.database, NO_AGES)
        assert {"k": first.id} == await holders(connection)


async def test_a_retry_takes_a_key_without_a_job(database: str) -> None:
    """A finished job that is to run again is not refused for a key whose holder is nowhere."""
    async with open_session(database) as session, connect(database) as connection:
        first, second = keyed(), keyed()
        await send(session, first)
        await finish(session, await claim_one(session), outcome=Dead("fatal", failure()))
        await send(session, second)
        await delete_past_us(connection)

        assert {first.id: Change.DONE} == await steering.retry(session, [first.id])
        assert {"k": first.id} == await holders(connection)


async def test_of_two_that_want_it_one_gets_it(database: str) -> None:
    """Who comes second waits for the first, sees that the key has a new holder, and does not take it again."""
    async with open_sessions(database, 2) as (one, two), connect(database) as connection:
        await send(one, keyed())
        await delete_past_us(connection)
        first, second = keyed(), keyed()
        async with one.transaction():
            assert [Sent(first.id)] == await send(one, first)
            waiting = asyncio.create_task(send(two, second))
            await wait_until(lambda: somebody_waits(connection), "the second waits for the key")
        assert [skipped(first.id)] == await waiting
        assert {"k": first.id} == await holders(connection)


async def test_keys_without_a_job_are_swept(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention removes them, a page at a time, and leaves every key that has a job."""
    monkeypatch.setattr("jobqueue.store.upkeep._KEYS", 3)
    async with open_session(database) as session, connect(database) as connection:
        jobs = [keyed(key=f"k{number}") for number in range(8)]
        await send(session, *jobs)
        await connection.execute("delete from jobqueue.job where key <> 'k5'")
        await sweep(session.database, NO_AGES)

        assert {"k5": jobs[5].id} == await holders(connection)


async def test_a_key_that_is_just_taken_is_not_swept(database: str) -> None:
    """The sweep passes over a key that somebody takes in that moment, and does not wait."""
    async with open_sessions(database, 2) as (one, two), connect(database) as connection:
        await send(one, keyed())
        await delete_past_us(connection)
        job = keyed()
        async with one.transaction():
            await send(one, job)
            await sweep(two.database, NO_AGES)
        assert {"k": job.id} == await holders(connection)


async def test_keys_are_in_the_order_of_their_bytes(database: str) -> None:
    """No change of the system's library brings the index of keys out of order: two jobs never get one key."""
    async with connect(database) as connection:
        collation = await connection.fetchval(
            "select c.collname from pg_attribute a join pg_collation c on c.oid = a.attcollation"
            " where a.attrelid = 'jobqueue.job_key'::regclass and a.attname = 'key'"
        )
    assert "C" == collation


async def test_a_key_that_was_let_in_twice_gets_one_holder(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that was out of order has let keys in twice: the migration leaves each to its newest job."""
    before = tuple(each for each in migrations() if each.name < "0008")
    monkeypatch.setattr(rooms, "migrations", lambda: before)
    await migrate(empty_database)
    jobs = sorted(new_job().id for _ in range(3))
    async with connect(empty_database) as connection:
        await connection.execute("alter table jobqueue.job_key drop constraint job_key_pkey")
        for id in jobs:
            await connection.execute("insert into jobqueue.job_key values ('twice', $1, 'unfinished')", id)
        monkeypatch.undo()
        await migrate(empty_database)

        assert {"twice": jobs[-1]} == await holders(connection)
        assert 1 == await connection.fetchval("select count(*) from jobqueue.job_key")


async def test_a_publication_of_all_tables_stops_nothing(database: str) -> None:
    """With everything published, finished jobs can still be retried and deleted, also of days that were made later."""
    async with open_session(database) as session, connect(database) as connection:
        await connection.execute("create publication everything for all tables")
        await connection.execute("select jobqueue.extend_archive(9)")
        (id,) = await insert(session, new_job())
        await finish(session, await claim_one(session))
        assert {id: Change.DONE} == await steering.retry(session, [id])
        await finish(session, await claim_one(session))
        await connection.execute("update jobqueue.job_archive set finished_at = now() + interval '9 days'")
        assert {id: Change.DONE} == await steering.delete(session, [id])
