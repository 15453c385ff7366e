"""A coalescer of a test's own: with an open connection, or with every statement that it sends on record."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from jobqueue.base.job import NewJob
from jobqueue.store.connection.pool import Database
from jobqueue.tasks.sending.coalescer import Coalescer
from tests.support.jobs.store import new_job, open_database

WARM = 3
"""Jobs that `sender` has stored already."""


@asynccontextmanager
async def sender(dsn: str) -> AsyncIterator[Coalescer]:
    """A coalescer whose connection is open and knows the statements, that for one job and that for several."""
    async with open_database(dsn, max_size=4) as database:
        coalescer = Coalescer(database)
        await coalescer.send(new_job())
        await asyncio.gather(coalescer.send(new_job()), coalescer.send(new_job()))
        try:
            yield coalescer
        finally:
            await coalescer.close()


@asynccontextmanager
async def watched(dsn: str) -> AsyncIterator[tuple[Coalescer, list[asyncpg.connection.LoggedQuery]]]:
    """A coalescer, and each statement that it sends."""
    issued: list[Any] = []

    def log(statement: Any) -> None:
        if "jobqueue" in statement.query:  # the driver asks for things of its own
            issued.append(statement)

    async def listen(connection: Any) -> None:
        connection.add_query_logger(log)

    async with asyncpg.create_pool(dsn, min_size=0, max_size=2, init=listen, reset=nothing) as own:
        coalescer = Coalescer(Database.around(own, "jobqueue"))
        yield coalescer, issued
        await coalescer.close()


async def nothing(connection: object) -> None: ...


async def send_all(coalescer: Coalescer, jobs: list[NewJob[None]]) -> list[asyncio.Task[Any]]:
    """Start a call for each job; all of them queue when this returns."""
    calls = [asyncio.create_task(coalescer.send(job)) for job in jobs]
    await asyncio.sleep(0)
    return calls


async def end_of(call: "asyncio.Task[Any]") -> object:
    """What a call gives or raises."""
    await asyncio.wait({call})
    return asyncio.CancelledError() if call.cancelled() else call.exception() or call.result()


def kinds(answers: list[Any]) -> list[type]:
    return [type(answer) for answer in answers]
