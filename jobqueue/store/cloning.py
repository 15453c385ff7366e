"""Databases for tests: cloned from a template that is migrated once for each version of the schema."""

import contextlib
import os
from collections.abc import AsyncIterator
from hashlib import sha256
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from jobqueue.store.dialing.dial import Connection, Dialer
from jobqueue.store.embedded.share import join_embedded
from jobqueue.store.schema.migrate import migrate, migrations
from jobqueue.store.schema.statements import names

_LIMIT = 120.0
"""Seconds for one command: a clone is copied file by file."""
_KEPT = r"^(migration|event_floor)$"
"""Tables that are not empty in a new database."""


@contextlib.asynccontextmanager
async def clone_of(dsn: str | None, schema: str = "jobqueue") -> AsyncIterator[str]:
    """A migrated database for as long as the block runs, on this server or the embedded one; then it is dropped.

    Raises ConfigurationError, OSError, and what the server says to a role that may not create databases.
    """
    async with contextlib.AsyncExitStack() as stack:
        if dsn is None:
            share = await join_embedded(schema)
            stack.push_async_callback(share.leave)
            dsn = share.dsn
        template = await _template(dsn, schema)
        name = f"jobqueue_test_{os.getpid()}_{uuid4().hex[:8]}"
        async with _connected(dsn) as connection:
            await connection.execute(f'create database "{name}" template "{template}"')
        try:
            yield database_of(dsn, name)
        finally:
            async with _connected(dsn) as connection:
                await connection.execute(f'drop database if exists "{name}" with (force)')


async def empty(dsn: str, schema: str = "jobqueue") -> None:
    """Remove what tests have left there. Waits for nobody: whoever still has a lock is a fault of the test."""
    names(schema)
    async with _connected(dsn) as connection:
        rows = await connection.fetch(
            "select quote_ident(schemaname) || '.' || quote_ident(tablename) as place from pg_tables "
            "where schemaname = $1 and tablename !~ $2",
            schema,
            _KEPT,
        )
        async with connection.transaction():
            await connection.execute("set local lock_timeout = '10s'")
            await connection.execute(f"truncate {', '.join(row['place'] for row in rows)}")


def database_of(dsn: str, name: str) -> str:
    """The same server and role, another database."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


def template_of(schema: str) -> str:
    """The name of the template for this version."""
    said = "\n".join([schema, *(each.name + each.sql for each in migrations())])
    return f"jobqueue_template_{sha256(said.encode()).hexdigest()[:12]}"


async def _template(dsn: str, schema: str) -> str:
    """The template for this version, made by whoever comes first.

    It gets its name once it is whole: locks would not do, those who ask may be connected to different databases.
    """
    name = template_of(schema)
    async with _connected(dsn) as connection:
        if await connection.fetchval("select exists (select from pg_database where datname = $1)", name):
            return name
        making = f"{name}_{uuid4().hex[:8]}"
        await connection.execute(f'create database "{making}"')
        try:
            await migrate(database_of(dsn, making), schema)
            await connection.execute(f'alter database "{making}" allow_connections false')
            await connection.execute(f'alter database "{making}" rename to "{name}"')
        except asyncpg.DuplicateDatabaseError:
            pass  # another was quicker
        finally:
            await connection.execute(f'drop database if exists "{making}" with (force)')
    return name


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await Dialer()(dsn, command_timeout=_LIMIT)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)
