"""A statement that is cut off ends on the server as well: nothing waits on there, and acts for somebody who is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from jobqueue.app import App
from jobqueue.base.settings import Settings
from tests.support.jobs.store import connect
from tests.support.jobs.working import POLL, asleep, claims_held, counted, new_app
from tests.support.patience import PATIENCE, scaled
from tests.support.postgres.backends import WAITS_FOR_LOCK, backends, becomes
from tests.support.postgres.locks import jobs_held
from tests.support.waiting import wait_until

CLAIMS, BEATS = (f"{WAITS_FOR_LOCK} and query like '%{name}%'" for name in ("with serving as", "seen_at = now()"))
SOON = scaled(3.0)
"""Seconds: far below the server's own limit of a statement, which ends a forgotten one as well."""


async def test_a_claim_cut_off_by_a_drain_takes_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1-16, S4-69: a claim that waits when its worker ends is taken back: no job is claimed for nobody later on."""
    monkeypatch.setattr("jobqueue.worker.claiming.claimer._LAST_CLAIM", 0.5)
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app, app.worker(queues=["default"]) as worker:
        await asleep(database)
        async with claims_held(database):
            await app.defer_many([work.job() for _ in range(5)])
            await becomes(database, 1, CLAIMS)
            await worker.drain(0)
            await wait_until(lambda: nobody_waits(database), "no statement waits any more", timeout=SOON)
        assert 5 == await counted(database, "state = 'ready'")


async def test_a_call_that_its_caller_gives_up_ends_on_the_server(database: str) -> None:
    """Callers that give up while they wait for a lock, and ask again, leave nothing that waits for it on the server."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app:
        handle = await work.defer()
        async with jobs_held(database) as hold:
            call = asyncio.create_task(app.jobs.get(handle.id))
            await hold.waited_for_by(1)
            call.cancel()
            await asyncio.wait({call})
            assert call.cancelled()
            await wait_until(lambda: nobody_waits(database), "no statement waits any more", timeout=SOON)


async def nobody_waits(dsn: str) -> bool:
    return not await backends(dsn, WAITS_FOR_LOCK)


@asynccontextmanager
async def app_on(dsn: str, own: str, settings: Settings) -> AsyncIterator[App]:
    if own == "dsn":
        async with App(dsn, settings=settings) as app:
            yield app
        return
    async with (
        asyncpg.create_pool(dsn, min_size=0, max_size=12, timeout=PATIENCE) as pool,
        App(pool=pool, settings=settings) as app,
    ):
        yield app


@pytest.mark.parametrize("own", ["dsn", "pool"])
async def test_beats_that_time_out_do_not_pile_up(database: str, own: str) -> None:
    """S4-60: each beat that was cut off is off the server too, however many there are in a row: it stays usable."""
    settings = Settings(poll=POLL, lease=1.0, beat=0.2, rescue_interval=0.3)
    tried: set[int] = set()
    most = 0

    async def tried_often() -> bool:
        nonlocal most
        waiting = await backends(database, BEATS)
        tried.update(waiting)
        most = max(most, len(waiting))
        return len(tried) >= 10

    async with app_on(database, own, settings) as app, app.worker(), connect(database) as other, other.transaction():
        await other.execute("lock table jobqueue.worker in access exclusive mode")
        await wait_until(tried_often, "ten beats have waited, each on a connection of its own")
    assert most <= 2
