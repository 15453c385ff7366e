"""The store's jobs: what a worker runs, as by `python -m jobqueue worker examples.agent_store.app:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from jobqueue import App, Fatal, JobContext

HOUR = 3600.0

SAVE_DIGEST = """
insert into agent_store.digest (payload, words) values ($1, $2)
on conflict (payload) do update set words = excluded.words
"""

# One statement on rows that `save` updates: whoever comes second waits for the first, and looks at the row again.
COLLECT = """
delete from agent_store.payload
where not indexed and written_at <= now() - make_interval(secs => $1)
"""


@asynccontextmanager
async def connections(app: App) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """The store's own connections, for those who save as for a worker."""
    async with app.resolved_dsn() as dsn, asyncpg.create_pool(dsn, min_size=1, max_size=10) as pool:
        yield pool


app = App(name="agent_store", schema="agent_store", lifespan=connections)  # its tables beside ours


@app.task(timeout=30)
async def digest(ctx: JobContext, memory: UUID) -> int:
    """Count a memory's words. Its payload was durable before this job was stored; if it is gone, somebody removed it.

    A real one would ask a model; it runs after the commit, again if it fails, and doing it twice does no harm.
    """
    pool = ctx.get(asyncpg.Pool)
    body = await pool.fetchval("select body from agent_store.payload where id = $1", memory)
    if body is None:
        raise Fatal("payload missing")
    words = len(body.split())
    await pool.execute(SAVE_DIGEST, memory, words)
    return words


@app.task(timeout=60)
async def collect_orphans(ctx: JobContext, older_than: float = HOUR) -> int:
    """Remove payloads that no index has ever pointed to, if they are older than so many seconds. Returns how many.

    Defer it once an hour. The age spares those whose index is under way: let it be longer than any save may take.
    """
    done: str = await ctx.get(asyncpg.Pool).execute(COLLECT, older_than)
    return int(done.split()[-1])
