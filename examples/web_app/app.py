"""The shop's jobs: what a worker runs, and what the site defers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from jobqueue import App, JobContext

TABLES = """
create table if not exists shop.customer (
  email text primary key,
  credit integer not null check (credit >= 0)
);
create table if not exists shop.orders (
  id bigint generated always as identity primary key,
  customer text not null,
  cents integer not null check (cents > 0),
  receipt text
);
insert into shop.customer values ('ada@example.org', 100000) on conflict do nothing
"""

WRITE_RECEIPT = """
update shop.orders set receipt = format('%s, thank you for %s EUR', customer, to_char(cents / 100.0, 'FM999990.00'))
where id = $1
returning receipt
"""


@asynccontextmanager
async def connections(app: App) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """The shop's own connections, for the site as for a worker."""
    async with app.resolved_dsn() as dsn, asyncpg.create_pool(dsn, min_size=1) as pool:
        yield pool


app = App(name="shop", schema="shop", lifespan=connections)  # its tables beside ours, away from other apps' jobs


@app.task(queue="mail", timeout=30, max_attempts=5)
async def send_receipt(ctx: JobContext, order: int) -> str:
    """Write an order's receipt. Doing it twice does no harm."""
    receipt: str = await ctx.get(asyncpg.Pool).fetchval(WRITE_RECEIPT, order)
    return receipt
