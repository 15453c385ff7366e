"""The shop: an order and its job are stored together or not at all, seen with a real site and a real worker."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import asyncpg
import httpx
import pytest_asyncio

from jobqueue import App
from tests.examples.programs import running
from tests.support.waiting import wait_until

ORDER = {"customer": "ada@example.org", "cents": 1250}


@pytest_asyncio.fixture
async def shop(database: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a site that is up, with an idle worker beside it."""
    worker_command = ("-m", "jobqueue", "worker", "examples.web_app.app:app")
    async with running("-m", "examples.web_app", "--port", "0", dsn=database, log=tmp_path / "site.log") as site:
        await site.says("Uvicorn running on")
        address = re.search(r"http://127\.0\.0\.1:\d+", site.said)
        assert address is not None
        async with (
            running(*worker_command, dsn=database, log=tmp_path / "worker.log") as worker,
            httpx.AsyncClient(base_url=address[0], trust_env=False) as client,
        ):
            await worker.says("worker.started")
            yield client
            assert 0 == await worker.stop(), worker.said
        await site.stop()
    assert "Traceback" not in site.said + worker.said


@pytest_asyncio.fixture
async def connection(database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A look from outside."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def result_of(shop: httpx.AsyncClient, job: str) -> object:
    """The result of a job, once it is completed."""

    async def completed() -> bool:
        return bool("completed" == (await shop.get(f"/jobs/{job}")).json()["state"])

    await wait_until(completed, "the receipt is written")
    return (await shop.get(f"/jobs/{job}")).json()["result"]


async def test_a_committed_order_gets_its_receipt(shop: httpx.AsyncClient) -> None:
    """The job that a handler defers in its transaction runs after the commit and writes. (S1-05)"""
    answer = await shop.post("/orders", json=ORDER)

    assert 201 == answer.status_code
    placed = answer.json()
    expected = "ada@example.org, thank you for 12.50 EUR"
    assert expected == await result_of(shop, placed["job"])
    assert expected == (await shop.get(f"/orders/{placed['order']}")).json()["receipt"]


async def test_the_dashboard_is_part_of_the_site(shop: httpx.AsyncClient) -> None:
    """Below its prefix: the overview names the queue, and leads to the job's page."""
    placed = (await shop.post("/orders", json=ORDER)).json()
    await result_of(shop, placed["job"])

    job = await shop.get(f"/ops/jobs/{placed['job']}")
    assert 200 == job.status_code
    assert 'href="/ops/queues/mail"' in job.text
    assert "state-completed" in job.text
    assert "send_receipt" in (await shop.get("/ops/jobs")).text
    assert 403 == (await shop.get("/ops/", headers={"x-forwarded-for": "192.0.2.1"})).status_code


async def test_a_refused_order_leaves_no_job(shop: httpx.AsyncClient, database: str) -> None:
    """What fails after the defer rolls back order and job, and the next order is served as if nothing was. (S1-05)"""
    refused = await shop.post("/orders", json=ORDER | {"cents": 10**7})
    accepted = await shop.post("/orders", json=ORDER)

    assert 402 == refused.status_code
    assert 201 == accepted.status_code
    async with App(database, schema="shop") as app:
        assert [accepted.json()["job"]] == [str(job.id) for job in await app.jobs.list()]
    assert 404 == (await shop.get(f"/orders/{accepted.json()['order'] - 1}")).status_code
    await result_of(shop, accepted.json()["job"])


async def test_a_job_is_invisible_until_the_commit(
    shop: httpx.AsyncClient, connection: "asyncpg.Connection[asyncpg.Record]", database: str
) -> None:
    """While the handler's transaction is held up, no job can be seen; it starts only after the commit. (S1-06)"""
    async with App(database, schema="shop") as app:
        async with connection.transaction():
            await connection.execute("select from shop.customer where email = $1 for update", ORDER["customer"])
            ordering = asyncio.create_task(shop.post("/orders", json=ORDER))
            await wait_until(lambda: is_held_up(connection), "the handler waits, after its defer")
            jobs_before = await app.jobs.list()
            committed_after: datetime = await connection.fetchval("select clock_timestamp()")
        answer = await ordering
        await result_of(shop, answer.json()["job"])
        (job,) = await app.jobs.list()

    assert [] == jobs_before
    assert job.claimed_at is not None
    assert job.claimed_at > committed_after


async def is_held_up(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    """True if another connection waits for a lock that this one holds."""
    blocked: bool = await connection.fetchval(
        "select exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))"
    )
    return blocked


async def test_a_job_that_never_was_is_not_found(shop: httpx.AsyncClient) -> None:
    """The site says 404 for an unknown job."""
    assert 404 == (await shop.get("/jobs/00000000-0000-7000-8000-000000000000")).status_code
