"""The producing side of one loop: what it opens, what it needs for a caller's connection, and what it refuses."""

import asyncio

import pytest
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import AppClosed, DatabaseError, DeferUnknown, NotMigrated
from jobqueue.base.job import JobState
from jobqueue.base.new_jobs import NewJobs
from jobqueue.store.connection import pool
from jobqueue.tasks.sending import producer as producing
from jobqueue.tasks.sending import surely as sending
from jobqueue.tasks.sending.producer import Producer
from tests.support.jobs.store import connect, new_job, new_jobs, open_database
from tests.support.jobs.stories import overheard
from tests.support.jobs.working import asked, counted
from tests.support.postgres.backends import backends, change, stored
from tests.support.postgres.locks import jobs_held
from tests.support.postgres.proxy import proxied


async def note(text: str) -> None: ...


async def test_the_schema_is_looked_at_once(database: str) -> None:
    """However many first uses there are at once, one looks at the schema, and later ones do not look again."""
    app = App(database, name="shop")
    task = app.task(note)
    await asyncio.gather(*(task.defer(str(number)) for number in range(50)))

    assert 1 == len(await backends(database)), "each of them has looked, on a connection of its own"
    await change(database, "drop table jobqueue.migration")
    await task.defer("again")
    assert 51 == await counted(database)
    await app.close()


async def test_a_schema_that_comes_later_is_found(empty_database: str) -> None:
    """A first use that fails for the schema does not settle it: once that is there, the next one works."""
    app = App(empty_database)
    task = app.task(note)
    refusals = await asyncio.gather(*(task.defer("a") for _ in range(5)), return_exceptions=True)
    await app.migrate()
    await task.defer("b")

    assert {NotMigrated} == {type(refusal) for refusal in refusals}
    await app.close()


async def test_a_callers_connection_is_all_it_needs(database: str) -> None:
    """S1-05: with connection= the app's own database is not even asked for: it may be out of reach."""
    app = App("postgresql://postgres@127.0.0.1:1/none")
    task = app.task(note)
    async with connect(database) as connection, connection.transaction():
        await task.options(connection=connection).defer("a")
        await app.defer_many([task.job("b"), task.options(unique="k").job("c")], connection=connection)

    assert (3, False) == (await counted(database), app.is_open)
    await app.close()


async def test_nothing_to_send_is_nothing_to_do(database: str) -> None:
    """No jobs are no statement, on our connections as on the caller's."""
    app = App(database)
    task = app.task(note)
    async with connect(database) as connection:
        assert [[], [], []] == [
            await task.defer_many([]),
            await app.defer_many(iter(())),
            await task.options(connection=connection).defer_many([]),
        ]
    await app.close()


async def test_a_closed_producer_takes_nothing(database: str) -> None:
    """Who still holds a producer that was closed is told so, for each way to send."""
    async with open_database(database) as opened:
        producer = Producer(opened, listens=True)
        await producer.send(new_job())
        await producer.close()
        for call in (
            lambda: producer.send(new_job()),
            lambda: producer.send(new_job(resent=True)),
            lambda: producer.send_many(NewJobs(new_jobs(2))),
            lambda: producer.send_many(NewJobs([])),
            lambda: producer.wait_final(uuid7()),
        ):
            with pytest.raises(AppClosed):
                await call()

    assert 1 == await counted(database)


@pytest.mark.parametrize("way", ["unique", "id", "many"])
@pytest.mark.parametrize("arrived", [True, False], ids=["stored", "not stored"])
async def test_a_silent_network_leaves_it_unknown(
    way: str, arrived: bool, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a silent network jobs that are not coalesced are unknown as well, by the id of the first; a resend is safe."""
    for limit in ("STATEMENT_LIMIT", "CONNECT_LIMIT", "CLOSE_LIMIT"):
        monkeypatch.setattr(pool, limit, 0.35)
    async with proxied(database) as proxy, open_database(proxy.dsn) as opened:
        producer = Producer(opened, listens=True)
        await producer.send_many(NewJobs([new_job(key="warm")]))
        jobs = {
            "unique": [new_job(key="k")],
            "id": [new_job(resent=True)],
            "many": new_jobs(3),
        }[way]
        if arrived:
            proxy.lose_answer_to(jobs[0].id.hex.encode() if way == "many" else b"commit\0")
        else:
            proxy.stall()
        with pytest.raises(DeferUnknown) as unknown:
            await producer.send_many(NewJobs(jobs))
        proxy.cut()
        proxy.let_pass()

        assert jobs[0].id == unknown.value.id
        again = [new_job(id=job.id, resent=True, key=job.key) for job in jobs]
        assert [job.id for job in jobs] == [sent.id for sent in await producer.send_many(NewJobs(again))]
        await producer.close()
    assert len(jobs) + 1 == await counted(database)


async def test_cut_off_by_the_caller_in_a_silent_network(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S0-11: a cancelled bulk whose answer does not come in time is unknown, and nothing of it goes on afterwards."""
    monkeypatch.setattr(sending, "CANCEL_LIMIT", 0.3)
    monkeypatch.setattr(producing, "CANCEL_LIMIT", 0.3)
    monkeypatch.setattr(pool, "CLOSE_LIMIT", 0.3)
    async with open_database(database) as opened:
        producer = Producer(opened, listens=True)
        tasks = asyncio.all_tasks()
        with overheard(caplog) as heard:
            async with jobs_held(database) as hold:
                call = asyncio.create_task(producer.send_many(NewJobs(new_jobs(6_000))))
                await hold.waited_for_by(1)
                call.cancel()
                with pytest.raises(DeferUnknown):
                    await call
                assert tasks == asyncio.all_tasks()
            await producer.send(new_job())
        await producer.close()

    assert [] == heard
    assert 1 == await counted(database), "the transaction of many statements was not committed by anybody"


async def test_withdrawn_before_it_was_sent(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S0-11: a keyed job whose caller goes while no connection is free leaves no row, no task and no word."""
    async with open_database(database, max_size=1) as opened:
        producer = Producer(opened, listens=True)
        tasks = asyncio.all_tasks()
        with overheard(caplog) as heard:
            async with opened.connection():
                call = asyncio.create_task(producer.send(new_job(key="k")))
                for _ in range(3):
                    await asyncio.sleep(0)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert tasks == asyncio.all_tasks()
            assert not (await producer.send(new_job(key="k"))).duplicate
        await producer.close()

    assert [] == heard
    assert 1 == await counted(database)


async def test_a_lost_answer_about_a_key(database: str) -> None:
    """A unique job whose answer was lost is found again by the second try: it is no duplicate of itself."""
    async with proxied(database) as proxy:
        app = App(proxy.dsn)
        task = app.task(note)
        await task.options(unique="warm").defer("warm")
        proxy.lose_answer_to(b"commit\0")
        call = asyncio.create_task(task.options(unique="k").defer("a"))
        await stored(database, 2)
        proxy.cut()
        proxy.let_pass()
        handle = await call

        assert not handle.duplicate
        assert JobState.READY is await handle.status()
        assert (await task.options(unique="k").defer("b")).duplicate
        await app.close()
    assert 2 == await asked(database, "select count(*) from jobqueue.job_key")


async def test_no_room_in_the_pool_is_no_mystery(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no connection came free nothing was sent: DatabaseError, not DeferUnknown."""
    async with open_database(database, max_size=1) as opened:
        producer = Producer(opened, listens=True)
        async with opened.connection():
            for job in (new_job(), new_job(resent=True)):
                monkeypatch.setattr(pool, "CONNECT_LIMIT", 0.2)  # only where none can come
                with pytest.raises(DatabaseError):
                    await producer.send(job)
        monkeypatch.undo()
        await producer.send(new_job())
        await producer.close()

    await stored(database, 1)
