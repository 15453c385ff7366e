"""`ctx.transaction()`: what becomes of the handler around the commit, and the worker's connections for it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from jobqueue import App, JobContext, steps
from jobqueue.base.errors import ConfigurationError, JobFailed
from jobqueue.base.job import JobState
from jobqueue.store.connection.pool import Database
from jobqueue.worker.ending import completing
from tests.support.jobs.effects import effects, write_effect
from tests.support.jobs.store import connect
from tests.support.jobs.working import archived, asked, counted, end_of, new_app, reached
from tests.support.patience import PATIENCE, stretched
from tests.support.postgres.backends import WAITS_FOR_LOCK, becomes
from tests.support.waiting import wait_until


@asynccontextmanager
async def commits_held(dsn: str) -> AsyncIterator[None]:
    """Whoever has written an effect waits in its commit until the end of the block."""
    async with connect(dsn) as connection, connection.transaction():
        await connection.execute("""
            create function wait() returns trigger language plpgsql as
                'begin perform pg_advisory_xact_lock_shared(1); return null; end';
            create constraint trigger held after insert on effect deferrable initially deferred
                for each row execute function wait();
        """)
    async with connect(dsn) as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(1)")
        yield


async def test_it_has_ended_while_its_handler_goes_on(own_table: str) -> None:
    """The result is there with the commit; what the handler returns is not the result, and its slot is not free yet."""
    app = new_app(own_table)
    after = asyncio.Event()

    @app.task
    async def work(ctx: JobContext) -> int:
        async with ctx.transaction():
            ctx.complete(42)
        await after.wait()
        return 1

    async with app, app.worker() as worker:
        handle = await work.defer()
        assert 42 == await handle.result(timeout=PATIENCE)
        assert (1, 1) == (await archived(own_table), worker.snapshot().running)
        after.set()
        await wait_until(lambda: worker.snapshot().running == 0, "the handler has ended")
        assert (42, 0) == (await handle.result(), worker.snapshot().refused)


async def test_an_error_after_the_commit_is_only_logged(own_table: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that fails after its completion has committed is completed; the log says that it failed."""
    caplog.set_level(logging.INFO, "jobqueue")
    app = new_app(own_table)

    @app.task
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as conn:
            await write_effect(conn, ctx)
            ctx.complete()
        raise OSError("too late")

    async with app, app.worker() as worker:
        job = await end_of(app, await work.defer())
        await wait_until(lambda: "job.failed_after_completion" in caplog.text, "it is said")
        await wait_until(lambda: worker.snapshot().running == 0, "its slot is free")
    assert (JobState.COMPLETED, 1, 1) == (job.state, await effects(own_table), await archived(own_table))
    assert "job.refused" not in caplog.text


@pytest.mark.parametrize("asks", ["a stop", "a time limit", "the lost claim"])
async def test_a_commit_under_way_is_not_cut(own_table: str, caplog: pytest.LogCaptureFixture, asks: str) -> None:
    """S1-26: who asks the run to end while it commits waits for the commit, which counts; the handler ends after it."""
    app = new_app(own_table)
    came_back: list[str] = []

    @app.task(timeout=stretched(0.3) if asks == "a time limit" else None, retry=steps(0))
    async def work(ctx: JobContext) -> int:
        async with ctx.transaction() as conn:
            await write_effect(conn, ctx)
            ctx.complete(1)
        try:
            await asyncio.sleep(0)
            came_back.append("went on")
            return 0
        except asyncio.CancelledError:
            came_back.append("cancelled")
            raise

    async with app, app.worker() as worker:
        async with commits_held(own_table):
            handle = await work.defer()
            await becomes(own_table, 1, WAITS_FOR_LOCK)
            match asks:
                case "a stop":
                    worker.stop(0)
                    await wait_until(lambda: worker.snapshot().draining, "the run is asked to end")
                case "a time limit":
                    await asked(own_table, f"select pg_sleep({stretched(0.4)})")
                case "the lost claim":
                    worker.supervisor.parts.slots.lose(list(worker.supervisor.parts.slots.running))
        await wait_until(lambda: came_back, "the commit has ended")
        assert 1 == await handle.result(timeout=PATIENCE)
    assert ["went on" if asks == "the lost claim" else "cancelled"] == came_back
    assert (1, 1, 0) == (await effects(own_table), await archived(own_table), await counted(own_table))
    assert "job.refused" not in caplog.text
    assert "job.lost" not in caplog.text


async def test_a_commit_that_the_handler_cuts_itself(own_table: str) -> None:
    """A3, promise 4: a handler's own `timeout` around the block undoes it, or comes after it, and we know which."""
    app = new_app(own_table)
    ended: list[str] = []

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> int:
        try:
            async with asyncio.timeout(0.3 if ctx.attempt == 1 else PATIENCE), ctx.transaction() as conn:
                await write_effect(conn, ctx)
                ctx.complete(ctx.attempt)
        finally:
            ended.append("ended")
        return 0

    async with app, app.worker():
        async with commits_held(own_table):
            handle = await work.defer()
            await wait_until(lambda: ended, "the first try was cut off")
        assert 2 == await handle.result(timeout=PATIENCE)
    assert (1, 1, 0) == (await effects(own_table), await archived(own_table), await counted(own_table))


async def test_a_report_just_before_completing_is_kept(own_table: str) -> None:
    """S3-17: the last word of a job that completes in its own transaction stands in the archive."""
    app = new_app(own_table)

    @app.task
    async def work(ctx: JobContext, number: int) -> None:
        ctx.progress(0.1)
        async with ctx.transaction():
            ctx.progress(1, data=number)
            ctx.complete()

    async with app, app.worker():
        jobs = [await end_of(app, handle) for handle in [await work.defer(number) for number in range(20)]]
    assert list(range(20)) == [job.progress["data"] for job in jobs]


async def test_forty_handlers_share_ten_connections(own_table: str) -> None:
    """More handlers in transactions than connections wait for each other; claims and beats go on."""
    app = new_app(own_table, lease=stretched(3.0), beat=stretched(0.5))

    @app.task
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as conn:
            await write_effect(conn, ctx)
            await conn.execute("select pg_sleep(0.05)")
            ctx.complete()

    async with app, app.worker(concurrency=40):
        for handle in [await work.defer() for _ in range(80)]:
            await handle.result(timeout=PATIENCE)
    assert (80, 80) == (await effects(own_table), await archived(own_table))


async def test_on_a_pool_of_the_users(own_table: str) -> None:
    """With `pool=` the transaction is on one of its connections."""
    async with asyncpg.create_pool(own_table, min_size=0, max_size=10) as pool:
        app = App(pool=pool)

        @app.task
        async def work(ctx: JobContext) -> None:
            async with ctx.transaction() as conn:
                await write_effect(conn, ctx)
                ctx.complete()

        async with app, app.worker():
            await (await work.defer()).result(timeout=PATIENCE)
    assert 1 == await effects(own_table)


async def test_where_it_does_not_belong_it_says_so(own_table: str) -> None:
    """In a thread, in `task.run`, and `complete` outside the block: one clear error each."""
    app = new_app(own_table)

    @app.task(max_attempts=1)
    async def outside(ctx: JobContext) -> None:
        ctx.complete(1)

    @app.task
    async def inside(ctx: JobContext) -> None:
        async with ctx.transaction():
            pass

    async with app, app.worker():
        with pytest.raises(JobFailed, match=r"ctx\.complete\(\): belongs inside"):
            await (await outside.defer()).result(timeout=PATIENCE)
        with pytest.raises(ConfigurationError, match="only a worker has a job to complete"):
            await inside.run()


async def test_as_many_handlers_as_run_have_a_transaction_at_once(own_table: str) -> None:
    """The connections follow the concurrency: no handler waits for another's."""
    app = new_app(own_table)
    there = asyncio.Barrier(12)

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await there.wait()
            await write_effect(connection, ctx)

    async with app, app.worker(concurrency=12):
        handles = [await work.defer() for _ in range(12)]
        assert {JobState.COMPLETED} == {(await end_of(app, handle)).state for handle in handles}
    assert 12 == await effects(own_table)


async def test_to_wait_for_a_connection_spends_no_attempt(own_table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all connections taken for long, a job comes back later, unharmed, until it gets one."""
    monkeypatch.setattr(completing, "_WAIT_LIMIT", 0.3)
    monkeypatch.setattr(completing, "_COME_BACK", 0.1)
    open_for_handlers = Database.open_for_handlers
    monkeypatch.setattr(Database, "open_for_handlers", lambda database, size: open_for_handlers(database, 1))
    app = new_app(own_table)
    holds, lets_go = asyncio.Event(), asyncio.Event()

    @app.task
    async def hold(ctx: JobContext) -> None:
        async with ctx.transaction():
            holds.set()
            await lets_go.wait()

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await write_effect(connection, ctx)

    async with app, app.worker():
        await hold.defer()
        await holds.wait()
        handle = await work.defer()
        await reached(app, handle, JobState.SCHEDULED)
        lets_go.set()
        job = await end_of(app, handle)

    assert (JobState.COMPLETED, 1) == (job.state, job.attempt)
