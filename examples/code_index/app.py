"""The app and its tasks: what `python -m jobqueue worker examples.code_index.app:app` runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple

import asyncpg
from anyio import CapacityLimiter, to_thread

from examples.code_index.measure import Measures, measure
from jobqueue import App, JobContext, steps

TABLE = """
drop table if exists code_index.file;
create table code_index.file (
  path text primary key,
  sha256 text not null,
  bytes integer not null,
  lines integer not null,
  functions integer not null,
  classes integer not null
)
"""

# A job runs at least once, so its effect must bear a repetition: the second time overwrites the first.
SAVE = """
insert into code_index.file values ($1, $2, $3, $4, $5, $6)
on conflict (path) do update set (sha256, bytes, lines, functions, classes) = ($2, $3, $4, $5, $6)
"""

# In a thread, for parsing would hold up the worker's event loop; in one, for the threads of a process share its
# interpreter lock anyway, and two parsers at once now and then raise SystemError in older Pythons (gh-106905).
PARSER = CapacityLimiter(1)


@asynccontextmanager
async def connections(app: App) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """What a worker keeps for its jobs as long as it runs; they find it with `ctx.get(asyncpg.Pool)`."""
    async with app.resolved_dsn() as dsn, asyncpg.create_pool(dsn, min_size=1, max_size=4) as pool:
        yield pool


# A schema of its own, for the jobs and for what they write: no other worker on this database will ever see them.
app = App(name="code_index", schema="code_index", lifespan=connections)


@app.task(retry=steps(0.5, 1), max_attempts=3)
async def index_file(ctx: JobContext, path: str) -> None:
    """Measure one file of the standard library and write its row.

    What cannot be measured raises: the job is tried again after 0.5 s, then after 1 s, then it is dead.
    """
    found: Measures = await to_thread.run_sync(measure, path, limiter=PARSER)
    await ctx.get(asyncpg.Pool).execute(SAVE, path, *astuple(found))


@app.task
async def sum_up(ctx: JobContext) -> str:
    """The last job: it is stored when all files of its bundle have ended, whatever became of them."""
    if ctx.bundle is None:
        return "nothing to sum up"
    bundle = await ctx.bundle.get()
    lines = await ctx.get(asyncpg.Pool).fetchval("select coalesce(sum(lines), 0) from code_index.file")
    return f"{bundle.completed:,} files with {lines:,} lines, {bundle.dead:,} that are dead"
