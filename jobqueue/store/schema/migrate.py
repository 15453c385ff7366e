"""Applies `schema/migrations`: forward only, one at a time, safe from ten processes at once.

`NNNN_pre_words.sql` runs before new code, `NNNN_post_words.sql` after the old code is gone. A migrator holds a
session-level lock on a connection of its own, which it tries for outside any transaction: a waiting migrator inside a
transaction would block `create index concurrently` for ever. Give it a direct connection, not a transaction pooler's.
"""

import random
from dataclasses import dataclass
from functools import cache

import anyio
import asyncpg

from jobqueue.base.errors import ConfigurationError, NotMigrated, SchemaTooNew
from jobqueue.base.log import get_logger
from jobqueue.store.schema.statements import fill, lock_key, names, schema_folder

log = get_logger(__name__)

_STATEMENT_LIMIT = 600.0  # seconds for one migration: a post migration may build an index over a large table
_LOCK_CLASS = 0x6A71
_CONCURRENT = "-- concurrent"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `schema/migrations`. `concurrent`: each statement commits alone, and may be run again."""

    name: str
    sql: str

    @property
    def concurrent(self) -> bool:
        return self.sql.startswith(_CONCURRENT)

    @property
    def contracts(self) -> bool:
        """True for post migrations: code that does not know one cannot work with the schema."""
        return self.name.split("_")[1] == "post"


@cache
def migrations() -> tuple[Migration, ...]:
    """Every known migration, in order."""
    files = sorted((schema_folder() / "migrations").glob("*.sql"))
    return tuple(Migration(file.stem, file.read_text(encoding="utf-8")) for file in files)


def script(schema: str = "jobqueue") -> str:
    """All migrations as one SQL text, for those who apply SQL by other means; marks them as applied."""
    parts = [_foundation(schema)]
    for migration in migrations():
        parts += [f"\n-- {migration.name}\n", fill(migration.sql, schema), fill(_mark(migration.name), schema)]
    return "".join(parts)


async def migrate(dsn: str, schema: str = "jobqueue", lock_timeout: float = 60.0) -> list[str]:
    """Apply what is missing; returns the names applied, none if the schema was whole.

    Waits up to `lock_timeout` seconds for another migrator. Cancellation rolls the current migration back.
    """
    names(schema)  # refuses a bad schema name before anything is touched
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=_STATEMENT_LIMIT)
    try:
        await _lock(connection, schema, lock_timeout)
        await connection.execute(_foundation(schema))
        applied = await applied_migrations(connection, schema)
        check_known(applied, schema)
        missing = [migration for migration in migrations() if migration.name not in applied]
        for migration in missing:
            await _apply(connection, migration, schema)
            log.info("schema.migrated", schema=schema, migration=migration.name)
        return [migration.name for migration in missing]
    finally:
        with anyio.move_on_after(5, shield=True):
            await connection.close(timeout=4)


async def status(dsn: str, schema: str = "jobqueue") -> list[tuple[str, bool]]:
    """Every known migration with whether it is applied, then those that only the database knows."""
    names(schema)
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=30)
    try:
        applied = await applied_migrations(connection, schema)
    finally:
        with anyio.move_on_after(5, shield=True):
            await connection.close(timeout=4)
    known = [migration.name for migration in migrations()]
    return [(name, name in applied) for name in known] + [(name, True) for name in sorted(applied - set(known))]


async def applied_migrations(
    connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy, schema: str
) -> set[str]:
    """The names in the migration table; empty when there is no such table."""
    table = await connection.fetchval("select to_regclass($1)::text", f'"{schema}".migration')
    if table is None:
        return set()
    rows = await connection.fetch(fill('select name from :"schema".migration', schema))
    return {row["name"] for row in rows}


def check_known(applied: set[str], schema: str) -> None:
    """Refuse a schema that later code has contracted. Unknown pre migrations only add, and are tolerated."""
    for name in sorted(applied - {migration.name for migration in migrations()}):
        if Migration(name, "").contracts:
            raise SchemaTooNew(schema, name)


def check_whole(applied: set[str], schema: str) -> None:
    """Refuse a schema that lacks a migration of this version."""
    check_known(applied, schema)
    missing = sum(migration.name not in applied for migration in migrations())
    if missing:
        raise NotMigrated(schema, missing)


async def _lock(connection: asyncpg.Connection, schema: str, timeout: float) -> None:
    with anyio.move_on_after(timeout):
        while not await connection.fetchval(  # noqa: ASYNC110 - another process has what we wait for
            "select pg_try_advisory_lock($1, $2)", _LOCK_CLASS, lock_key(schema, "migrate")
        ):
            await anyio.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - spreads load, guards nothing
        return
    raise ConfigurationError(f"another process has been migrating schema {schema!r} for {timeout:g} s; try again later")


async def _apply(connection: asyncpg.Connection, migration: Migration, schema: str) -> None:
    sql, mark = fill(migration.sql, schema), fill(_mark(migration.name), schema)
    if migration.concurrent:
        for step in sql.split(";\n"):
            if step.strip():
                await connection.execute(step)
        await connection.execute(mark)
        return
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("set local lock_timeout = '10s'")
        await connection.execute(sql)
        await connection.execute(mark)


def _foundation(schema: str) -> str:
    return fill(
        'create schema if not exists :"schema";\n'
        'create table if not exists :"schema".migration (\n'
        "  name text not null, applied_at timestamptz not null default now(),\n"
        "  constraint migration_pkey primary key (name)\n"
        ");\n",
        schema,
    )


def _mark(name: str) -> str:
    return f"insert into :\"schema\".migration (name) values ('{name}');\n"  # noqa: S608 - our own file's name
