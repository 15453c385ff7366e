"""The shop's jobs: what the site defers, and a worker runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from examples.shop.models import Base, Order
from jobqueue import App, JobContext

Sessions: TypeAlias = async_sessionmaker[AsyncSession]


@asynccontextmanager
async def sessions(app: App) -> AsyncIterator[Sessions]:
    """The shop's sessions, for the site as for a worker, on the database of its jobs."""
    async with app.resolved_dsn() as dsn:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield async_sessionmaker(engine)
        await engine.dispose()


app = App(name="shop", lifespan=sessions)


@app.task(queue="mail", max_attempts=5)
async def send_receipt(ctx: JobContext, order: int) -> str:
    """Write an order's receipt. Doing it twice does no harm."""
    async with ctx.get(async_sessionmaker).begin() as session:
        row = await session.get_one(Order, order)
        row.receipt = f"{row.customer}, thank you for {row.cents / 100:.2f} EUR"
        return str(row.receipt)


@app.task
async def ask_how_it_was(ctx: JobContext, customer: str) -> str:
    """A week after the first order, once for each customer."""
    await ctx.sleep("a week", days=7)
    return f"{customer}, how was it?"


@app.cron("0 18 * * *", tz="Europe/Vienna")
async def report(ctx: JobContext) -> int:
    """What was earned so far."""
    async with ctx.get(async_sessionmaker)() as session:
        return await session.scalar(select(func.coalesce(func.sum(Order.cents), 0))) or 0
