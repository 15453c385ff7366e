"""Where it is measured: a schema of the bench's own, made now and dropped at the end, however that comes."""

import asyncio
import contextlib
import os
import platform
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

import anyio
import asyncpg

from jobqueue.base.errors import ConfigurationError, JobQueueError
from jobqueue.base.version import VERSION
from jobqueue.bench import sql
from jobqueue.bench.child import SCHEMA
from jobqueue.bench.ours import Ours
from jobqueue.bench.raw import Raw
from jobqueue.bench.side import bare
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.dialing.dial import Connection
from jobqueue.store.schema.migrate import migrate
from jobqueue.store.schema.statements import fill

BRIEF = 30.0
"""Seconds in which the schema must be made, and dropped."""
_CROWD = 10


class NotDropped(JobQueueError):
    """Raised when the bench's schema could not be dropped."""

    def __init__(self, schema: str) -> None:
        super().__init__(f"schema {schema} could not be dropped, and is of no use: drop schema {schema} cascade")
        self.schema = schema


@dataclass(frozen=True, slots=True)
class Ground:
    """What measurements need: both sides, a connection of our own, and how many jobs are meant."""

    dsn: str
    schema: str
    jobs: int
    limit: float
    """Seconds for one sample, and for each statement: what takes longer hangs."""
    connection: Connection
    ours: Ours
    raw: Raw

    @property
    def environment(self) -> dict[str, str]:
        """Of the processes that work here: a connection string on a command line is seen by all."""
        return {**os.environ, "JOBQUEUE_DSN": self.dsn, SCHEMA: self.schema}

    @property
    def crowd(self) -> int:
        """How much history, backlog and the like there is."""
        return self.jobs * _CROWD

    def some(self, share: float) -> int:
        """This share of the jobs, for what takes longer with each."""
        return max(10, round(self.jobs * share))

    async def now(self) -> datetime:
        """The database's clock."""
        moment: datetime = await self.connection.fetchval(sql.NOW)
        return moment

    async def clear(self) -> None:
        """Empty all tables: every sample begins alike."""
        await self.connection.execute(sql.CLEAR)

    async def settings(self) -> dict[str, str]:
        """What figures depend on: of the server, then of this machine."""
        server = {row[0]: row[1] for row in await self.connection.fetch(sql.SETTINGS)}
        return {"PostgreSQL": server["server_version"].partition(" ")[0]} | {
            name: value for name, value in server.items() if name != "server_version"
        } | {
            "cores": str(os.cpu_count()),
            "machine": f"{platform.system()} {platform.machine()}",
            "Python": platform.python_version(),
            "uvloop": _version("uvloop"),
            "asyncpg": _version("asyncpg"),
            "jobqueue": VERSION,
        }  # fmt: skip


@contextlib.asynccontextmanager
async def own_ground(dsn: str, schema: str, jobs: int) -> AsyncIterator[Ground]:
    """Make the schema, and drop it after the block. Raises ConfigurationError if it is there already, NotDropped, and
    whatever the database raises. Cancelled at any moment, it drops what it has made."""
    limit = 60.0 + jobs / 200  # some twenty times what anything takes on two slow cores
    async with _own_schema(dsn, schema), contextlib.AsyncExitStack() as opened:
        await migrate(dsn, schema)
        connection = await bare(dsn, schema, limit)
        opened.push_async_callback(connection.close, timeout=5)
        await connection.execute(sql.TABLE)
        ours = await Ours.open(dsn, schema, limit)
        opened.push_async_callback(ours.close)
        raw = await Raw.open(dsn, schema, limit)
        opened.push_async_callback(raw.close)
        yield Ground(dsn, schema, jobs, limit, connection, ours, raw)


@contextlib.asynccontextmanager
async def _own_schema(dsn: str, schema: str) -> AsyncIterator[None]:
    making = asyncio.create_task(_execute(dsn, schema, 'create schema :"schema"'))
    try:
        await asyncio.shield(making)  # else nobody would know whether what was cut off has made it
        yield
    except asyncpg.DuplicateSchemaError:
        raise ConfigurationError(_taken(schema)) from None
    finally:
        with anyio.CancelScope(shield=True):  # both are bounded
            await asyncio.wait([making])
            if making.exception() is None:
                await _drop(dsn, schema)


async def _drop(dsn: str, schema: str) -> None:
    try:
        await _execute(dsn, schema, 'drop schema :"schema" cascade')
    except DATABASE_ERRORS as error:
        raise NotDropped(schema) from error


async def _execute(dsn: str, schema: str, text: str) -> None:
    connection = await bare(dsn, schema, BRIEF)
    try:
        await connection.execute(fill(text, schema))
    finally:
        await connection.close(timeout=5)


def _taken(schema: str) -> str:
    return (
        f"schema {schema} is there already, maybe with jobs in it; the bench makes one of its own and drops it in the "
        f"end: name another with --schema, or, if a killed bench has left it, drop schema {schema} cascade"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
