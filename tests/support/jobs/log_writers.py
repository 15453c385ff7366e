"""Writers of the log that commit in any order, roll back, and lose their connections in the middle."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from jobqueue.app import App
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.session import Session
from tests.support.jobs.store import claim, connect, ended, insert, new_jobs, open_sessions, write
from tests.support.jobs.told import lock_of_the_log

NAME = "writes the log"
_ROW = "insert into jobqueue.event (type, task, queue, jobs, attempts) values ('job.dead', $1, 'default', $2, $3)"


class Writers:
    """Writes until `rounds` are over, each kind of writer in tasks of its own."""

    def __init__(self, dsn: str, app: App, rounds: int, seed: int) -> None:
        self._dsn = dsn
        self._app = app
        self._rounds = rounds
        self._random = random.Random(seed)  # noqa: S311 - spreads commits, guards nothing
        self.cut = 0

    async def run(self, writers: int = 6) -> None:
        """All of them beside one another; returns when all are done."""
        lock = await lock_of_the_log(self._dsn)
        async with asyncio.TaskGroup() as group:
            for _ in range(writers // 2):
                group.create_task(self._plain(lock))
                group.create_task(self._finishes())
            group.create_task(self._steers_on_asyncpg())
            group.create_task(self._steers_on_sqlalchemy())

    async def _pause(self, most: float = 0.01) -> None:
        await asyncio.sleep(self._random.uniform(0, most))

    async def _plain(self, lock: str) -> None:
        """As a finish does it, with a commit that comes when it comes."""
        for _ in range(self._rounds):
            fate = self._random.random()
            connection = await asyncpg.connect(self._dsn, server_settings={"application_name": NAME})
            with suppress(*DATABASE_ERRORS):
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute(lock)
                for _ in range(self._random.randint(1, 3)):
                    await connection.execute(_ROW, *self._row())
                    await self._pause()
                if fate < 0.1:
                    await transaction.rollback()
                elif fate < 0.2:
                    self.cut += 1
                    async with connect(self._dsn) as other:
                        await other.execute("select pg_terminate_backend($1)", connection.get_server_pid())
                else:
                    await transaction.commit()
            connection.terminate()

    def _row(self) -> tuple[str, list[UUID], list[int]]:
        count = self._random.randint(1, 4)
        return "plain", [UUID(int=self._random.getrandbits(128)) for _ in range(count)], [1] * count

    async def _finishes(self) -> None:
        """Real batches of outcomes; some lose their connection while they are written, and are written again."""
        async with open_sessions(self._dsn, 1) as (session,):
            for _ in range(self._rounds):
                rows = await self._surely(partial(_claimed, session, 4))
                if self._random.random() < 0.2:
                    self.cut += 1
                    async with connect(self._dsn) as other:
                        await other.execute(
                            "select pg_terminate_backend(pid) from pg_stat_activity"
                            " where datname = current_database() and application_name = 'tests'"
                        )
                await self._surely(partial(write, session, [ended(row) for row in rows]))

    async def _surely(self, call: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            with suppress(*DATABASE_ERRORS):
                return await call()

    async def _steers_on_asyncpg(self) -> None:
        for _ in range(self._rounds):
            async with connect(self._dsn) as connection:
                transaction = connection.transaction()
                await transaction.start()
                await self._steer(connection)
                await (transaction.rollback if self._random.random() < 0.2 else transaction.commit)()

    async def _steers_on_sqlalchemy(self) -> None:
        url = self._dsn.replace("postgresql://", "postgresql+asyncpg://", 1).replace("&sslmode=disable", "")
        engine = create_async_engine(url, poolclass=NullPool)
        for _ in range(self._rounds):
            async with engine.connect() as connection:
                await self._steer(connection)
                await (connection.rollback if self._random.random() < 0.2 else connection.commit)()
        await engine.dispose()

    async def _steer(self, connection: "asyncpg.Connection[asyncpg.Record] | AsyncConnection") -> None:
        """Cancel some jobs, revive one of them, delete another, with pauses, in the caller's transaction."""
        handles = await self._app.defer_many(new_jobs(4, queue="steered"))
        ids = [handle.id for handle in handles]
        await self._app.jobs.cancel(*ids, connection=connection)
        await self._pause()
        await self._app.jobs.retry(ids[0], connection=connection)
        await self._app.jobs.delete(ids[1], connection=connection)
        await self._pause()


async def _claimed(session: Session, count: int) -> list[Any]:
    await insert(session, *new_jobs(count))
    return list(await claim(session, count))


async def read_naively(dsn: str, heard: list[int], over: Callable[[], bool]) -> None:
    """What one would write first: all that is behind the last number that was seen."""
    async with connect(dsn) as connection:
        while not over():
            last = heard[-1] if heard else 0
            rows = await connection.fetch("select seq from jobqueue.event where seq > $1 order by seq", last)
            heard += [row["seq"] for row in rows]
            await asyncio.sleep(0.005)
