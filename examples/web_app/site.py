"""The shop's site. `place_order` is the point of it: one transaction for the order and its job."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict
from uuid import UUID

import asyncpg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from examples.web_app.app import TABLES, app, connections, send_receipt
from jobqueue import JobNotFound
from jobqueue.web import create_app

INSERT = "insert into shop.orders (customer, cents) values ($1, $2) returning id"
CHARGE = "update shop.customer set credit = credit - $2 where email = $1 and credit >= $2 returning credit"


class State(TypedDict):
    """What the site keeps as long as it runs."""

    pool: "asyncpg.Pool[asyncpg.Record]"


@asynccontextmanager
async def lifespan(site: Starlette) -> AsyncIterator[State]:
    """Open the app with the site, so that a wrong database is known at the start and not at the first order."""
    await app.migrate()
    async with app, connections(app) as pool:
        await pool.execute(TABLES)
        yield {"pool": pool}


async def place_order(request: Request) -> JSONResponse:
    """Store an order and defer its receipt: both or neither."""
    pool: asyncpg.Pool[asyncpg.Record] = request.state.pool
    order = await request.json()
    async with pool.acquire() as conn, conn.transaction():
        id = await conn.fetchval(INSERT, order["customer"], order["cents"])
        job = await send_receipt.options(connection=conn).defer(id)
        await charge(conn, order["customer"], order["cents"])  # raises: then there is no order, and no job
    return JSONResponse({"order": id, "job": str(job.id)}, status_code=201)


async def charge(conn: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", customer: str, cents: int) -> None:
    """Take the money, which comes last here. A customer without enough of it rolls back all that was done before."""
    if await conn.fetchval(CHARGE, customer, cents) is None:
        raise HTTPException(402, "not enough credit")


async def show_order(request: Request) -> JSONResponse:
    """An order, with its receipt once that is written."""
    pool: asyncpg.Pool[asyncpg.Record] = request.state.pool
    row = await pool.fetchrow("select * from shop.orders where id = $1", request.path_params["id"])
    if row is None:
        raise HTTPException(404, "no such order")
    return JSONResponse(dict(row))


async def show_job(request: Request) -> JSONResponse:
    """Where a job is, and its result once it has one."""
    id: UUID = request.path_params["id"]
    try:
        job = await app.jobs.get(id)
    except JobNotFound as error:
        raise HTTPException(404, str(error)) from None
    return JSONResponse({"state": job.state, "attempts": job.attempt, "result": job.result})


site = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/orders", place_order, methods=["POST"]),
        Route("/orders/{id:int}", show_order),
        Route("/jobs/{id:uuid}", show_job),
        Mount("/ops", create_app(app)),  # the dashboard; without `authorize` it answers browsers on this machine alone
    ],
)
