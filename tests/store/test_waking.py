"""Notifications: one for whoever sleeps, none for nobody, and none lost between a look and a sleep."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from jobqueue.base.job import WorkerId
from jobqueue.base.outcome import Released, Retried
from jobqueue.store import claims
from jobqueue.store.intake import insert_all
from jobqueue.store.schema.statements import channel, names
from tests.support.jobs.store import (
    WORKER,
    Connection,
    advisory_locks,
    claim,
    claim_one,
    connect,
    failure,
    finish,
    insert,
    new_job,
    new_jobs,
    open_session,
    open_sessions,
)
from tests.support.patience import PATIENCE, scaled
from tests.support.rounds import rounds
from tests.support.waiting import wait_until

CHANNEL = channel("jobqueue", "wake")


class Ear:
    """Hears the wake-ups of a schema. `so_far` first lets everything arrive that was sent before."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard: list[str] = []

    def hear(self, *said: object) -> None:
        self._heard.append(str(said[-1]))

    async def so_far(self) -> list[str]:
        """What was heard since the last time."""
        # Notifications keep the order of the commits: when this one has come, so have all before it.
        mark = f"mark {id(object())}"
        await self._connection.execute("select pg_notify($1, $2)", CHANNEL, mark)
        await wait_until(lambda: mark in self._heard, "the mark is heard")
        heard, self._heard = self._heard[: self._heard.index(mark)], []
        return heard


@asynccontextmanager
async def ear_on(dsn: str) -> AsyncIterator[tuple[Ear, Connection]]:
    async with connect(dsn) as connection:
        ear = Ear(connection)
        await connection.add_listener(CHANNEL, ear.hear)
        yield ear, connection


async def test_nobody_is_notified_while_nobody_sleeps(database: str) -> None:
    """Inserting, promoting, retrying and releasing are silent as long as no worker has said that it sleeps."""
    async with open_session(database) as session, ear_on(database) as (ear, connection):
        await insert(session, new_job(), new_job(delay=50.0))
        await finish(session, await claim_one(session), outcome=Released())
        await finish(session, await claim_one(session), outcome=Retried(failure(), delay=0.0))
        await connection.execute("update jobqueue.job set due_at = now() where state = 'scheduled'")
        await claims.promote_due(session, 10)

        assert [] == await ear.so_far()


async def test_whatever_makes_a_job_ready_wakes_who_sleeps_on_its_queue(database: str) -> None:
    """S4-31: insert, promotion, release and retry each wake a sleeper of the queue, once for the whole batch."""
    async with open_session(database) as session, ear_on(database) as (ear, connection):
        await claims.publish_sleep(session, WORKER, ["default"], 60.0)
        await insert(session, *new_jobs(3))
        assert ["r:default"] == await ear.so_far()

        rows = await claim(session)
        await finish(session, *rows, outcome=Released())
        assert ["r:default"] == await ear.so_far()
        rows = await claim(session)
        await finish(session, *rows, outcome=Retried(failure(), delay=0.0))
        assert ["r:default"] == await ear.so_far()

        rows = await claim(session)
        await finish(session, *rows, outcome=Retried(failure(), delay=60.0))
        assert [] == await ear.so_far(), "no stager sleeps"
        await connection.execute("update jobqueue.job set due_at = now()")
        await claims.promote_due(session, 10)
        assert ["r:default"] == await ear.so_far()

        await insert(session, new_job(queue="other"))
        assert [] == await ear.so_far(), "nobody sleeps on that one"
        await claims.end_sleep(session, WORKER, ["default"])
        await insert(session, new_job())
        assert [] == await ear.so_far(), "nobody sleeps any more"


async def test_a_worker_of_all_queues_is_woken_by_each(database: str) -> None:
    """A sleeper that serves every queue hears of a job in a queue that nobody has named."""
    async with open_session(database) as session, ear_on(database) as (ear, _):
        await claims.publish_sleep(session, WORKER, ["*"], 60.0)
        await insert(session, *new_jobs(2, queue="new"), new_job(queue="newer"))

        assert ["r:new", "r:newer"] == sorted(await ear.so_far())


async def test_a_nearer_due_time_wakes_the_stager(database: str) -> None:
    """A job that comes due before a sleeping stager would look wakes it; one that comes due later does not."""
    async with open_session(database) as session, ear_on(database) as (ear, _):
        await claims.publish_sleep(session, WORKER, [""], 60.0)
        await insert(session, new_job(delay=100.0))
        assert [] == await ear.so_far()

        await insert(session, new_job(delay=30.0), new_job(delay=90.0))
        assert ["d:default"] == await ear.so_far()
        await insert(session, new_job(at=datetime.now(UTC) + timedelta(seconds=10)))
        assert ["d:default"] == await ear.so_far()
        await insert(session, new_job(priority=5))
        row = await claim_one(session)
        assert [] == await ear.so_far(), "no claimer sleeps"
        await finish(session, row, outcome=Retried(failure(), delay=5.0))
        assert ["d:default"] == await ear.so_far()


async def test_a_sleep_is_published_anew(database: str) -> None:
    """Publishing again replaces the time; others' flags and other queues are left alone."""
    other = WorkerId(UUID(int=2))
    async with open_session(database) as session, connect(database) as connection:
        await claims.publish_sleep(session, WORKER, ["a", "b"], 10.0)
        await claims.publish_sleep(session, other, ["a"], 10.0)
        await claims.publish_sleep(session, WORKER, ["a"], 1_000.0)
        rows = await connection.fetch(
            "select worker_id, queue, wake_at > now() + interval '60 s' as long from jobqueue.sleeper order by 1, 2"
        )
        assert [(other, "a", False), (WORKER, "a", True), (WORKER, "b", False)] == [tuple(row) for row in rows]

        await session.fetch("stop_worker", WORKER)
        assert 1 == await connection.fetchval("select count(*) from jobqueue.sleeper")


async def test_no_wake_up_is_lost_between_a_look_and_a_sleep(database: str) -> None:
    """A worker that publishes its sleep and looks once more either finds a job stored meanwhile, or is told of it."""
    woken = 0
    async with open_sessions(database, 2) as (worker, producer), ear_on(database) as (ear, _):

        async def fall_asleep() -> bool:
            await claims.publish_sleep(worker, WORKER, ["default"], 60.0)
            return bool(await claim(worker))

        for _ in range(rounds(75)):
            found, _ = await asyncio.gather(fall_asleep(), insert(producer, new_job()))
            heard = await ear.so_far()
            assert found or ["r:default"] == heard, "the job would have waited for the poll"
            woken += not found
            await claims.end_sleep(worker, WORKER, ["default"])
            await claim(worker)
    assert woken, "the insert never came second: the race was not tried"


async def test_whoever_falls_asleep_waits_for_a_commit_under_way(database: str) -> None:
    """The flag comes after the commit of a producer who found no sleeper, so that the second look finds its job."""
    async with open_sessions(database, 2) as (worker, producer), connect(database) as observer:
        async with producer.transaction():
            await insert(producer, new_job())  # found nobody asleep, holds the shared lock
            sleeping = asyncio.create_task(claims.publish_sleep(worker, WORKER, ["default"], 60.0))
            await wait_until(lambda: advisory_locks(observer, granted=False), "the worker waits for the producer")
            assert not sleeping.done()
        await sleeping
        assert 1 == len(await claim(worker))


async def test_a_frozen_producer_does_not_stop_the_others(database: str) -> None:
    """Whoever falls asleep gives up soon when a producer hangs before its commit, for all others queue up behind it."""
    async with open_sessions(database, 3) as (worker, frozen, producer), frozen.transaction():
        await insert(frozen, new_job())
        sleeping = asyncio.create_task(claims.publish_sleep(worker, WORKER, ["default"], 60.0))
        async with connect(database) as observer:
            await wait_until(lambda: advisory_locks(observer, granted=False), "the worker waits for the frozen one")
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(asyncpg.LockNotAvailableError):
                await sleeping
            await insert(producer, new_job())


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_other_isolation_levels_always_notify(database: str, isolation: str) -> None:
    """A transaction that cannot see a fresh flag does not ask for it: it notifies, asleep or not."""
    async with ear_on(database) as (ear, _), connect(database) as producer:
        async with producer.transaction(isolation=isolation.replace(" ", "_")):  # type: ignore[arg-type]
            await producer.execute("select jobqueue.wake('slow', null, false)")
            held = await advisory_locks(producer)
        assert ["r:slow"] == await ear.so_far()
        assert 0 == held


async def test_a_callers_transaction_always_notifies_and_holds_no_lock(database: str) -> None:
    """S1-06: in a caller's transaction nobody is asked and nobody held up; the wake-up comes with the commit."""
    async with open_session(database) as session, ear_on(database) as (ear, _), connect(database) as observer:
        async with session.transaction():
            await insert_all(session, [new_job(), new_job(delay=5.0)], always=True)
            assert 0 == await advisory_locks(observer)
            assert [] == await ear.so_far()
        assert ["d:default", "r:default"] == sorted(await ear.so_far())


# Plain SQL.


async def test_the_function_takes_its_arguments_by_name(database: str) -> None:
    """`jobqueue.defer` stores a job with what is said, by types that any driver binds, and returns its id."""
    async with open_session(database) as session, ear_on(database) as (ear, connection):
        id = await connection.fetchval(
            "select jobqueue.defer('mail', '{\"to\": 1}', queue => 'post', priority => 3, max_attempts => 2,"
            " timeout => 1.5, origin => 'shop', meta => '[1]')"
        )
        assert ["r:post"] == await ear.so_far()
        row = await claim_one(session, queues=["post"])

    assert 7 == id.version
    assert (id, "mail", '{"to": 1}', "post", 3, 2, 1.5, "shop", "[1]") == tuple(
        row[name] for name in ("id", "task", "args", "queue", "priority", "max_attempts", "timeout", "origin", "meta")
    )


async def test_the_function_has_the_defaults_of_a_defer(database: str) -> None:
    """`jobqueue.defer('task')` is enough: no arguments, queue `default`, priority 0, 20 attempts, now."""
    async with open_session(database) as session, connect(database) as connection:
        id = await connection.fetchval("select jobqueue.defer('mail')")
        row = await claim_one(session)

    assert (id, "{}", "default", 0, 20, None, None) == tuple(
        row[name] for name in ("id", "args", "queue", "priority", "max_attempts", "timeout", "meta")
    )


async def test_the_function_schedules(database: str) -> None:
    """A delay or a time in the future makes a scheduled job, and tells the stager."""
    async with open_session(database) as session, ear_on(database) as (ear, connection):
        await connection.execute("select jobqueue.defer('a', delay => 50)")
        await connection.execute("select jobqueue.defer('b', at => now() + interval '1 hour')")
        await connection.execute("select jobqueue.defer('c', at => now() - interval '1 hour')")
        assert ["d:default", "d:default", "r:default"] == await ear.so_far()
        assert ["c"] == [row["task"] for row in await claim(session)]
        promoted, next_in, _ = await claims.promote_due(session, 10)
        assert 0 == promoted
        assert next_in is not None
        assert 50 - scaled(5) < next_in <= 50


async def test_an_id_given_twice_is_harmless(database: str) -> None:
    """S4-02: the same id again answers with it, stores nothing, also after the job has run, and wakes nobody."""
    id = new_job().id
    again = "select jobqueue.defer($1, id => $2)"
    async with open_session(database) as session, ear_on(database) as (ear, connection):
        assert id == await connection.fetchval(again, "first", str(id))
        assert id == await connection.fetchval(again, "second", str(id))
        assert ["r:default"] == await ear.so_far()
        row = await claim_one(session)
        assert "first" == row["task"]
        assert id == await connection.fetchval(again, "third", str(id))
        await finish(session, row)

        assert id == await connection.fetchval(again, "fourth", str(id))
        assert 0 == await connection.fetchval("select count(*) from jobqueue.job")
        assert [] == await ear.so_far()


async def test_a_job_of_plain_sql_waits_for_the_commit(database: str) -> None:
    """S1-05, S1-06: inside a transaction the job and its wake-up exist from the commit on, or never."""
    async with open_session(database) as session, ear_on(database) as (ear, _), connect(database) as user:
        for commits in (False, True):
            await user.execute("begin; select jobqueue.defer('task'); insert into jobqueue.job (task) values ('bare')")
            assert [] == await claim(session)
            await user.execute("commit" if commits else "rollback")
            assert (["r:default"] if commits else []) == await ear.so_far()
            assert 2 * commits == len(await claim(session))


async def test_a_bare_insert_wakes(database: str) -> None:
    """An INSERT by hand, with nothing but the task, makes a job that is claimed, and wakes whoever may sleep."""
    async with open_session(database) as session, ear_on(database) as (ear, connection):
        await connection.execute("insert into jobqueue.job (task) values ('bare'), ('bare')")
        assert ["r:default"] == await ear.so_far()
        await connection.execute(
            "insert into jobqueue.job (task, queue, state, due_at) values ('l', 'post', 'scheduled', now() + '1 day')"
        )
        assert ["d:post"] == await ear.so_far()
        await connection.execute("insert into jobqueue.job (task, state) values ('blocked', 'blocked')")
        assert [] == await ear.so_far()

        rows = await claim(session)
        assert ["bare", "bare"] == [row["task"] for row in rows]
        assert [7, 7] == [row["id"].version for row in rows]


# Not too many, not too long.


@pytest.mark.parametrize(("how", "jobs"), [("bulk", 25_000), ("bare", 25_000), ("function", 5_000)])
async def test_very_many_jobs_are_a_handful_of_notifications(database: str, how: str, jobs: int) -> None:
    """S1-21: a transaction of very many jobs notifies once a queue, however they come; the server's queue is empty."""
    async with open_session(database) as session, ear_on(database) as (ear, connection):
        await claims.publish_sleep(session, WORKER, ["default", "other"], 60.0)
        if how == "bulk":
            await insert(session, *new_jobs(jobs - 5_000), *new_jobs(5_000, queue="other"))
        else:
            one = {
                "bare": "insert into jobqueue.job (task, queue) select 'x', {}",
                "function": "select jobqueue.defer('x', queue => {})",
            }[how].format("case when n % 5 = 0 then 'other' else 'default' end")
            await connection.execute(f"{one} from generate_series(1, {jobs}) as n", timeout=PATIENCE)
        usage = await connection.fetchval("select pg_notification_queue_usage()")
        assert jobs == await connection.fetchval("select count(*) from jobqueue.job")

        assert ["r:default", "r:other"] == sorted(await ear.so_far())
        assert usage < 0.01


def test_channels_have_room_for_any_name() -> None:
    """S1-20: a channel is at most 63 bytes long for the longest schema, and another one for each schema and purpose."""
    schemas = ["jobqueue", "a" * 48, "a" * 47 + "b", "b" * 48]
    channels = {channel(schema, purpose) for schema in schemas for purpose in ("wake", "done")}

    assert 8 == len(channels)
    assert all(len(name.encode()) <= 63 for name in channels)
    assert f"'{channel('a' * 48, 'wake')}'" == names("a" * 48)[":'wake_channel'"]


async def test_a_long_queue_name_wakes(database: str) -> None:
    """S1-20: the name of a queue travels in the payload, whole, however long it is."""
    queue = "🐘" * 100
    async with open_session(database) as session, ear_on(database) as (ear, _):
        await claims.publish_sleep(session, WORKER, [queue], 60.0)
        await insert(session, new_job(queue=queue))

        assert [f"r:{queue}"] == await ear.so_far()
