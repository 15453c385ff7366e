"""The app and its stages: what `python -m jobqueue worker examples.pipeline.app:app` runs."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from anyio import CapacityLimiter, to_thread

from examples.pipeline.imports import Module, download, imported_by, python_files, write
from jobqueue import App, Fatal, JobContext, steps

TABLE = """
create table if not exists pipeline.module (
  path text primary key,
  imports text[] not null,
  read_at timestamptz not null default clock_timestamp()
)
"""

# A job runs at least once, so its effect must bear a repetition: the second time overwrites the first.
SAVE = """
insert into pipeline.module (path, imports) values ($1, $2)
on conflict (path) do update set (imports, read_at) = (excluded.imports, excluded.read_at)
"""

READER = CapacityLimiter(1)  # files are parsed in one thread, beside the event loop; see code_index


@asynccontextmanager
async def connections(app: App) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """What a worker keeps for its jobs as long as it runs."""
    async with app.resolved_dsn() as dsn, asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool:
        yield pool


app = App(name="pipeline", schema="pipeline", lifespan=connections)


@app.task
async def split(ctx: JobContext, folder: Path, report: Path) -> int:
    """The first stage makes the others: a job for each file, one after all of these, one after that.

    They are stored in one transaction with the end of this job, so once, however often it runs.
    """
    assert ctx.bundle is not None
    paths = await to_thread.run_sync(python_files, folder)
    async with ctx.transaction() as conn:
        modules = await ctx.bundle.add_many([read.job(path) for path in paths], connection=conn)
        ranking = await ctx.bundle.add(rank.job(), after=modules, connection=conn)
        await ctx.bundle.add(publish.job(report), after=[ranking], connection=conn)
        ctx.complete(len(paths))
    return len(paths)


@app.task(retry=steps(0.2, 1), max_attempts=3, timeout=60)
async def read(ctx: JobContext, path: Path) -> Module:
    """Find out what one file imports. Every third one comes only at the second attempt; one that is no Python never."""
    source = await to_thread.run_sync(download, path, ctx.attempt, limiter=READER)
    try:
        imports = await to_thread.run_sync(imported_by, source, limiter=READER)
    except SyntaxError as error:
        raise Fatal(f"{path}: {error}") from error  # another attempt would not help
    await ctx.get(asyncpg.Pool).execute(SAVE, str(path), imports)
    return Module(path.name, imports)


@app.task
async def rank(ctx: JobContext) -> dict[str, int]:
    """How many files import each module, the most wanted first."""
    modules = await ctx.results(read)  # list[Module], one for each file
    return dict(Counter(name for module in modules for name in module.imports).most_common())


@app.task
async def publish(ctx: JobContext, report: Path) -> None:
    """Write the report."""
    (ranking,) = await ctx.results(rank)
    await to_thread.run_sync(write, report, ranking)


@app.task
async def alarm(ctx: JobContext) -> list[str]:
    """Tell somebody what to repair. Runs when all is over and something has failed, so once a round."""
    assert ctx.bundle is not None
    dead = await app.bundles.members(ctx.bundle.id, state="dead", limit=10)
    reasons = [job.error.message for job in dead if job.error is not None]
    ctx.log.error("pipeline.failed", bundle=str(ctx.bundle.id), reasons=reasons)
    return reasons
