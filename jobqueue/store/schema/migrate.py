"""Applies `schema/migrations`: forward only, one at a time, safe from ten processes at once.

`NNNN_pre_words.sql` runs before new code, `NNNN_post_words.sql` after the old code is gone. A migrator holds a lock on
a connection of its own, which does nothing else: the lock of a transaction, since one of the session would stay with a
pooler's connection. It has no snapshot, so that `create index concurrently` does not wait for it; who waits for the
lock waits outside a transaction.

A migration waits for a second at the most for what others have locked, since all who come behind it wait as well, and
tries again later.
"""

import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache

import anyio
import asyncpg
from asyncpg.transaction import Transaction

from jobqueue.base.errors import ConfigurationError, NotMigrated, SchemaTooNew
from jobqueue.base.log import get_logger
from jobqueue.store.dialing.dial import Connection, Dialer
from jobqueue.store.dialing.silence import BRIEF, SILENCE, UNHURRIED, within_session, within_transaction
from jobqueue.store.schema.lockers import in_words
from jobqueue.store.schema.statements import fill, lock_key, names, schema_folder, statement

log = get_logger(__name__)

_STATEMENT_LIMIT = 600.0  # seconds for one migration: a post migration may build an index over a large table
_STATUS_LIMIT = 30.0
_LOCK_CLASS = 0x6A71
_PAUSE = 2.0
"""Seconds between two tries to get what others have locked; whoever had to wait behind the first is through by then."""
_FOUNDATIONS = 3
"""Tries: schema and table may each be made by another at the same moment."""
_WAITING = {"idle_in_transaction_session_timeout": "0"}
_IN_ONE_GO = {**SILENCE, **BRIEF, "statement_timeout": "0", "lock_timeout": "1000"}
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
        # one text is one transaction for many, and nothing in there is concurrent
        sql = migration.sql.replace(" concurrently ", " ") if migration.concurrent else migration.sql
        parts += [f"\n-- {migration.name}\n", fill(sql, schema), fill(_mark(migration.name), schema)]
    return "".join(parts)


async def migrate(dsn: str, schema: str = "jobqueue", lock_timeout: float = 60.0) -> list[str]:
    """Apply what is missing; returns the names applied, none if the schema was whole.

    Waits up to `lock_timeout` seconds for another migrator, and as long for whoever has locked a table. Cancellation
    rolls the current migration back. Raises ConfigurationError that names who is in the way.
    """
    names(schema)  # refuses a bad schema name before anything is touched
    async with _connected(dsn, _STATEMENT_LIMIT) as keeper:
        turn = await _lock(keeper, schema, lock_timeout)
        async with _connected(dsn, _STATEMENT_LIMIT) as connection:
            check_encoding(connection)
            await _lay_foundation(connection, schema)
            applied = await applied_migrations(connection, schema)
            check_known(applied, schema)
            missing = [migration for migration in migrations() if migration.name not in applied]
            for migration in missing:
                await _apply_patiently(connection, migration, schema, lock_timeout)
                log.info("schema.migrated", schema=schema, migration=migration.name)
        await turn.rollback()
        return [migration.name for migration in missing]


@contextlib.asynccontextmanager
async def _connected(dsn: str, limit: float) -> AsyncIterator[Connection]:
    """A connection of our own, also through a pooler: without prepared statements."""
    connection = await Dialer()(dsn, command_timeout=limit, statement_cache_size=0)
    try:
        yield connection
    finally:
        with anyio.move_on_after(5, shield=True):
            await connection.close(timeout=4)


async def status(dsn: str, schema: str = "jobqueue") -> list[tuple[str, bool]]:
    """Every known migration with whether it is applied, then those that only the database knows."""
    names(schema)
    async with _connected(dsn, _STATUS_LIMIT) as connection:
        applied = await applied_migrations(connection, schema)
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


def check_encoding(connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy) -> None:
    """Refuse a database that cannot store all that payloads and errors may have in them."""
    encoding = getattr(connection.get_settings(), "server_encoding", "UTF8")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database has the encoding {encoding}, in which not every text can be stored; use one that was made "
            "by `createdb --encoding=UTF8 --template=template0`"
        )


def check_known(applied: set[str], schema: str) -> None:
    """Refuse a schema that later code has contracted. Unknown pre migrations only add, and are tolerated."""
    for name in sorted(applied - {migration.name for migration in migrations()}):
        if Migration(name, "").contracts:
            raise SchemaTooNew(schema, name)


def check_whole(applied: set[str], schema: str) -> str:
    """Refuse a schema that lacks a migration of this version. Gives the last one that is there."""
    check_known(applied, schema)
    missing = sum(migration.name not in applied for migration in migrations())
    if missing:
        raise NotMigrated(schema, missing)
    return max(applied)


async def is_being_migrated(connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy, schema: str) -> bool:
    """Whether a migrator is at work there now."""
    return bool(
        await connection.fetchval(
            "select exists (select from pg_locks where locktype = 'advisory' and granted and classid = $1::bigint::oid"
            " and objid = ($2::bigint & 4294967295)::oid"
            " and database = (select oid from pg_database where datname = current_database()))",
            _LOCK_CLASS, lock_key(schema, "migrate"),
        )
    )  # fmt: skip


async def _lock(keeper: Connection, schema: str, timeout: float) -> Transaction:
    """Begin a transaction that has the lock; it ends with the connection at the latest."""
    key = lock_key(schema, "migrate")
    with anyio.move_on_after(timeout):
        while True:
            turn = keeper.transaction(isolation="read_committed")
            await turn.start()
            if await keeper.fetchval("select pg_try_advisory_xact_lock($1, $2)", _LOCK_CLASS, key):
                await keeper.execute(within_transaction({**SILENCE, **_WAITING}))  # this lets the snapshot go as well
                return turn
            await turn.rollback()
            await anyio.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - spreads load, guards nothing
    raise ConfigurationError(f"another process has been migrating schema {schema!r} for {timeout:g} s; try again later")


async def _apply_patiently(connection: Connection, migration: Migration, schema: str, patience: float) -> None:
    give_up = time.monotonic() + patience
    while True:
        try:
            return await _apply(connection, migration, schema)
        except asyncpg.QueryCanceledError as error:
            raise ConfigurationError(
                f"migration {migration.name} was cancelled: by somebody, or by the role's statement_timeout, which"
                " cannot be lifted through a pooler; run `migrate up` at the address of the server itself"
            ) from error
        except asyncpg.LockNotAvailableError:
            holders = in_words(await connection.fetch(statement("who_locks", schema), None))
        log.warning("schema.waits", schema=schema, migration=migration.name, holders=holders)
        if time.monotonic() > give_up:
            raise ConfigurationError(
                f"migration {migration.name} needs tables of schema {schema!r} for itself, and waited {patience:g} s;"
                f" they are in use by {holders}; try again later"
            )
        await anyio.sleep(_PAUSE * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, guards nothing


async def _apply(connection: Connection, migration: Migration, schema: str) -> None:
    sql, mark = fill(migration.sql, schema), fill(_mark(migration.name), schema)
    if migration.concurrent:
        await _lift_limit(connection)
        for step in sql.split(";\n"):
            if step.strip():
                await connection.execute(step)
        await connection.execute(mark)
        return
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(within_transaction(_IN_ONE_GO))
        await connection.execute(sql)
        await connection.execute(mark)


async def _lift_limit(connection: Connection) -> None:
    """The role's own limit is not meant for an index over a large table. A pooler would lift it for others as well."""
    if connection.get_server_pid() == await connection.fetchval("select pg_backend_pid()"):
        await connection.execute(within_session(UNHURRIED))


async def _lay_foundation(connection: Connection, schema: str) -> None:
    """Whoever is first: what a killed migrator began may still end, and `if not exists` does not wait for that."""
    for _ in range(_FOUNDATIONS):
        with contextlib.suppress(
            asyncpg.UniqueViolationError, asyncpg.DuplicateSchemaError, asyncpg.DuplicateTableError
        ):
            await connection.execute(_foundation(schema))
            return
    await connection.execute(_foundation(schema))


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
