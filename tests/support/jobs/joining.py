"""A transaction of each library that `connection=` joins, made and ended in that library's own way."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

MODELS = "tests.support.jobs.tortoise_models"


class Undo(Exception):
    """Raised inside a savepoint, to have it rolled back."""


@dataclass
class Joined:
    """A transaction that is open."""

    connection: Any
    execute: Callable[[str], Awaitable[Any]]
    commit: Callable[[], Awaitable[Any]]
    rollback: Callable[[], Awaitable[Any]]
    savepoint: Callable[[], AbstractAsyncContextManager[Any]]
    """Rolled back by an `Undo`, which comes out."""


@dataclass
class JoinedSync:
    """The same of a synchronous library."""

    connection: Any
    execute: Callable[[str], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]
    savepoint: Callable[[], AbstractContextManager[Any]]


Opens: TypeAlias = Callable[[str], AbstractAsyncContextManager[Joined]]
OpensSync: TypeAlias = Callable[[str], AbstractContextManager[JoinedSync]]


def for_sqlalchemy(driver: str, dsn: str) -> str:
    """The DSN as SQLAlchemy wants it: it hands `sslmode` on to asyncpg, which knows it in a DSN only."""
    return dsn.replace("postgresql://", f"postgresql+{driver}://", 1).replace("&sslmode=disable", "")


def parts_of(dsn: str) -> dict[str, Any]:
    """host, port, user and dbname."""
    return conninfo_to_dict(dsn)


@asynccontextmanager
async def on_asyncpg(dsn: str) -> AsyncIterator[Joined]:
    connection = await asyncpg.connect(dsn)
    transaction = connection.transaction()
    await transaction.start()
    yield Joined(connection, connection.execute, transaction.commit, transaction.rollback, connection.transaction)
    await connection.close()


@asynccontextmanager
async def on_psycopg(dsn: str) -> AsyncIterator[Joined]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        yield Joined(
            connection, lambda sql: connection.execute(sql.encode()), connection.commit, connection.rollback,
            connection.transaction,
        )  # fmt: skip


def on_session(driver: str, kind: type[AsyncSession] = AsyncSession) -> Opens:
    @asynccontextmanager
    async def opens(dsn: str) -> AsyncIterator[Joined]:
        engine = create_async_engine(for_sqlalchemy(driver, dsn), poolclass=NullPool)
        async with kind(engine) as session:

            async def execute(sql: str) -> None:  # what SQLModel calls `execute` is out of date, it says
                await (await session.connection()).execute(text(sql))

            yield Joined(session, execute, session.commit, session.rollback, session.begin_nested)
        await engine.dispose()

    return opens


def on_connection(driver: str) -> Opens:
    @asynccontextmanager
    async def opens(dsn: str) -> AsyncIterator[Joined]:
        engine = create_async_engine(for_sqlalchemy(driver, dsn), poolclass=NullPool)
        async with engine.connect() as connection:
            yield Joined(
                connection, lambda sql: connection.execute(text(sql)), connection.commit, connection.rollback,
                connection.begin_nested,
            )  # fmt: skip
        await engine.dispose()

    return opens


def on_sqlmodel(driver: str) -> Opens:
    from sqlmodel.ext.asyncio.session import AsyncSession as Model

    return on_session(driver, Model)


def tortoise_config(dsn: str, driver: str = "asyncpg") -> dict[str, Any]:
    parts = parts_of(dsn)
    credentials = {name: parts[name] for name in ("host", "port", "user")} | {"database": parts["dbname"]}
    engine = {"engine": f"tortoise.backends.{driver}", "credentials": credentials | {"minsize": 0, "ssl": False}}
    return {"connections": {"default": engine}, "apps": {"shop": {"models": [MODELS]}}}


def on_tortoise(driver: str) -> Opens:
    @asynccontextmanager
    async def opens(dsn: str) -> AsyncIterator[Joined]:
        from tortoise import Tortoise
        from tortoise.transactions import in_transaction

        await Tortoise.init(tortoise_config(dsn, driver))
        async with in_transaction() as tx:
            yield Joined(tx, tx.execute_script, tx.commit, tx.rollback, in_transaction)
        await Tortoise.close_connections()

    return opens


@asynccontextmanager
async def on_piccolo(dsn: str) -> AsyncIterator[Joined]:
    from piccolo.engine.postgres import PostgresEngine, PostgresTransaction

    engine = PostgresEngine({"dsn": dsn}, extensions=())

    @asynccontextmanager
    async def savepoint(transaction: PostgresTransaction) -> AsyncIterator[None]:
        point = await transaction.savepoint()
        try:
            yield
        except Undo:
            await transaction.rollback_to(point.name)
            raise

    async with engine.transaction() as transaction:
        yield Joined(
            transaction, transaction.connection.execute, transaction.commit, transaction.rollback,
            lambda: savepoint(transaction),
        )  # fmt: skip


ASYNC: dict[str, Opens] = {
    "asyncpg": on_asyncpg,
    "psycopg": on_psycopg,
    "sqlalchemy session on asyncpg": on_session("asyncpg"),
    "sqlalchemy session on psycopg": on_session("psycopg"),
    "sqlalchemy connection on psycopg": on_connection("psycopg"),
    "sqlmodel on asyncpg": on_sqlmodel("asyncpg"),
    "sqlmodel on psycopg": on_sqlmodel("psycopg"),
    "tortoise": on_tortoise("asyncpg"),
    "tortoise on psycopg": on_tortoise("psycopg"),
    "piccolo": on_piccolo,
}


@contextmanager
def on_psycopg_sync(dsn: str) -> Iterator[JoinedSync]:
    with psycopg.connect(dsn) as connection:
        yield JoinedSync(
            connection, lambda sql: connection.execute(sql.encode()), connection.commit, connection.rollback,
            connection.transaction,
        )  # fmt: skip


def on_session_sync(kind: type[Session] = Session) -> OpensSync:
    @contextmanager
    def opens(dsn: str) -> Iterator[JoinedSync]:
        engine = create_engine(for_sqlalchemy("psycopg", dsn), poolclass=NullPool)
        with kind(engine) as session:

            def execute(sql: str) -> None:
                session.connection().execute(text(sql))

            yield JoinedSync(session, execute, session.commit, session.rollback, session.begin_nested)
        engine.dispose()

    return opens


@contextmanager
def on_connection_sync(dsn: str) -> Iterator[JoinedSync]:
    engine = create_engine(for_sqlalchemy("psycopg", dsn), poolclass=NullPool)
    with engine.connect() as connection:
        yield JoinedSync(
            connection, lambda sql: connection.execute(text(sql)), connection.commit, connection.rollback,
            connection.begin_nested,
        )  # fmt: skip
    engine.dispose()


def on_sqlmodel_sync() -> OpensSync:
    from sqlmodel import Session as Model

    return on_session_sync(Model)


def configure_django() -> None:
    """Once a process."""
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"], ROOT_URLCONF="tests.web.django_urls", SECRET_KEY="s", LOGGING_CONFIG=None
        )
        django.setup()


@contextmanager
def django_connection(dsn: str) -> Iterator[Any]:
    """`django.db.connection`, leading to this database, closed afterwards."""
    configure_django()
    from django.db import connection, connections

    parts = parts_of(dsn)
    engine = {"ENGINE": "django.db.backends.postgresql", "NAME": parts["dbname"], "USER": parts["user"]}
    place = {"HOST": parts["host"], "PORT": parts["port"]}
    connections.settings = connections.configure_settings({"default": engine | place})
    if hasattr(connections._connections, "default"):
        del connections["default"]
    yield connection
    connection.close()


@contextmanager
def on_django(dsn: str) -> Iterator[JoinedSync]:
    with django_connection(dsn) as connection:
        from django.db import transaction

        atomic = transaction.atomic()
        atomic.__enter__()

        def execute(sql: str) -> None:
            with connection.cursor() as cursor:
                cursor.execute(sql)

        yield JoinedSync(
            connection, execute, lambda: atomic.__exit__(None, None, None),
            lambda: atomic.__exit__(Undo, Undo(), None), transaction.atomic,
        )  # fmt: skip


SYNC: dict[str, OpensSync] = {
    "psycopg": on_psycopg_sync,
    "sqlalchemy session": on_session_sync(),
    "sqlalchemy connection": on_connection_sync,
    "sqlmodel": on_sqlmodel_sync(),
    "django": on_django,
}
