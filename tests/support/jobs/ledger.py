"""A user's module whose tasks keep a ledger in their own table: how often each job ran, and in which process."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from jobqueue.app import App
from tests.support.jobs.store import connect
from tests.support.jobs.working import POLL, new_app
from tests.support.programs.processes import CommandLine, Process

MODULE = """
import asyncio, os
from contextlib import asynccontextmanager

import asyncpg
from jobqueue import App, Fatal, JobContext, steps

DSN = os.environ["LEDGER_DSN"]

@asynccontextmanager
async def lifespan(app):
    async with asyncpg.create_pool(DSN, min_size=1, max_size=4, server_settings={"synchronous_commit": "off"}) as pool:
        yield pool

app = App(DSN, name="ledger", lifespan=lifespan)

@app.task(retry=steps(0))
async def note(ctx: JobContext, seconds: float, how: str = "works") -> int:
    if seconds:
        await asyncio.sleep(seconds)
    await ctx.get(asyncpg.Pool).execute(
        "insert into ledger values ($1, 1, $2) on conflict (job) do update set runs = ledger.runs + 1",
        ctx.job.id, os.getpid(),
    )
    if how == "fails":
        raise OSError("no route")
    if how == "exits":
        raise SystemExit(3)
    return os.getpid()
"""


@dataclass
class Ledger:
    """Worker processes on one database, and what their jobs have written down."""

    cli: CommandLine
    dsn: str
    app: App

    @classmethod
    async def opened(cls, folder: Path, dsn: str) -> Self:
        cli = CommandLine(folder)
        cli.module("ledger", MODULE)
        cli.environment |= {"LEDGER_DSN": dsn, "JOBQUEUE_POLL": str(POLL)}
        async with connect(dsn) as connection:
            await connection.execute(
                "create unlogged table ledger (job uuid primary key, runs integer not null, process integer not null)"
            )
        return cls(cli, dsn, new_app(dsn, name="ledger's tests"))

    async def __aenter__(self) -> Self:
        await self.app.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cli.close()
        await self.app.close()

    async def workers(self, count: int, *options: str) -> list[Process]:
        """Start worker processes, and wait until they work."""
        processes = [self.cli.start("worker", "ledger:app", *options) for _ in range(count)]
        for process in processes:
            await process.says("worker.started")
        return processes

    async def runs(self) -> dict[int, int]:
        """How many jobs ran once, how many twice, and so on."""
        async with connect(self.dsn) as connection:
            rows = await connection.fetch("select runs, count(*) as jobs from ledger group by runs")
        return {row["runs"]: row["jobs"] for row in rows}

    async def processes(self) -> int:
        """In how many processes jobs have run."""
        async with connect(self.dsn) as connection:
            return int(await connection.fetchval("select count(distinct process) from ledger"))
