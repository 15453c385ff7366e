"""The app and its one job: what `python -m jobqueue worker examples.order_flow.app:app` runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from examples.order_flow import carrier, payments
from jobqueue import App, Cancel, Fatal, JobContext, Settings

DAY = 86_400.0
HERE = ("127.0.0.1/32",)  # where the example's own receiver is; without this webhooks go to public addresses only

TABLES = """
create table if not exists order_flow.stock (item text primary key, pieces integer not null check (pieces >= 0));
create table if not exists order_flow.reservation (
  order_id text primary key,
  item text not null,
  pieces integer not null
);
insert into order_flow.stock values ('lamp', 100) on conflict do nothing
"""

TAKE = "update order_flow.stock set pieces = pieces - $2 where item = $1 and pieces >= $2"
RESERVE = "insert into order_flow.reservation (order_id, item, pieces) values ($1, $2, $3)"
RELEASE = """
with released as (delete from order_flow.reservation where order_id = $1 returning item, pieces)
update order_flow.stock s set pieces = s.pieces + r.pieces from released r where s.item = r.item
"""


@dataclass(frozen=True)
class Order:
    """What is ordered. `patience` and `cool_down` are seconds."""

    item: str = "lamp"
    pieces: int = 1
    cents: int = 4_900
    patience: float = 2 * DAY
    cool_down: float = 5


@dataclass(frozen=True)
class Approval:
    """Says who approves an order: the payload of the signal."""

    by: str


@dataclass(frozen=True)
class Shipped:
    """What became of an order."""

    charge: str
    approved_by: str
    parcel: int


@asynccontextmanager
async def connections(app: App) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """What a worker keeps for its jobs as long as it runs."""
    async with app.resolved_dsn() as dsn, asyncpg.create_pool(dsn, min_size=0, max_size=4) as pool:
        yield pool


app = App(name="order_flow", schema="order_flow", lifespan=connections, settings=Settings(webhook_networks=HERE))


@app.task(timeout=60)
async def fulfil(ctx: JobContext, order: Order) -> Shipped:
    """Each phase is remembered by its name as soon as it is done: a later run finds it, and goes on behind it.

    While it waits or sleeps it holds no slot, and no worker needs to run at all.
    """
    id, pool = ctx.idempotency_key, ctx.get(asyncpg.Pool)
    await ctx.phase_in_transaction("reserve", reserve, id, order)
    charge = await ctx.phase("charge", payments.charge, pool, f"{id} charge", order.cents)
    try:
        approval = await ctx.wait_for("approved", Approval, timeout=order.patience)
    except TimeoutError:
        await ctx.phase("refund", payments.refund, pool, f"{id} charge")
        await ctx.phase_in_transaction("release", release, id)
        raise Cancel("nobody approved it in time") from None
    await ctx.sleep("cool-down", order.cool_down)
    parcel = await ctx.phase("ship", carrier.book, f"{id} ship", f"{order.pieces} x {order.item}")
    return Shipped(charge, approval.by, parcel)


async def reserve(connection: Any, id: str, order: Order) -> None:
    """Rows of our own database: they and the record of the phase commit together, so this happens exactly once."""
    if await connection.execute(TAKE, order.item, order.pieces) != "UPDATE 1":
        raise Fatal(f"there are not {order.pieces} of {order.item!r}")
    await connection.execute(RESERVE, id, order.item, order.pieces)


async def release(connection: Any, id: str) -> None:
    """Undo `reserve`, exactly once as well."""
    await connection.execute(RELEASE, id)
