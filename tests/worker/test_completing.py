"""`ctx.transaction()`: the handler's rows, the jobs it defers and its completion are one commit."""

import asyncio
import logging
from typing import Any

import asyncpg
import pytest

from jobqueue import App, JobContext, steps
from jobqueue.base.errors import ConfigurationError, JobFailed
from jobqueue.base.job import JobState
from tests.support.proxy import proxied
from tests.support.store import connect
from tests.support.waiting import wait_until
from tests.support.working import archived, asked, counted, end_of, new_app

EFFECTS = "create table effect (job uuid, attempt integer)"


async def effects(dsn: str) -> int:
    return int(await asked(dsn, "select count(*) from effect"))


async def write_effect(connection: Any, ctx: JobContext) -> None:
    await connection.execute("insert into effect values ($1, $2)", ctx.job.id, ctx.attempt)


@pytest.fixture
async def own_table(database: str) -> str:
    """A database with a table of the user's."""
    async with connect(database) as connection:
        await connection.execute(EFFECTS)
    return database


async def test_all_of_it_commits_together(own_table: str) -> None:
    """Rows, follow-up job and result are there at once; what the handler returns afterwards is not the result."""
    app = new_app(own_table)
    after = asyncio.Event()

    @app.task
    async def follow(number: int) -> int:
        return number

    @app.task
    async def work(ctx: JobContext) -> int:
        async with ctx.transaction() as conn:
            await write_effect(conn, ctx)
            await follow.options(connection=conn).defer(7)
            ctx.complete(42)
            assert 0 == await effects(own_table), "nobody sees it yet"
        await after.wait()
        return 1

    async with app, app.worker() as worker:
        handle = await work.defer()
        assert 42 == await handle.result(timeout=10)
        assert (1, 1) == (await effects(own_table), worker.snapshot().running)
        after.set()
        await wait_until(lambda: worker.snapshot().running == 0, "the handler has ended")
    assert (2, 0) == (await archived(own_table), await counted(own_table))
    assert 0 == worker.snapshot().refused


async def test_an_error_in_the_block_undoes_all_of_it(own_table: str) -> None:
    """What raises after `complete` rolls back rows, follow-up and completion; the attempt failed, the next succeeds."""
    app = new_app(own_table)

    @app.task
    async def follow() -> None: ...

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as conn:
            await write_effect(conn, ctx)
            await follow.options(connection=conn).defer()
            ctx.complete()
            if ctx.attempt == 1:
                raise OSError

    async with app, app.worker():
        handle = await work.defer()
        job = await end_of(app, handle)
        await wait_until(lambda: archived_are(own_table, 2), "the follow-up has run")
    assert (JobState.COMPLETED, 2, 1) == (job.state, job.attempt, len(job.errors))
    assert [2] == [await asked(own_table, "select attempt from effect")]


async def archived_are(dsn: str, count: int) -> bool:
    return await archived(dsn) == count


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


@pytest.mark.parametrize("completes", [True, False])
async def test_a_lost_claim_commits_nothing(own_table: str, completes: bool) -> None:
    """S1-26: a claim that another has taken makes the block fail before its commit, whether it completes or not."""
    app = new_app(own_table, rescue_interval=3600)
    told: list[BaseException] = []

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> None:
        try:
            async with ctx.transaction() as conn:
                await write_effect(conn, ctx)
                async with connect(own_table) as another:
                    await another.execute("update jobqueue.job set fence = nextval('jobqueue.fence_seq')")
                if completes:
                    ctx.complete()
        except Exception as error:
            told.append(error)
            raise

    async with app, app.worker() as worker:
        await work.defer()
        await wait_until(lambda: told, "the block has failed")
        await wait_until(lambda: worker.snapshot().refused == 1, "the failure is refused as well")
    assert ["ClaimLost"] == [type(error).__name__ for error in told]
    assert (0, 0, 1) == (await effects(own_table), await archived(own_table), await counted(own_table))


async def test_a_commit_whose_answer_is_lost_counts(own_table: str, caplog: pytest.LogCaptureFixture) -> None:
    """C13: when the connection breaks in the commit, the archive tells what happened: completed once, run once."""
    app_dsn = own_table
    async with proxied(own_table) as proxy:
        far = new_app(proxy.dsn)

        @far.task(retry=steps(0))
        async def work(ctx: JobContext) -> int:
            async with ctx.transaction() as conn:
                await write_effect(conn, ctx)
                ctx.complete(ctx.attempt)
                proxy.lose_answer_to(b"COMMIT;")
            return 0

        async with far, far.worker():
            handle = await work.defer()

            async def committed() -> bool:
                return await archived(app_dsn) == 1

            await wait_until(committed, "it has committed")
            proxy.cut()
            proxy.let_pass()
            assert 1 == await handle.result(timeout=15)
    assert 1 == await effects(own_table)
    assert "job.refused" not in caplog.text


async def test_forty_handlers_share_ten_connections(own_table: str) -> None:
    """More handlers in transactions than connections wait for each other; claims and beats go on."""
    app = new_app(own_table, lease=3.0, beat=0.5)

    @app.task
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as conn:
            await write_effect(conn, ctx)
            await conn.execute("select pg_sleep(0.05)")
            ctx.complete()

    async with app, app.worker(concurrency=40):
        for handle in [await work.defer() for _ in range(80)]:
            await handle.result(timeout=15)
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
            await (await work.defer()).result(timeout=10)
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
            await (await outside.defer()).result(timeout=10)
        with pytest.raises(ConfigurationError, match="only a worker has a job to complete"):
            await inside.run()
