"""The flag that asks for notifications: how long it stands, and who takes it back."""

import asyncio

import pytest

from jobqueue.app import App
from jobqueue.base.settings import Settings
from tests.support.jobs.counting import counted_pool
from tests.support.jobs.working import asked, new_app
from tests.support.patience import NEVER, PATIENCE
from tests.support.waiting import wait_until

STREAM = "jobqueue.worker.claiming.claimer._STREAM"


async def flags(dsn: str, queue: str = "*") -> int:
    count: int = await asked(dsn, "select count(*) from jobqueue.sleeper where queue = $1", queue)
    return count


async def deferred_one_by_one(dsn: str, jobs: int) -> tuple[int, int]:
    """How often a worker published that it sleeps, and took that back, while so many lone jobs came and went."""
    async with counted_pool(dsn) as (pool, sent):
        app = App(pool=pool, settings=Settings(poll=NEVER))

        @app.task
        async def work() -> None: ...

        async with app, app.worker():
            await wait_until(lambda: flags(dsn), "it sleeps")
            await wait_until(lambda: flags(dsn, ""), "so does its stager, who publishes that as well")
            sent.calls.clear()
            for _ in range(jobs):
                await (await work.defer()).result(timeout=PATIENCE)
        return sent.calls["publish_sleep"], sent.calls["end_sleep"]


async def test_for_lone_jobs_the_flag_stands(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-31: each job finds the worker by a notification, none waits for the poll, and nothing is published anew."""
    monkeypatch.setattr(STREAM, 0)
    assert (0, 0) == await deferred_one_by_one(database, 20)


async def test_in_a_stream_nobody_notifies(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E1: once jobs come close together the flag is taken back, and published anew when they have ended."""
    monkeypatch.setattr(STREAM, NEVER)
    published, taken_back = await deferred_one_by_one(database, 20)
    assert taken_back > 0
    assert published >= taken_back - 1


async def test_a_worker_with_every_slot_taken_asks_for_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E1: it could not take more, so producers are not made to notify for as long as it is busy."""
    monkeypatch.setattr(STREAM, 0)
    app = new_app(database, poll=NEVER)
    release = asyncio.Event()

    @app.task
    async def work() -> None:
        await release.wait()

    async with app, app.worker(concurrency=1):
        await wait_until(lambda: flags(database), "it sleeps")
        handle = await work.defer()

        async def taken_back() -> bool:
            return await flags(database) == 0

        await wait_until(taken_back, "the flag is taken back")
        release.set()
        await handle.result(timeout=PATIENCE)
        await wait_until(lambda: flags(database), "it sleeps again")
