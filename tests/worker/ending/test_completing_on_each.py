"""`ctx.transaction()`, on a connection of the worker's or on what a handler gives: all that it does is one commit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import asyncpg
import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from jobqueue import App, JobContext, Work, steps
from jobqueue.base.errors import InvalidOption, JobFailed
from jobqueue.base.job import JobState
from tests.support.jobs.beating import QUIET
from tests.support.jobs.deaths import take_away
from tests.support.jobs.effects import EFFECTS, effects, write_effect
from tests.support.jobs.joining import ASYNC, for_sqlalchemy
from tests.support.jobs.working import archived, asked, counted, end_of, new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change
from tests.support.postgres.database import Databases
from tests.support.postgres.kept import kept_open
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until

Given: TypeAlias = Callable[[str], AbstractAsyncContextManager[dict[str, Any]]]


def engine_on(driver: str, dsn: str, **more: Any) -> AsyncEngine:
    return create_async_engine(for_sqlalchemy(driver, dsn), poolclass=NullPool, **more)


def maker(driver: str, **more: Any) -> Given:
    @asynccontextmanager
    async def given(dsn: str) -> AsyncIterator[dict[str, Any]]:
        engine = engine_on(driver, dsn, **more)
        yield {"session": async_sessionmaker(engine)}
        await engine.dispose()

    return given


@asynccontextmanager
async def a_session(dsn: str) -> AsyncIterator[dict[str, Any]]:
    async with AsyncSession(engine_on("psycopg", dsn)) as session:
        yield {"session": session}


@asynccontextmanager
async def sqlalchemys(dsn: str) -> AsyncIterator[dict[str, Any]]:
    async with engine_on("psycopg", dsn).connect() as connection:
        yield {"connection": connection}


def psycopgs(autocommit: bool) -> Given:
    @asynccontextmanager
    async def given(dsn: str) -> AsyncIterator[dict[str, Any]]:
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=autocommit)
        yield {"connection": connection}
        await connection.close()

    return given


@asynccontextmanager
async def asyncpgs(dsn: str) -> AsyncIterator[dict[str, Any]]:
    connection = await asyncpg.connect(dsn)
    yield {"connection": connection}
    await connection.close()


GIVEN: dict[str, Given] = {
    "the worker's": lambda dsn: nullcontext({}),
    "a maker on asyncpg": maker("asyncpg"),
    "a maker on psycopg": maker("psycopg"),
    "a maker in autocommit": maker("psycopg", isolation_level="AUTOCOMMIT"),
    "a session": a_session,
    "SQLAlchemy's connection": sqlalchemys,
    "psycopg's connection": psycopgs(False),
    "psycopg's in autocommit": psycopgs(True),
    "asyncpg's connection": asyncpgs,
}


@pytest.mark.parametrize("kind", GIVEN)
async def test_all_of_it_commits_together(kind: str, own_table: str) -> None:
    """Rows, follow-up job and result are there at once, not before; an error undoes them, and the next try counts."""
    app = new_app(own_table)
    before: list[tuple[int, int]] = []

    @app.task
    async def follow(number: int) -> int:
        return number

    async with GIVEN[kind](own_table) as given:

        @app.task(retry=steps(0))
        async def work(ctx: JobContext) -> int:
            async with ctx.transaction(**given) as own:
                await write_effect(own, ctx)
                await follow.options(connection=own).defer(7)
                ctx.progress(0.5)
                ctx.complete(42)
                before.append((await effects(own_table), await counted(own_table, "task = 'follow'")))
                if ctx.attempt == 1:
                    raise OSError("once")
            return 1

        async with app, app.worker():
            handle = await work.defer()
            assert 42 == await handle.result(timeout=PATIENCE)
            await wait_until(lambda: all_ended(own_table), "the follow-up has run")
            job = await end_of(app, handle)

    assert [(0, 0), (0, 0)] == before
    assert (JobState.COMPLETED, 2, [2]) == (job.state, job.attempt, await asked(own_table, ATTEMPTS))
    assert (2, 0) == (await archived(own_table), await counted(own_table))


ATTEMPTS = "select array_agg(attempt) from effect"


async def all_ended(dsn: str) -> bool:
    return await archived(dsn) == 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own(databases: Databases, template: str) -> AsyncIterator[str]:
    """As `own_table`, for several tests, which run in the loop of their module."""
    with databases.temporary(template) as dsn:
        async with kept_open(dsn):
            await change(dsn, EFFECTS)
            yield dsn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(own: str) -> AsyncIterator[tuple[App, Work]]:
    """An app with a quiet worker on that one."""
    async with new_app(own, **QUIET) as app, app.worker() as worker:
        yield app, worker


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("completes", [True, False])
async def test_a_lost_claim_commits_nothing(completes: bool, kind: str, own: str, served: tuple[App, Work]) -> None:
    """S1-26: a claim that another has taken makes the block fail before its commit, whether it completes or not."""
    app, worker = served
    refused = worker.snapshot().refused
    told: list[BaseException] = []

    async with GIVEN[kind](own) as given:

        @app.task(name=f"lost {completes} {kind}", retry=steps(0))
        async def work(ctx: JobContext) -> None:
            try:
                async with ctx.transaction(**given) as mine:
                    await write_effect(mine, ctx)
                    await take_away(own, ctx.job.id)
                    if completes:
                        ctx.complete()
            except Exception as error:
                told.append(error)
                raise

        handle = await work.defer()
        await wait_until(lambda: told, "the block has failed")
        await wait_until(lambda: worker.snapshot().refused == refused + 1, "the failure is refused as well")
    assert ["ClaimLost"] == [type(error).__name__ for error in told]
    assert (0, 0, 1) == (await effects(own), await archived(own), await counted(own, "id = $1", handle.id))


@pytest.mark.parametrize("kind", ["the worker's", "a maker on asyncpg", "a maker on psycopg", "psycopg's connection"])
async def test_a_commit_whose_answer_is_lost_counts(
    kind: str, own_table: str, caplog: pytest.LogCaptureFixture
) -> None:
    """C13: when the connection breaks in the commit, the archive tells what happened: completed once, run once."""
    went_on: list[int] = []
    async with proxied(own_table) as proxy, GIVEN[kind](proxy.dsn) as given:
        far = new_app(proxy.dsn)

        @far.task(retry=steps(0))
        async def work(ctx: JobContext) -> int:
            async with ctx.transaction(**given) as own:
                await write_effect(own, ctx)
                ctx.complete(ctx.attempt)
                proxy.lose_answer_to(b"COMMIT")
            went_on.append(ctx.attempt)
            return 0

        async with far, far.worker():
            handle = await work.defer()

            async def committed() -> bool:
                return await archived(own_table) == 1

            await wait_until(committed, "it has committed")
            proxy.cut()
            proxy.let_pass()
            assert 1 == await handle.result(timeout=PATIENCE)
            await wait_until(lambda: went_on == [1], "the handler was told that it has committed")
    assert 1 == await effects(own_table)
    assert "job.refused" not in caplog.text


async def test_what_cannot_be_its_transaction(own_table: str) -> None:
    """In a transaction already, an engine, what makes nothing of use, both ways at once: refused in a sentence."""
    app = new_app(own_table)
    told: list[str] = []
    given: dict[str, Any] = {}

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        try:
            async with ctx.transaction(**given):
                ctx.complete()
        except InvalidOption as error:
            told.append(str(error))
            raise

    async def refused() -> str:
        with pytest.raises(JobFailed):
            await (await work.defer()).result(timeout=PATIENCE)
        return told.pop()

    async with app, app.worker():
        for library in ("asyncpg", "tortoise", "sqlalchemy session on psycopg", "psycopg"):
            async with ASYNC[library](own_table) as joined:
                await joined.execute("select 1")
                given["connection"] = joined.connection
                assert "connection: is in a transaction; ctx.transaction begins and commits" in await refused()
        given["connection"] = engine_on("asyncpg", own_table)
        assert "an engine has no transaction" in await refused()
        given["connection"] = sessionmaker(create_engine(for_sqlalchemy("psycopg", own_table)))
        assert "is synchronous (sqlalchemy.orm.session.Session)" in await refused()
        given["connection"] = dict
        assert "must be an asyncpg connection" in await refused()
        given["session"] = async_sessionmaker(engine_on("asyncpg", own_table))
        assert "give either session= or connection=" in await refused()


async def test_a_cancelled_block_leaves_nothing(own_table: str) -> None:
    """Promise 4: a handler's own time limit inside the block undoes it, on psycopg as well; the next run completes."""
    app = new_app(own_table)

    async with GIVEN["a maker on psycopg"](own_table) as given:

        @app.task(retry=steps(0))
        async def work(ctx: JobContext) -> None:
            async with asyncio.timeout(0.1 if ctx.attempt == 1 else PATIENCE), ctx.transaction(**given) as own:
                await write_effect(own, ctx)
                ctx.complete()
                if ctx.attempt == 1:
                    await asyncio.Event().wait()

        async with app, app.worker():
            job = await end_of(app, await work.defer())
    assert (JobState.COMPLETED, [2]) == (job.state, await asked(own_table, ATTEMPTS))
