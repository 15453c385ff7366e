"""The shop's tests, as docs/testing.md says."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import AsyncConnection, async_sessionmaker, create_async_engine

from examples.shop.app import Sessions, app, ask_how_it_was, report, send_receipt
from examples.shop.models import Base
from examples.shop.site import site
from jobqueue import App, JobFailed
from jobqueue.testing import Kit

ORDER = {"customer": "ada", "cents": 1250}


@pytest_asyncio.fixture
async def connection(jobqueue_database: str) -> AsyncIterator[AsyncConnection]:
    """A connection with the shop's tables, whose transaction is rolled back."""
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(jobqueue_database), poolclass=NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(Base.metadata.create_all)
        yield connection
        await connection.rollback()
    await engine.dispose()


@pytest.fixture
def sessions(connection: AsyncConnection) -> Sessions:
    """Sessions on it: their commits are savepoints."""
    return async_sessionmaker(connection, join_transaction_mode="create_savepoint")


@pytest_asyncio.fixture
async def t(connection: AsyncConnection, sessions: Sessions) -> AsyncIterator[Kit]:
    """The queue on it."""
    async with app.testing(connection=connection, resources=sessions) as t:
        yield t


@pytest_asyncio.fixture
async def client(sessions: Sessions) -> AsyncIterator[httpx.AsyncClient]:
    """The site on it."""
    site.state.sessions = sessions
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://shop") as client:
        yield client


async def test_an_order_gets_its_receipt(client: httpx.AsyncClient, t: Kit) -> None:
    """From the request to what the worker has written, in one transaction."""
    id = (await client.post("/orders", json=ORDER)).json()["id"]
    t.assert_deferred(send_receipt, times=1, order=id)
    await t.drain()
    assert (await client.get(f"/orders/{id}")).json()["receipt"] == "ada, thank you for 12.50 EUR"


async def test_a_refused_order_leaves_no_job(client: httpx.AsyncClient, t: Kit) -> None:
    """The job rolls back with the order."""
    assert (await client.post("/orders", json={**ORDER, "cents": 0})).status_code == 422
    assert await t.drain() == []
    assert await app.jobs.list() == []


async def test_each_customer_is_asked_once(client: httpx.AsyncClient, t: Kit) -> None:
    """A second order asks nothing more."""
    for _ in range(2):
        await client.post("/orders", json=ORDER)
    assert len(await app.jobs.list(task="send_receipt")) == 2
    assert len(await app.jobs.list(task="ask_how_it_was")) == 1


async def test_a_week_later() -> None:
    """The clock brings the question; no database is needed."""
    async with app.testing("inline") as t:
        job = await ask_how_it_was.defer("ada")
        t.clock.advance(timedelta(days=7))
        await t.drain()
        assert await job.result() == "ada, how was it?"


async def test_the_daily_report() -> None:
    """It is planned each evening; the day on which summer time ends has 25 hours."""
    async with app.testing() as t:
        t.clock.advance(timedelta(hours=25))
        t.assert_deferred(report)


async def test_a_receipt_that_cannot_be_written(t: Kit) -> None:
    """An order that is not there fails the job, not the test."""
    job = await send_receipt.options(max_attempts=1).defer(0)
    await t.drain()
    with pytest.raises(JobFailed, match="NoResultFound"):
        await job.result()


async def test_with_a_worker(jobqueue_app: App) -> None:
    """The whole of it: the site's lifespan, a committed order, a real worker."""
    transport = httpx.ASGITransport(site)
    async with (
        site.router.lifespan_context(site),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        id = (await client.post("/orders", json=ORDER)).json()["id"]
        await jobqueue_app.run_until_idle()
        found: dict[str, Any] = (await client.get(f"/orders/{id}")).json()
    assert found["receipt"] == "ada, thank you for 12.50 EUR"
