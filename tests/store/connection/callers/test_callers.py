"""The three kinds of caller's connections as executors: one statement text, each in its own library's way."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from jobqueue.base.errors import InvalidOption
from jobqueue.store.connection.callers.choosing import executor_on, sync_executor_on
from jobqueue.store.connection.callers.on_asyncpg import OnAsyncpg
from jobqueue.store.connection.callers.on_sqlalchemy import OnSqlalchemy
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import Fault, classify
from jobqueue.store.schema.statements import statements
from tests.support.jobs.store import connect, new_job
from tests.support.jobs.working import asked, counted
from tests.support.postgres.backends import change


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    dsn = database.replace("postgresql://", "postgresql+asyncpg://", 1).replace("&sslmode=disable", "")
    engine = create_async_engine(dsn, poolclass=NullPool)
    yield engine
    await engine.dispose()


async def fetch_some(executor: Executor) -> None:
    """Rows come with columns by place, none come as none, and values are told apart whatever they are."""
    job = new_job(args='{"text": "100% $1 :name %(p1)s"}')
    values: list[Any] = [
        str(job.id), job.args, None, '{"a": [1]}', None,
        ["mail"], [job.task], [-3], [None], [None], [5], [1.5], [None], [None], ["o"],
        [False], [None], [None], [None],
    ]  # fmt: skip
    async with executor.transaction():
        rows = await executor.fetch("insert_jobs", *values, True)
        assert [None] == [row[0] for row in rows], "all went in"
        assert [] == list(await executor.fetch("insert_jobs", *values, True)), "it is there already"
        assert [] == list(await executor.fetch("withdraw_jobs", [], []))


STORED = "select format('%s %s %s %s %s', queue, args ->> 'text', priority, timeout, meta) from jobqueue.job"
AS_STORED = 'mail 100% $1 :name %(p1)s -3 1.5 {"a": [1]}'


async def test_on_asyncpg(database: str) -> None:
    """Statements run on an asyncpg connection; outside a transaction, `transaction` commits."""
    async with connect(database) as connection:
        executor = executor_on(connection, "jobqueue")
        assert isinstance(executor, OnAsyncpg)
        await fetch_some(executor)

        assert AS_STORED == await asked(database, STORED)


async def test_on_sqlalchemy(engine: AsyncEngine, database: str) -> None:
    """Statements run through SQLAlchemy, which begins by itself and is not committed."""
    async with engine.connect() as connection:
        executor = executor_on(connection, "jobqueue")
        assert isinstance(executor, OnSqlalchemy)
        await fetch_some(executor)
        assert connection.in_transaction()
        assert 0 == await counted(database)
        await connection.commit()

    assert AS_STORED == await asked(database, STORED)


async def test_on_psycopg(database: str) -> None:
    """Statements run on a psycopg connection without ever suspending, and are not committed."""
    with psycopg.connect(database) as connection:
        steps = fetch_some(sync_executor_on(connection, "jobqueue"))
        with pytest.raises(StopIteration):
            steps.send(None)
        assert 0 == await counted(database)
        connection.commit()

    assert AS_STORED == await asked(database, STORED)


@pytest.mark.parametrize("kind", ["asyncpg", "sqlalchemy"])
async def test_a_transaction_that_fails_leaves_nothing(kind: str, engine: AsyncEngine, database: str) -> None:
    """What was done inside a failed `transaction` on a connection without one of its own is gone."""
    on: AbstractAsyncContextManager[Any] = (
        connect(database) if kind == "asyncpg" else engine.execution_options(isolation_level="AUTOCOMMIT").connect()
    )
    async with on as connection:
        executor = executor_on(connection, "jobqueue")
        with pytest.raises(ZeroDivisionError):
            async with executor.transaction():
                assert 1 == len(await executor.fetch("take_keys", ["k"], [str(new_job().id)], ["unfinished"], [None]))
                raise ZeroDivisionError

        assert 0 == await asked(database, "select count(*) from jobqueue.job_key")


async def test_the_schema_of_the_app_is_used(engine: AsyncEngine, database: str) -> None:
    """Another schema's statements go to that schema, on each kind of connection."""
    await change(database, "alter schema jobqueue rename to shop")
    with psycopg.connect(database, autocommit=True) as plain:
        async with connect(database) as connection, engine.connect() as through:
            for executor in (executor_on(connection, "shop"), executor_on(through, "shop")):
                assert [] == list(await executor.fetch("key_holders", ["k"]))
        with pytest.raises(StopIteration) as found:
            sync_executor_on(plain, "shop").fetch("key_holders", ["k"]).send(None)

    assert [] == found.value.value


async def test_a_refused_row_is_the_same_fault_on_each(engine: AsyncEngine, database: str) -> None:
    """A row that breaks a rule is BAD_DATA with the rule's name, whichever library reports it."""
    bad = [
        str(new_job().id),
        "{}",
        None,
        None,
        None,
        ["q"],
        ["t" * 101],
        [0],
        *[[None]] * 2,
        [1],
        *[[None]] * 4,
        [False],
        *[[None]] * 3,
        True,
    ]
    errors: list[BaseException] = []
    async with connect(database) as connection, engine.connect() as through:
        for executor in (executor_on(connection, "jobqueue"), executor_on(through, "jobqueue")):
            with pytest.raises(Exception, match=r".") as told:
                await executor.fetch("insert_jobs", *bad)
            errors.append(told.value)
    with psycopg.connect(database) as plain, pytest.raises(Exception, match=r".") as told:
        await sync_executor_on(plain, "jobqueue").fetch("insert_jobs", *bad)
    errors.append(told.value)

    assert [Fault.BAD_DATA] * 3 == [classify(error) for error in errors]
    assert ["job_task_length"] * 3 == [getattr(error, "constraint_name", None) for error in errors]


def test_no_statement_has_a_sign_that_psycopg_reads() -> None:
    """A percent sign in a statement would be a parameter to psycopg."""
    assert [] == [name for name, statement in statements().items() if "%" in statement.sql]


@pytest.mark.parametrize("given", [None, 1, "dsn", object(), type("AsyncSession", (), {"scalar": 1})()])
def test_nonsense_is_refused(given: object) -> None:
    """What is no connection is refused by the name of the option, for both kinds of defer."""
    with pytest.raises(InvalidOption, match=r"connection: must be an asyncpg connection"):
        executor_on(given, "jobqueue")
    with pytest.raises(InvalidOption, match=r"connection: must be a psycopg connection"):
        sync_executor_on(given, "jobqueue")
