"""Stands for a payment service. What it is asked may be asked again, if the answer was lost with a worker.

The key tells it that it is the same charge. It has its own table, written in transactions that know nothing of ours.
"""

import asyncpg

TABLE = """
create table if not exists order_flow.charge (
  key text primary key,
  cents integer not null,
  refunded boolean not null default false,
  asked integer not null default 1
)
"""

CHARGE = """
insert into order_flow.charge as c (key, cents) values ($1, $2)
on conflict (key) do update set asked = c.asked + 1
returning 'charge ' || left(md5(key), 8)
"""
REFUND = "update order_flow.charge set refunded = true where key = $1"


async def charge(pool: "asyncpg.Pool[asyncpg.Record]", key: str, cents: int) -> str:
    """Take the money once for each key, however often that is asked; its number."""
    number: str = await pool.fetchval(CHARGE, key, cents)
    return number


async def refund(pool: "asyncpg.Pool[asyncpg.Record]", key: str) -> None:
    """Give back what was taken with this key. Doing it twice does no harm."""
    await pool.execute(REFUND, key)
