"""`app.testing(connection=...)`: defers, looks and a burst inside one transaction, which the test rolls back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from jobqueue import (
    App,
    ConfigurationError,
    FailedAttempt,
    InvalidOption,
    JobContext,
    JobFailed,
    JobState,
    Limit,
    ResultTimeout,
    Snooze,
    steps,
)
from tests.support.jobs.store import connect


@asynccontextmanager
async def rolled_back(dsn: str) -> AsyncIterator[Any]:
    """An asyncpg connection in a transaction."""
    async with connect(dsn) as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()


@asynccontextmanager
async def session_rolled_back(dsn: str) -> AsyncIterator[Any]:
    """SQLAlchemy's session in a transaction."""
    engine = create_async_engine(dsn.replace("postgresql://", "postgresql+asyncpg://").partition("?")[0],
                                 connect_args=_host(dsn))  # fmt: skip
    try:
        async with AsyncSession(engine) as session:
            yield session
            await session.rollback()
    finally:
        await engine.dispose()


def _host(dsn: str) -> dict[str, str]:
    query = dict(part.split("=", 1) for part in dsn.partition("?")[2].split("&") if part)
    return {"host": query["host"]} if "host" in query else {}


async def left(dsn: str) -> int:
    """How many rows the tables of jobs have, seen from outside."""
    async with connect(dsn) as other:
        return int(await other.fetchval(
            "select (select count(*) from jobqueue.job) + (select count(*) from jobqueue.job_archive)"
            " + (select count(*) from jobqueue.bundle) + (select count(*) from jobqueue.phase)"
        ))  # fmt: skip


@pytest.mark.parametrize("lending", [rolled_back, session_rolled_back], ids=["asyncpg", "sqlalchemy"])
async def test_defers_looks_and_a_burst_on_one_connection(database: str, lending: Any) -> None:
    """What is deferred with and without `connection=` runs there, with all it defers; nothing of it is left."""
    app = App("postgresql://postgres@127.0.0.1:1/none")
    heard: list[bool] = []

    @app.on_error
    async def hear(failed: FailedAttempt) -> None:
        heard.append(failed.will_retry)

    @app.task(retry=steps(0), max_attempts=2)
    async def child(number: int) -> int:
        if number == 3:
            raise RuntimeError("no")
        return number

    @app.task(queue="reports")
    async def parent(ctx: JobContext, number: int) -> int:
        ctx.progress(0.5)
        await child.defer(number + 1)
        kept: int = await ctx.phase("add", _add, number, 1)
        return kept

    async with lending(database) as conn:
        async with app.testing(connection=conn) as t:
            first = await parent.options(connection=conn).defer(1)
            others = await app.defer_many([parent.job(2), child.options(delay=60).job(9)])
            with pytest.raises(ResultTimeout, match="drain"):
                await first.result()
            assert [first.id, others[0].id] == [job.id for job in await t.drain(queue="reports")]
            assert [2, 3] == [await first.result(), await others[0].result()]
            ran = await t.drain()
            assert ["completed", "dead"] == [job.state for job in ran]
            assert [True, False] == heard
            with pytest.raises(JobFailed, match="no"):
                await child.handle(ran[1].id).result()
            assert JobState.SCHEDULED is await others[1].status()
            await app.jobs.reschedule(others[1].id, delay=0)
            assert [9] == [job.result for job in await t.drain()]
            assert "done" == await (await child.defer(5)).cancel()
            assert 4 == len(t.assert_deferred(child))
            assert 6 == len(await app.jobs.list())
        assert 0 == await left(database)


async def _add(one: int, other: int) -> int:
    return one + other


async def test_a_handlers_own_transaction_and_its_errors(database: str) -> None:
    """ctx.transaction() is a savepoint; a statement that fails undoes its run, and the burst goes on."""
    app = App("postgresql://postgres@127.0.0.1:1/none")
    lent: list[Any] = []

    @app.task(max_attempts=1)
    async def pay(ctx: JobContext, how: str) -> str:
        if how == "break":
            await lent[0].execute("insert into payment values ('lost')")
            await lent[0].execute("select 1 / 0")
        async with ctx.transaction() as conn:
            await conn.execute("insert into payment values ($1)", how)
            if how == "raise":
                raise RuntimeError("undone")
            if how.startswith("complete"):
                ctx.complete("early")
        if how == "complete and break":
            await lent[0].execute("select 1 / 0")
        return "late"

    async with rolled_back(database) as conn:
        lent.append(conn)
        await conn.execute("create table payment (how text)")
        async with app.testing(connection=conn) as t:
            for how in ("plain", "raise", "complete", "break", "complete and break"):
                await pay.defer(how)
            jobs = await t.drain()
            assert ["late", None, "early", None, None] == [job.result for job in jobs]
            assert ["undone", *["division by zero"] * 2] == [job.error.message for job in jobs if job.error]
            assert ["plain", "complete"] == [row[0] for row in await conn.fetch("select how from payment")]
    assert 0 == await left(database)


async def test_bundles_signals_sleeps_and_limits(database: str) -> None:
    """What follows from ends follows here too: callbacks, edges, signals that were waited for, places at a limit."""
    app = App("postgresql://postgres@127.0.0.1:1/none")
    told: list[str] = []

    @app.task(limit=Limit(1))
    async def load(name: str) -> str:
        told.append(name)
        return name.upper()

    @app.task
    async def merge(ctx: JobContext) -> None:
        assert ctx.bundle is not None
        told.append(",".join(await ctx.results(load)))
        await ctx.bundle.add(load.job("late"))

    @app.task
    async def report(ctx: JobContext) -> None:
        assert ctx.bundle is not None
        told.append(",".join((await ctx.bundle.results(load)).values()))

    @app.task
    async def wait(ctx: JobContext) -> str:
        return await ctx.wait_for("go", str)

    async with rolled_back(database) as conn, app.testing(connection=conn) as t:
        async with app.bundle("import", on_success=report.job()) as b:
            first, second = b.add(load.job("a")), b.add(load.job("b"))
            b.add(merge.job(), after=[first, second])
        waits = await wait.defer()
        await t.drain()
        assert ["a", "b", "A,B", "late", "A,B,LATE"] == told
        assert (await app.bundles.wait(b.id)).finished
        assert JobState.SCHEDULED is await waits.status()
        await waits.signal("go", "now")
        await t.drain()
        assert "now" == await waits.result()
    assert 0 == await left(database)


async def test_nothing_is_published_before_it_is_verified(database: str) -> None:
    """S2-21: a job that comes after another does not run if that one fails, and the graph shows why."""
    app = App("postgresql://postgres@127.0.0.1:1/none")

    @app.task(max_attempts=1)
    async def verify(sound: bool) -> None:
        assert sound

    @app.task
    async def publish() -> None: ...

    async with rolled_back(database) as conn, app.testing(connection=conn) as t:
        for sound, state in ((True, "completed"), (False, "cancelled")):
            async with app.bundle("release") as b:
                verified = b.add(verify.job(sound))
                published = b.add(publish.job(), after=[verified])
            assert f"after …{str(verified.id)[-8:]}" in str(await app.bundles.graph(b.id))
            await t.drain()
            assert state == await published.status()


async def test_what_one_connection_cannot_do(database: str) -> None:
    """A worker, the clock, a connection in no transaction and another mode are refused, each with what to do."""
    app = App(database)
    async with connect(database) as conn:
        with pytest.raises(InvalidOption, match="must be in a transaction"):
            app.testing(connection=conn)
        with pytest.raises(InvalidOption, match="record"):
            app.testing("inline", connection=conn)
        with pytest.raises(InvalidOption, match="connection"):
            app.testing(connection=object())
        with (
            psycopg.connect(database) as sync,
            pytest.raises(InvalidOption, match=r"is synchronous.*`with app\.testing"),
        ):
            app.testing(connection=sync)
        async with await psycopg.AsyncConnection.connect(database) as other:
            with pytest.raises(InvalidOption, match=r"must be one of asyncpg, or of SQLAlchemy on asyncpg"):
                app.testing(connection=other)
        async with conn.transaction(), app.testing(connection=conn) as t:
            with pytest.raises(ConfigurationError, match="one connection"):
                await app.run_until_idle()
            with pytest.raises(ConfigurationError, match="time stands still"):
                t.clock.advance(1)
    assert not app.is_open


async def test_a_job_that_snoozes_or_is_unknown(database: str) -> None:
    """Neither holds the burst up."""
    app, other = App("postgresql://postgres@127.0.0.1:1/none"), App.null()

    @app.task
    async def tired() -> None:
        raise Snooze(60)

    @other.task
    async def elsewhere() -> None: ...

    async with rolled_back(database) as conn, app.testing(connection=conn) as t:
        handle = await tired.defer()
        (unknown,) = await app.defer_many([elsewhere.job()])
        assert {handle.id, unknown.id} == {job.id for job in await t.drain()}
        assert [("scheduled", 0)] * 2 == [(job.state, job.attempt) for job in t.deferred()]


async def test_a_paused_queue_holds_up_no_other(database: str) -> None:
    """What is paused stays where it is, however urgent, and the rest runs."""
    app = App("postgresql://postgres@127.0.0.1:1/none")
    urgent = app.task(name="urgent", queue="a", priority=9)(_add)
    other = app.task(name="other", queue="b")(_add)

    async with rolled_back(database) as conn, app.testing(connection=conn) as t:
        waiting, running = await urgent.defer(1, 1), await other.defer(1, 2)
        await app.queues.pause("a")
        assert [running.id] == [job.id for job in await t.drain()]
        await app.queues.resume("a")
        assert [waiting.id] == [job.id for job in await t.drain()]
