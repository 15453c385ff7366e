"""connection=: a job joins the transaction of SQLAlchemy's AsyncSession or AsyncConnection on asyncpg."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import NullPool
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.errors import InvalidPayload
from tests.support.jobs.stories import whole_story
from tests.support.jobs.working import asked, counted
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change

REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"
SECRET = "marker-7f3a"


class Base(DeclarativeBase): ...


class Invoice(Base):
    __tablename__ = "invoice"
    number: Mapped[int] = mapped_column(primary_key=True)


class OwnSession(AsyncSession):
    """A session of a user's own, as SQLModel's is."""


async def note(text: str) -> str:
    return text


def on(driver: str, dsn: str) -> str:
    """The DSN as SQLAlchemy wants it: it hands `sslmode` on to asyncpg, which knows it in a DSN only."""
    return dsn.replace("postgresql://", f"postgresql+{driver}://", 1).replace("&sslmode=disable", "")


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    await change(database, "create table invoice (number integer primary key)")
    engine = create_async_engine(on("asyncpg", database), poolclass=NullPool)
    yield engine
    await engine.dispose()


@pytest.mark.parametrize("kind", [AsyncSession, OwnSession])
@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_a_session(commits: bool, kind: type[AsyncSession], engine: AsyncEngine, database: str) -> None:
    """S1-05: what a session adds and what it defers commit or roll back together."""
    app = App(database)
    task = app.task(note)
    async with async_sessionmaker(engine, class_=kind)() as session:
        session.add(Invoice(number=1))
        await session.flush()
        handles = [
            await task.options(connection=session).defer("a"),
            *await task.options(connection=session).defer_many(["b", "c"]),
            *await app.defer_many([task.options(id=uuid7(), unique="k").job("d")], connection=session),
        ]
        assert 0 == await counted(database)
        await (session.commit() if commits else session.rollback())

    assert (4 * commits, int(commits)) == (
        await counted(database),
        await asked(database, "select count(*) from invoice"),
    )
    if commits:
        await app.run_until_idle()
        assert ["a", "b", "c", "d"] == [await handle.result(timeout=PATIENCE) for handle in handles]
    await app.close()


@pytest.mark.parametrize("options", [{}, {"unique": "k"}, {"id": uuid7()}], ids=["plain", "unique", "id"])
@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_the_first_statement_of_a_session(
    commits: bool, options: dict[str, Any], engine: AsyncEngine, database: str
) -> None:
    """S1-05: a session begins at its first statement; a defer is one, and does not commit by itself."""
    app = App(database)
    async with AsyncSession(engine) as session:
        assert not session.in_transaction()
        await app.task(note).options(connection=session, **options).defer("a")
        assert session.in_transaction()
        assert 0 == await counted(database)
        await (session.commit() if commits else session.rollback())

    assert int(commits) == await counted(database)
    await app.close()


async def test_a_session_that_is_just_left_rolls_back(engine: AsyncEngine, database: str) -> None:
    """S1-05: a session closed without commit leaves no job; one in `begin()` commits at the block's end."""
    app = App(database)
    task = app.task(note)
    async with AsyncSession(engine) as session:
        await task.options(connection=session).defer("left")
    async with AsyncSession(engine) as session, session.begin():
        await task.options(connection=session).defer("begun")
        with pytest.raises(ZeroDivisionError):
            async with session.begin_nested():
                await task.options(connection=session).defer("taken back")
                raise ZeroDivisionError

    assert ["begun"] == await asked(database, "select array_agg(args ->> 'text') from jobqueue.job")
    await app.close()


async def test_a_scoped_session(engine: AsyncEngine, database: str) -> None:
    """S1-05: a scoped session stands for the session of its scope."""
    app = App(database)
    session = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
    await app.task(note).options(connection=session).defer("a")
    assert 0 == await counted(database)
    await session.commit()
    await session.remove()

    assert 1 == await counted(database)
    await app.close()


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_a_connection(commits: bool, engine: AsyncEngine, database: str) -> None:
    """S1-05: an AsyncConnection takes jobs into its transaction, the first statement included."""
    app = App(database)
    task = app.task(note)
    async with engine.connect() as connection:
        await task.options(connection=connection, unique="k").defer("a")
        await connection.execute(text("insert into invoice values (1)"))
        second = await task.options(connection=connection, unique="k").defer("b")
        assert (True, 0) == (second.duplicate, await counted(database))
        await (connection.commit() if commits else connection.rollback())

    assert int(commits) == await counted(database)
    assert int(commits) == await asked(database, "select count(*) from jobqueue.job_key")
    await app.close()


async def test_an_engine_in_autocommit(database: str) -> None:
    """S1-05: where SQLAlchemy commits each statement by itself, a call is still all or none."""
    app = App(database)
    await change(database, REFUSE_BAD)
    engine = create_async_engine(on("asyncpg", database), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    task = app.task(note)
    async with engine.connect() as connection:
        on_it = task.options(connection=connection)
        await on_it.defer("a")
        await on_it.options(unique="k").defer("b")
        with pytest.raises(InvalidPayload):
            await app.defer_many([on_it.options(unique="l").job("good"), task.job("bad")], connection=connection)
    await engine.dispose()

    assert (2, 1) == (await counted(database), await asked(database, "select count(*) from jobqueue.job_key"))
    await app.close()


async def test_a_refused_job_is_told_without_its_row(engine: AsyncEngine, database: str) -> None:
    """S3-20: SQLAlchemy's errors show parameters and rows; ours names the rule, and nothing hangs on it."""
    app = App(database)
    await change(database, REFUSE_BAD)
    task = app.task(note)
    async with AsyncSession(engine) as session:
        with pytest.raises(InvalidPayload, match=r"note job: the database refused it \(no_bad_jobs\)") as told:
            await task.options(connection=session).defer(f"bad {SECRET}")

    assert SECRET not in whole_story(told.value)
    await app.close()


async def test_any_other_error_hides_the_parameters(engine: AsyncEngine, database: str) -> None:
    """S3-20: an error that the caller may want to handle keeps SQLAlchemy's class, without showing the payload."""
    app = App(database)
    async with AsyncSession(engine) as session:
        await session.execute(text("set local statement_timeout = '50ms'"))
        await change(database, SLOW_INSERTS)
        with pytest.raises(Exception, match="statement timeout") as told:
            await app.task(note).options(connection=session).defer(SECRET)

    assert "sqlalchemy.exc" == type(told.value).__module__
    assert SECRET not in whole_story(told.value)
    await app.close()


SLOW_INSERTS = """
create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(2); return null; end $$;
create trigger slowly after insert on jobqueue.job for each statement execute function slowly();
"""
