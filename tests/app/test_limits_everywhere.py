"""A job has its gates by whatever way it is stored: bundles, other drivers, plain SQL, and keys that replace it."""

from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from jobqueue import App, JobState, Limit, Rate, Unique
from tests.app.test_sqlalchemy import on
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended, archived, asked, new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until

API = Limit(rate=Rate(1000, 1, burst=500), name="api")
GATES = ("send\nacme", "~api", "~fair:default\nacme")


def sends(app: App) -> Any:
    """A task with every kind of gate."""

    @app.task(limit=[Limit(1, key="tenant"), API], fair="tenant")
    async def send(tenant: str) -> str:
        return tenant

    return send


@pytest.mark.parametrize("driver", ["ours", "many", "bundle", "asyncpg", "sqlalchemy", "psycopg"])
async def test_a_job_has_its_gates_whoever_stores_it(database: str, driver: str) -> None:
    """By a defer, in bundles, and in the caller's transaction on every driver; all of them run."""
    async with new_app(database) as app:
        send = sends(app)
        match driver:
            case "ours":
                await send.defer("acme")
            case "many":
                await send.defer_many(["acme"])
            case "bundle":
                async with app.bundle("b", on_finish=send.job("acme")) as bundle:
                    first = bundle.add(send.job("acme"))
                    bundle.add(send.job("acme"), after=[first])
            case "asyncpg":
                async with connect(database) as connection, connection.transaction():
                    await send.options(connection=connection).defer("acme")
            case "sqlalchemy":
                engine = create_async_engine(on("asyncpg", database), poolclass=NullPool)
                async with engine.begin() as session:
                    await send.options(connection=session).defer("acme")
                await engine.dispose()
            case _:
                with psycopg.connect(database) as plain:
                    app.sender.send_many_sync([send.job("acme")], plain)
        jobs = await app.jobs.list()
        assert {(GATES, JobState.BLOCKED)} == {(job.gates, job.state) for job in jobs}
        count = 3 if driver == "bundle" else 1  # with its callback

        async def all_have_run() -> bool:
            return count == await archived(database)

        async with app.worker():
            await wait_until(all_have_run, "all have run", PATIENCE)
        assert [0, 0] == [limit.held for limit in await app.limits.list()]


async def test_plain_sql_lines_up_in_the_same_order(database: str) -> None:
    """However the gates are written there, a job passes them as those of the task do: none waits for another in a
    circle."""
    async with new_app(database) as app:
        ordered = Limit(1, ordered=True, name="last")
        limits = [Limit(1, name="b"), Limit(1, key="tenant", name="z"), ordered, API]

        @app.task(limit=limits)
        async def send(tenant: str) -> str:
            return tenant

        await app.run_until_idle()
        written = '["b", "api", "last", ["z", "acme"]]'
        id = await asked(database, "select jobqueue.defer('send', '{\"tenant\": \"acme\"}', limits => $1)", written)
        assert send.job("acme").gates == (await app.jobs.get(id)).gates
        async with app.worker():
            await all_ended(database)


async def test_new_arguments_mean_new_gates(database: str) -> None:
    """A job whose arguments are replaced by a unique key stands in the line of its new key."""
    async with new_app(database) as app:
        send = sends(app)
        await app.run_until_idle()
        await app.limits.set("send", concurrency=0)
        once = send.options(unique=Unique("k", on_conflict="replace"))
        first = await once.defer("acme")
        assert first.id == (await once.defer("zoo")).id
        await app.limits.reset("send")
        async with app.worker():
            assert "zoo" == await first.result(timeout=PATIENCE)
        assert ("send\nzoo", "~api", "~fair:default\nzoo") == (await app.jobs.get(first.id)).gates
