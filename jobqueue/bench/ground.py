"""Where it is measured: a schema of the bench's own, made now and dropped at the end, however that comes."""

import contextlib
import os
import platform
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version

import anyio
import asyncpg

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.version import VERSION
from jobqueue.bench import sql
from jobqueue.bench.child import SCHEMA
from jobqueue.bench.ours import Ours
from jobqueue.bench.raw import Raw
from jobqueue.bench.side import bare
from jobqueue.store.dialing.dial import Connection
from jobqueue.store.schema.migrate import migrate
from jobqueue.store.schema.statements import fill

_DROP_LIMIT = 30.0
_CROWD = 10


@dataclass(frozen=True, slots=True)
class Ground:
    """What measurements need: both sides, a connection of our own, and how many jobs are meant."""

    dsn: str
    schema: str
    jobs: int
    connection: Connection
    ours: Ours
    raw: Raw

    @property
    def environment(self) -> dict[str, str]:
        """Of the processes that work here: a connection string on a command line is seen by all."""
        return {**os.environ, "JOBQUEUE_DSN": self.dsn, SCHEMA: self.schema}

    @property
    def limit(self) -> float:
        """Seconds for one sample, and for each statement: what takes longer hangs."""
        return time_for(self.jobs)

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


def time_for(jobs: int) -> float:
    """Seconds that no step may take with so many: some twenty times what it takes on two slow cores."""
    return 60.0 + jobs / 200


@contextlib.asynccontextmanager
async def own_ground(dsn: str, schema: str, jobs: int) -> AsyncIterator[Ground]:
    """Make the schema, and drop it after the block. Raises ConfigurationError if it is there already, and whatever the
    database raises."""
    limit = time_for(jobs)
    maker = await bare(dsn, schema, limit)
    try:
        await maker.execute(fill('create schema :"schema"', schema))
    except asyncpg.DuplicateSchemaError:
        raise ConfigurationError(_taken(schema)) from None
    finally:
        await maker.close(timeout=5)
    try:
        await migrate(dsn, schema)
        async with contextlib.AsyncExitStack() as opened:
            connection = await bare(dsn, schema, limit)
            opened.push_async_callback(connection.close, timeout=5)
            await connection.execute(sql.TABLE)
            ours, raw = await Ours.open(dsn, schema, limit), await Raw.open(dsn, schema, limit)
            opened.push_async_callback(ours.close)
            opened.push_async_callback(raw.close)
            yield Ground(dsn, schema, jobs, connection, ours, raw)
    finally:
        with anyio.move_on_after(_DROP_LIMIT, shield=True):
            dropper = await bare(dsn, schema, _DROP_LIMIT)
            await dropper.execute(fill('drop schema :"schema" cascade', schema))
            await dropper.close(timeout=5)


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
