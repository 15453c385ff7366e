"""`migrate`: what the database's schema is, and bringing it up to date."""

import asyncio
import sys

from jobqueue.cli.place import Place, reaching
from jobqueue.cli.terminal.failures import ExitCode
from jobqueue.cli.terminal.output import write, write_json, write_table
from jobqueue.store.schema.migrate import applied_migrations, check_known, migrate, migrations, script


def show_status(place: Place, as_json: bool) -> ExitCode:
    """Which migrations are applied; ERROR if this version misses one."""
    applied = asyncio.run(_applied(place))
    known = [migration.name for migration in migrations()]
    rows = [(name, name in applied, True) for name in known] + [
        (name, True, False) for name in sorted(applied - {*known})
    ]
    whole = all(done for _, done, _ in rows)
    if as_json:
        listed = [{"name": name, "applied": done, "known": ours} for name, done, ours in rows]
        write_json({"schema": place.schema, "whole": whole, "migrations": listed})
    else:
        words = {
            (True, True): "applied",
            (False, True): "missing",
            (True, False): "applied by a later version of jobqueue",
        }
        write_table(("migration", "state"), [(name, words[done, ours]) for name, done, ours in rows])
    check_known(applied, place.schema)
    return ExitCode.OK if whole else ExitCode.ERROR


def bring_up(place: Place, as_json: bool) -> ExitCode:
    """Apply what is missing."""
    done = asyncio.run(_migrated(place))
    if as_json:
        write_json({"schema": place.schema, "applied": done})
        return ExitCode.OK
    for name in done:
        write(f"applied {name}")
    if not done:
        write(f"nothing to do: schema {place.schema} is up to date")
    return ExitCode.OK


def write_script(schema: str) -> ExitCode:
    """All migrations as one SQL text."""
    sys.stdout.write(script(schema))
    return ExitCode.OK


async def _applied(place: Place) -> set[str]:
    async with place.database() as (_, database), database.connection() as connection:
        return await applied_migrations(connection, place.schema)


async def _migrated(place: Place) -> list[str]:
    async with place.resolved_dsn() as dsn:
        with reaching(dsn):
            return await migrate(dsn, place.schema)
