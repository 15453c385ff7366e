"""Every way to defer one job, as if it were one: alone, in a batch, and on connections of all kinds."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.tasks.handle import JobHandle
from jobqueue.tasks.options import Unique
from jobqueue.tasks.task import Task
from tests.support.jobs.store import connect
from tests.support.postgres.kept import shared

Note: TypeAlias = "Task[[str], Any]"
Way: TypeAlias = Callable[[App, Note, str], Awaitable[JobHandle[Any]]]


def unique(key: str, conflict: str = "skip", scope: str = "unfinished") -> Unique:
    """A key, from the words of a test's table."""
    return Unique(key, scope, 3600 if scope == "period" else None, conflict)  # type: ignore[arg-type]  # plain text


async def alone(app: App, task: Note, text: str) -> JobHandle[Any]:
    return await task.defer(text)


async def many(app: App, task: Note, text: str) -> JobHandle[Any]:
    """In the middle of a batch, after one that the same batch has stored."""
    first, last = (task.options(unique=unique(str(uuid7()))).job("other") for _ in range(2))
    return (await app.defer_many([first, task.job(text), last]))[1]


async def on_asyncpg(app: App, task: Note, text: str) -> JobHandle[Any]:
    async with connect(await dsn_of(app)) as connection, connection.transaction():
        return await task.options(connection=connection).defer(text)


async def many_on_asyncpg(app: App, task: Note, text: str) -> JobHandle[Any]:
    async with connect(await dsn_of(app)) as connection:
        return (await task.options(connection=connection).defer_many([text]))[0]


async def on_sqlalchemy(app: App, task: Note, text: str) -> JobHandle[Any]:
    async with shared(await dsn_of(app), engine) as opened, AsyncSession(opened) as session, session.begin():
        return await task.options(connection=session).defer(text)


async def on_psycopg(app: App, task: Note, text: str) -> JobHandle[Any]:
    async with shared(await dsn_of(app), psycopg_connection) as connection:

        def defer() -> JobHandle[Any]:
            with connection.transaction():
                return task.options(connection=connection).defer_sync(text)

        return await asyncio.to_thread(defer)


@asynccontextmanager
async def engine(dsn: str) -> AsyncIterator[AsyncEngine]:
    """One of SQLAlchemy's, with one connection."""
    engine = create_async_engine(for_sqlalchemy(dsn), pool_size=1)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def psycopg_connection(dsn: str) -> AsyncIterator["psycopg.Connection[Any]"]:
    """A plain one, for one thread at a time."""
    with await asyncio.to_thread(lambda: psycopg.connect(dsn)) as connection:
        yield connection


WAYS: list[Way] = [alone, many, on_asyncpg, many_on_asyncpg, on_sqlalchemy, on_psycopg]


async def dsn_of(app: App) -> str:
    async with app.resolved_dsn() as dsn:
        return dsn


def for_sqlalchemy(dsn: str) -> str:
    """The DSN as SQLAlchemy wants it: it hands `sslmode` on to asyncpg, which knows it in a DSN only."""
    return dsn.replace("postgresql://", "postgresql+asyncpg://", 1).replace("&sslmode=disable", "")
