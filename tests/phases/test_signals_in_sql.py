"""Signals from plain SQL and on callers' connections: in their transactions, at any isolation, with odd values."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from jobqueue import App, Change, JobContext, JobHandle, JobState, TooManySignals, steps
from tests.support.jobs.store import connect, seen_waiting
from tests.support.jobs.working import asked, end_of, new_app
from tests.support.postgres.backends import backends
from tests.support.waiting import wait_until

SIGNAL = "select jobqueue.signal(%s, %s, %s)"


def waiting(app: App, **options: Any) -> Any:
    """A task that waits for a word."""

    @app.task(name="waits", **options)
    async def waits(ctx: JobContext) -> str:
        return await ctx.wait_for("word", str)

    return waits


async def parked(app: App, **options: Any) -> JobHandle[str]:
    """A job that has been put to sleep until such a word comes."""
    handle: JobHandle[str] = await waiting(app).options(**options).defer()
    await app.run_worker(burst=True)
    assert JobState.SCHEDULED is await handle.status()
    return handle


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_plain_sql_sends_with_its_transaction(database: str, commits: bool) -> None:
    """jobqueue.signal() in an open transaction wakes the job at the commit; rolled back it was never called."""
    async with new_app(database) as app:
        handle = await parked(app)
        with psycopg.connect(database) as connection:
            assert ("done",) == connection.execute(SIGNAL, (handle.id, "word", '"sql"')).fetchone()
            assert JobState.SCHEDULED is await handle.status()
            connection.commit() if commits else connection.rollback()
        await app.run_worker(burst=True)

        assert (JobState.COMPLETED if commits else JobState.SCHEDULED) is await handle.status()
        assert int(not commits) == await asked(database, "select count(*) from jobqueue.job where signals = 0")


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_a_session_of_sqlalchemy_sends_with_its_transaction(database: str, commits: bool) -> None:
    """app.jobs.signal(connection=session) is said in the session's transaction, as its first statement too."""
    dsn = database.replace("postgresql://", "postgresql+asyncpg://", 1).replace("&sslmode=disable", "")
    engine = create_async_engine(dsn, poolclass=NullPool)
    async with new_app(database) as app:
        handle = await parked(app)
        async with AsyncSession(engine) as session:
            assert Change.DONE is await app.jobs.signal(handle.id, "word", "alchemy", connection=session)
            assert JobState.SCHEDULED is await handle.status()
            await (session.commit() if commits else session.rollback())
        await engine.dispose()
        await app.run_worker(burst=True)

        assert (JobState.COMPLETED if commits else JobState.SCHEDULED) is await handle.status()


ID = UUID("01900000-0000-7000-8000-000000000001")
REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "no id": ((None, "word", "1"), "id: must be the id of a job"),
    "no name": ((ID, None, "1"), "name: must have 1 to 100 characters"),
    "empty name": ((ID, "", "1"), "name: must have 1 to 100 characters"),
    "long name": ((ID, "x" * 101, "1"), "name: must have 1 to 100 characters"),
    "no payload": ((ID, "word", None), "payload: must be JSON of at most 1048576 bytes"),
    "large payload": ((ID, "word", f'"{"ü" * 524_288}"'), "payload: must be JSON of at most 1048576 bytes"),
    "no json": ((ID, "word", "{'by': 1}"), "invalid input syntax for type json"),
    "nothing": ((ID, "word", ""), "invalid input syntax for type json"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_odd_arguments_are_refused(database: str, case: str) -> None:
    """What is wrong with an argument is told in SQL by its name; nothing is sent, and the caller's session lives."""
    values, told = REFUSED[case]
    async with new_app(database) as app:
        handle = await waiting(app).options(id=ID).defer()
        with psycopg.connect(database, autocommit=True) as connection:
            with pytest.raises(psycopg.DataError, match=told):
                connection.execute(SIGNAL, values)
            assert ("done",) == connection.execute(SIGNAL, (handle.id, "x" * 100, "null")).fetchone()
    assert 1 == await asked(database, "select count(*) from jobqueue.signal")


@pytest.mark.parametrize("payload", ['{"a": "\\ud800"}', '"\\ud800"', "1e999", "[" * 300 + "]" * 300, "12"])
async def test_a_payload_that_python_cannot_read_fails_one_attempt(database: str, payload: str) -> None:
    """JSON that PostgreSQL takes, and Python or the type does not, is gone with the attempt that it fails."""
    async with new_app(database) as app:
        handle = await waiting(app, retry=steps(0)).defer()
        with psycopg.connect(database, autocommit=True) as connection:
            for each in (payload, '"good"'):
                connection.execute(SIGNAL, (handle.id, "word", each))
        await app.run_worker(burst=True)
        job = await end_of(app, handle)

    assert ("good", 1, "word") == (job.result, len(job.errors), job.errors[0].phase)
    assert "signal 'word'" in job.errors[0].message


async def test_what_became_of_it_is_said(database: str) -> None:
    """A job that is not there, one that has ended, and one with a full mailbox: each has its word."""
    async with new_app(database) as app:
        handle, ended = await parked(app), await waiting(app).defer()
        await ended.cancel()
        async with connect(database) as connection:
            send = "select jobqueue.signal($1, 'spam') from generate_series(1, $2)"
            assert "not_found" == await connection.fetchval(send, ID, 1)
            assert "too_late" == await connection.fetchval(send, ended.id, 1)
            said = [row[0] for row in await connection.fetch(send, handle.id, 1_001)]
            assert [*["done"] * 1_000, "full"] == said
            with pytest.raises(TooManySignals):
                await app.jobs.signal(handle.id, "word", connection=connection)
        assert JobState.SCHEDULED is await handle.status()


async def test_a_job_that_was_moved_while_it_waits_is_woken(database: str) -> None:
    """Another queue, time or priority is given to a job that waits for a signal: it runs there when that comes."""
    async with new_app(database) as app:
        handle = await parked(app)
        await app.jobs.move(handle.id, to="other")
        await app.jobs.reschedule(handle.id, delay=7 * 86_400)
        await app.jobs.set_priority(handle.id, priority=5)
        async with app.worker(queues=["other"]):
            await handle.signal("word", "moved")
            job = await end_of(app, handle)

    assert ("moved", "other", 5, 1) == (job.result, job.queue, job.priority, job.attempt)


async def test_a_blocked_job_keeps_its_signals(database: str) -> None:
    """A job that waits for another is not let go by a signal, and finds it once it runs."""
    async with new_app(database) as app:
        waits = waiting(app)
        async with app.bundle("pair") as bundle:
            first = bundle.add(waits.job())
            second = bundle.add(waits.job(), after=[first])
        assert Change.DONE is await second.signal("word", "second")
        assert JobState.BLOCKED is await second.status()
        async with app.worker():
            await first.signal("word", "first")
            assert "second" == (await end_of(app, second)).result


async def test_a_paused_queue_stays_paused(database: str) -> None:
    """A signal makes a job ready that waits for it, and no more: in a paused queue it runs after the pause."""
    async with new_app(database) as app:
        handle = await parked(app)
        await app.queues.pause("default")
        async with app.worker():
            await handle.signal("word", "later")
            assert JobState.READY is await handle.status()
            await app.queues.resume("default")
            assert ("later", 1) == ((job := await end_of(app, handle)).result, job.attempt)


LOOKED = "query like any (array['%j.signals as seen%', '%is not distinct from $3 offset 0%'])"
"""take_signals, or still_claimed after it."""
LEVELS = ("read_committed", "repeatable_read", "serializable")


@pytest.mark.parametrize("level", LEVELS)
async def test_every_isolation_level_may_send(database: str, level: Any) -> None:
    """A transaction that sees the job as it is sends at any isolation level, and wakes it."""
    async with new_app(database) as app:
        handle = await parked(app)
        async with connect(database) as connection, connection.transaction(isolation=level):
            assert Change.DONE is await app.jobs.signal(handle.id, "word", level, connection=connection)
        await app.run_worker(burst=True)

        assert level == (await end_of(app, handle)).result


@pytest.mark.parametrize("level", LEVELS[1:])
async def test_an_old_snapshot_is_told_so(database: str, level: Any) -> None:
    """One whose snapshot is older than the job's last move gets a serialization failure, as for a row of its own."""
    async with new_app(database) as app:
        handle = await waiting(app).defer()
        async with connect(database) as connection:
            with pytest.raises(asyncpg.SerializationError):
                async with connection.transaction(isolation=level):
                    await connection.execute("select count(*) from jobqueue.job")
                    await app.run_worker(burst=True)  # puts it to sleep
                    await app.jobs.signal(handle.id, "word", "old", connection=connection)
            async with connection.transaction(isolation=level):
                await app.jobs.signal(handle.id, "word", "new", connection=connection)
        await app.run_worker(burst=True)

        assert "new" == (await end_of(app, handle)).result


@pytest.mark.parametrize("level", LEVELS)
async def test_one_that_is_sent_on_the_way_to_sleep_is_heard(database: str, level: Any) -> None:
    """Sent while the handler runs, committed only when the job wants to sleep: it is put off, and then hears it."""
    app, begun, go = new_app(database), asyncio.Event(), asyncio.Event()

    @app.task
    async def work(ctx: JobContext) -> str:
        begun.set()
        await go.wait()
        return await ctx.wait_for("word", str)

    async with app, app.worker(), connect(database) as connection:
        handle = await work.defer()
        await begun.wait()
        async with connection.transaction(isolation=level):
            await app.jobs.signal(handle.id, "word", "open", connection=connection)
            go.set()
            await wait_until(lambda: backends(database, LOOKED), "the job has looked, and found its row locked")
        assert "open" == (await end_of(app, handle)).result


async def test_a_job_on_its_way_back_from_the_archive_is_found(database: str) -> None:
    """A retry that commits between the look at the jobs and at the archive: the new run has the signal."""
    async with new_app(database) as app:
        handle = await waiting(app).defer()
        await handle.cancel()
        async with connect(database) as holder, connect(database) as sender:
            async with holder.transaction():
                await holder.execute("lock table jobqueue.job_archive in access exclusive mode")
                sending = asyncio.create_task(app.jobs.signal(handle.id, "word", "back", connection=sender))
                await seen_waiting(holder, sender.get_server_pid())
                await app.jobs.retry(handle.id, connection=holder)
            assert Change.DONE is await sending
        await app.run_worker(burst=True)

        assert "back" == (await end_of(app, handle)).result
