"""Liveness and readiness: what they say while a worker starts, works, hangs, drains, is cut off, and has ended."""

import asyncio
import re
import threading

from jobqueue.app import App
from jobqueue.base.settings import Settings
from jobqueue.web.health import health_app
from tests.support.jobs.working import new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until
from tests.web.pages import Page, fetch, get, served

OK = Page(200, "ok\n")


async def test_a_worker_that_works_is_alive_and_ready(database: str) -> None:
    """Both pages say so; there is no other, and none to write to."""
    app = new_app(database)
    async with app, app.worker() as worker:
        pages = health_app(worker)
        await wait_until(lambda: worker.snapshot().unanswered < 5, "its heart has beaten")
        assert (OK, OK) == (await get(pages, "/healthz"), await get(pages, "/readyz"))
        assert (404, 405) == ((await get(pages, "/")).status, (await get(pages, "/healthz", method="POST")).status)


async def test_before_its_start_it_is_alive_and_not_ready() -> None:
    """A process that is only starting must not be replaced for it, and gets no work that waits for it."""
    pages = health_app(lambda: None)

    assert OK == await get(pages, "/healthz")
    assert Page(503, "starting\n") == await get(pages, "/readyz")
    assert 200 == (await get(pages, "/metrics")).status


async def test_a_drain_is_alive_and_not_ready(database: str) -> None:
    """S4-26: while it lets its jobs end nobody should replace it; once it has ended it is neither."""
    app = new_app(database)
    running, let_go = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> None:
        running.set()
        await let_go.wait()

    async with app, app.worker() as worker:
        pages = health_app(worker)
        await work.defer()
        await running.wait()
        worker.stop(20)
        assert (OK, Page(503, "draining\n")) == (await get(pages, "/healthz"), await get(pages, "/readyz"))
        let_go.set()
        await worker.ended()
        ended = Page(503, "the worker has ended\n")
        assert (ended, ended) == (await get(pages, "/healthz"), await get(pages, "/readyz"))
        assert 200 == (await get(pages, "/metrics")).status, "what it has done can still be read"


async def test_without_its_database_it_is_alive_and_not_ready(database: str) -> None:
    """A silent network makes it unready within a few beats, and no reason to replace it; both end with the silence."""
    async with proxied(database) as proxy:
        app = App(proxy.dsn, settings=Settings(lease=3.0, beat=0.2))
        async with app, app.worker() as worker:
            pages = health_app(worker)

            async def ready() -> bool:
                return OK == await get(pages, "/readyz")

            async def unready() -> bool:
                page = await get(pages, "/readyz")
                return (503, True) == (page.status, page.text.startswith("the database has not answered for "))

            await wait_until(ready, "it is ready")
            proxy.stall()
            await wait_until(unready, "it has noticed")
            assert OK == await get(pages, "/healthz")
            proxy.let_pass()
            proxy.cut()
            await wait_until(ready, "it is ready again")


async def test_it_answers_while_a_job_blocks_the_loop(database: str) -> None:
    """B9: served in a thread of its own, a blocked event loop is alive, shows its lag, and counts its jobs.

    Only the depths of the queues are missing, whose question goes over that loop.
    """
    app = new_app(database)
    let_go = threading.Event()
    seen: list[Page] = []

    @app.task
    async def block() -> None:
        let_go.wait(PATIENCE)

    async with app, app.worker() as worker:
        with served(health_app(worker)) as url:

            def look() -> None:
                try:
                    while worker.snapshot().blocked < 0.5:
                        pass
                    seen.extend(fetch(f"{url}/{page}") for page in ("healthz", "metrics"))
                finally:
                    let_go.set()

            thread = threading.Thread(target=look)
            handle = await block.defer()
            thread.start()
            await handle.result(timeout=PATIENCE)
            thread.join()
    alive, metrics = seen
    assert OK == alive
    assert metrics.value("loop_lag_seconds") > 0.5
    assert {("block",): 1.0} == metrics.values("tasks_in_flight")
    assert {} == metrics.values("queue_depth")


async def test_a_loop_that_hangs_for_good_is_not_alive(database: str) -> None:
    """B9, S2-41: after ten leases its claims are lost on purpose; then liveness fails too, and says why."""
    app = new_app(database, lease=0.3, beat=0.1)
    let_go = threading.Event()
    seen: list[Page] = []

    @app.task(max_attempts=1)
    async def hang() -> None:
        let_go.wait(PATIENCE)

    async with app, app.worker() as worker:
        with served(health_app(worker)) as url:

            def look() -> None:
                try:
                    while worker.snapshot().blocked < 3.1:
                        let_go.wait(0.05)
                    seen.append(fetch(f"{url}/healthz"))
                finally:
                    let_go.set()

            thread = threading.Thread(target=look)
            await hang.defer()
            thread.start()
            await wait_until(lambda: not thread.is_alive(), "it was looked at")
    assert 503 == seen[0].status
    assert re.fullmatch(r"a job has blocked the event loop for [3-9]\d* s\n", seen[0].text)


async def test_a_heart_that_stands_still_is_not_alive(database: str) -> None:
    """A worker whose heart has not moved for a lease holds no claim any more, whatever else it does."""
    lease = 1_000.0
    app = new_app(database, lease=lease, beat=1.0)
    seen: list[Page] = []
    async with app, app.worker() as worker:
        pages = health_app(worker)

        async def stands_still() -> bool:
            worker.supervisor.heart.turned_at -= lease + 1
            seen.append(await get(pages, "/healthz"))
            return seen[-1] != OK

        await wait_until(lambda: worker.snapshot().unanswered < lease, "its heart has beaten")
        worker.supervisor.heart.turned_at -= lease
        await wait_until(lambda: worker.snapshot().heart_silent < lease, "it has moved again")
        assert OK == await get(pages, "/healthz")
        await wait_until(stands_still, "no beat has come in between")
    assert 503 == seen[-1].status
    assert re.fullmatch(r"the heart has not beaten for [12]\d{3} s\n", seen[-1].text)
