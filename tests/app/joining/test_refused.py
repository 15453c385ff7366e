"""What cannot be joined is refused in one sentence that says what to pass instead; nothing is stored elsewhere."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from jobqueue import App
from jobqueue.base.errors import InvalidOption
from tests.support.jobs.joining import ASYNC, SYNC, configure_django, django_connection, for_sqlalchemy
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, counted
from tests.support.postgres.backends import change
from tests.support.postgres.database import Databases

REFUSE_BAD = "alter table jobqueue.job add constraint no_bad_jobs check (args ->> 'text' not like '%bad%')"


async def note(text: str) -> str:
    return text


@pytest.fixture
def dsn(databases: Databases, template: str) -> Iterator[str]:
    """A database for tests without a running loop."""
    with databases.temporary(template) as dsn:
        yield dsn


def engine_of(dsn: str) -> Engine:
    return create_engine(for_sqlalchemy("psycopg", dsn), poolclass=NullPool)


def async_engine_of(dsn: str) -> AsyncEngine:
    return create_async_engine(for_sqlalchemy("asyncpg", dsn), poolclass=NullPool)


def of_package(package: str, name: str) -> object:
    """An object of a library that is not installed here, as far as it can be told."""
    return type(name, (), {"__module__": f"{package}.extensions"})()


NO_ASYNC: dict[str, tuple[Callable[[str], object], str]] = {
    "an engine": (async_engine_of, r"an engine has no transaction to join, so pass a session or a connection of it"),
    "a maker of sessions": (lambda dsn: async_sessionmaker(async_engine_of(dsn)), r"so pass one of them"),
    "a connection that is not entered": (lambda dsn: async_engine_of(dsn).connect(), r"pass what `async with engine"),
    "a session": (lambda dsn: Session(engine_of(dsn)), r"is synchronous.*use task\.defer_sync or app\.defer_many_sync"),
    "another driver": (lambda _: AsyncSession(create_async_engine("sqlite+aiosqlite://")), r"on aiosqlite; make its"),
    "psycopg2's": (lambda _: of_package("psycopg2", "connection"), r"is psycopg2's; pass one of psycopg \(3\)"),
    "a pool of psycopg's": (lambda _: of_package("psycopg_pool", "AsyncConnectionPool"), r"so pass a connection of it"),
    "text": (lambda dsn: dsn, r"must be an asyncpg connection, psycopg's AsyncConnection, .* not builtins\.str$"),
}
NO_SYNC: dict[str, tuple[Callable[[str], object], str]] = {
    "an engine": (engine_of, r"an engine has no transaction to join, so pass a session or a connection of it"),
    "a maker of sessions": (lambda dsn: sessionmaker(engine_of(dsn)), r"it makes sessions, so pass one of them"),
    "an AsyncSession": (lambda dsn: AsyncSession(async_engine_of(dsn)), r"is asynchronous .*`await task\.defer"),
    "another driver": (
        lambda _: Session(create_engine("sqlite://")),
        r"on pysqlite; make its engine with postgresql\+p",
    ),
    "psycopg2's": (lambda _: of_package("psycopg2", "connection"), r"is psycopg2's; pass one of psycopg \(3\)"),
    "a pool of psycopg's": (lambda _: of_package("psycopg_pool", "ConnectionPool"), r"so pass a connection of it"),
    "a cursor": (lambda _: of_package("psycopg", "Cursor"), r"so pass its connection"),
    "text": (lambda dsn: dsn, r"must be a psycopg connection, .* not builtins\.str$"),
}


@pytest.mark.parametrize("what", NO_ASYNC)
async def test_what_defer_cannot_join(what: str, database: str) -> None:
    """Each is an InvalidOption that names `connection` and what to pass instead."""
    make, told = NO_ASYNC[what]
    async with App(database) as app:
        with pytest.raises(InvalidOption, match=f"connection: .*{told}"):
            await app.task(note).options(connection=make(database)).defer("a")

    assert 0 == await counted(database)


@pytest.mark.parametrize("what", NO_SYNC)
def test_what_defer_sync_cannot_join(what: str, dsn: str) -> None:
    """The same for what is synchronous."""
    make, told = NO_SYNC[what]
    app = App(dsn)
    task = app.task(note)
    given = make(dsn)
    with pytest.raises(InvalidOption, match=f"connection: .*{told}"):
        task.options(connection=given).defer_sync("a")
    with pytest.raises(InvalidOption, match=f"connection: .*{told}"):
        app.defer_many_sync([task.job("a")], connection=given)


async def test_closed_connections_are_refused(database: str) -> None:
    """A connection that is closed, or that its pool has given to somebody else, is no place for a job."""
    async with App(database) as app:
        task = app.task(note)
        plain = await asyncpg.connect(database)
        await plain.close()
        async with asyncpg.create_pool(database, min_size=0, max_size=1) as pool:
            async with pool.acquire() as pooled:
                pass
            with pytest.raises(InvalidOption, match=r"connection: was given back to its pool; pass one that is still"):
                await task.options(connection=pooled).defer("a")
        async with await psycopg.AsyncConnection.connect(database) as other:
            pass
        async with async_engine_of(database).connect() as third:
            pass
        for closed in (plain, other, third):
            with pytest.raises(InvalidOption, match=r"connection: is closed; pass one that is open"):
                await task.options(connection=closed).defer("a")

    assert 0 == await counted(database)


@pytest.mark.parametrize("library", ["tortoise", "tortoise on psycopg", "piccolo"])
@pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])
async def test_a_transaction_that_has_ended(commits: bool, library: str, database: str) -> None:
    """Inside its block, but ended by hand: a job would not be in any transaction, so it is refused."""
    async with App(database) as app:
        task = app.task(note)
        async with ASYNC[library](database) as joined:
            await (joined.commit() if commits else joined.rollback())
            with pytest.raises(InvalidOption, match=r"connection: is outside a transaction .*; pass what `async with"):
                await task.options(connection=joined.connection).defer("a")

    assert 0 == await counted(database)


async def test_what_tortoise_and_piccolo_have_besides(database: str) -> None:
    """A client, an engine, or a block that was not entered have no transaction."""
    from piccolo.engine.postgres import PostgresEngine
    from tortoise import connections
    from tortoise.transactions import in_transaction

    async with App(database) as app:
        task = app.task(note)
        async with ASYNC["tortoise"](database):
            engine = PostgresEngine({"dsn": database}, extensions=())
            for given in (connections.get("default")._parent, in_transaction(), engine, engine.transaction()):
                with pytest.raises(InvalidOption, match=r"connection: is outside a transaction"):
                    await task.options(connection=given).defer("a")
    assert 0 == await counted(database)


def test_django_outside_atomic(dsn: str) -> None:
    """Django's connection commits each statement there: a job would be committed alone, which nobody means."""
    task = App(dsn).task(note)
    with django_connection(dsn) as connection:
        with pytest.raises(
            InvalidOption, match=r"connection: .*outside a transaction; pass it inside `with transaction"
        ):
            task.options(connection=connection).defer_sync("a")
        connection.set_autocommit(False)
        task.options(connection=connection).defer_sync("b")
        connection.commit()
        connection.set_autocommit(True)

    with psycopg.connect(dsn) as look:
        assert [("b",)] == look.execute("select args ->> 'text' from jobqueue.job").fetchall()


class OtherDjango:
    """Django's connection on another driver, as far as it can be told."""

    in_atomic_block = True
    ensure_connection = staticmethod(lambda: None)

    def __init__(self, vendor: str, connection: object) -> None:
        self.vendor, self.connection = vendor, connection


OtherDjango.__module__ = "django.db.backends.postgresql.base"


@pytest.mark.parametrize(("vendor", "told"), [("sqlite", "Django's to sqlite"), ("postgresql", "install psycopg")])
def test_django_elsewhere(vendor: str, told: str, dsn: str) -> None:
    """Django's connection to another database, or on psycopg2, is refused by name."""
    given = OtherDjango(vendor, of_package("psycopg2", "connection"))
    with pytest.raises(InvalidOption, match=f"connection: .*{told}"):
        App(dsn).task(note).options(connection=given).defer_sync("a")


async def test_django_in_a_coroutine(database: str) -> None:
    """`await defer` on Django's connection is told the synchronous way, without touching the connection."""
    configure_django()
    from django.db import connection

    async with App(database) as app:
        with pytest.raises(InvalidOption, match=r"connection: is synchronous .*task\.defer_sync"):
            await app.task(note).options(connection=connection).defer("a")


@pytest.mark.parametrize("library", ["asyncpg", "psycopg", "sqlalchemy"])
async def test_autocommit_is_all_or_none(library: str, database: str) -> None:
    """S1-05: where each statement commits by itself, each call is a transaction of its own, and leaves none open."""
    await change(database, REFUSE_BAD)
    async with App(database) as app:
        task = app.task(note)

        async def use(connection: Any) -> None:
            await task.options(connection=connection).defer("a")
            await task.options(connection=connection, unique="k").defer("b")
            with pytest.raises(Exception, match="no_bad_jobs"):
                await app.defer_many([task.options(unique="l").job("good"), task.job("bad")], connection=connection)
            assert 2 == await counted(database)

        if library == "asyncpg":
            async with connect(database) as plain:
                await use(plain)
        elif library == "psycopg":
            async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other:
                await use(other)
        else:
            engine = create_async_engine(for_sqlalchemy("psycopg", database), isolation_level="AUTOCOMMIT")
            async with engine.connect() as third:
                await use(third)
            await engine.dispose()

    assert 1 == await asked(database, "select count(*) from jobqueue.job_key")


@pytest.mark.parametrize("library", SYNC)
async def test_inside_a_running_loop(library: str, database: str) -> None:
    """In a coroutine `defer_sync` would block everybody: refused, with the way out named."""

    def use() -> None:
        with SYNC[library](database) as joined:
            with pytest.raises(InvalidOption, match=r"is synchronous"):
                asyncio.run(App(database).task(note).options(connection=joined.connection).defer("a"))
            joined.rollback()

    await asyncio.to_thread(use)
