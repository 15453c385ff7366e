"""The database goes away under a working worker: what has ended is held and written, what was claimed is not lost."""

import asyncio
import random

import pytest

from jobqueue.base.job import JobState
from jobqueue.tasks.context import JobContext
from tests.support.jobs.store import connect
from tests.support.jobs.working import (
    all_ended,
    archived,
    asked,
    asleep,
    claims_held,
    claims_left,
    counted,
    end_of,
    new_app,
    one_waits,
    seen,
)
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import LISTENS, becomes, terminate
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until


async def test_outcomes_are_held_while_the_database_is_away(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Jobs that end while every connection is refused are written once the database is back, each once."""
    release = asyncio.Event()
    running: list[int] = []

    async with proxied(database) as proxy:
        app, far = new_app(database), new_app(proxy.dsn)

        async def work(number: int) -> int:
            running.append(number)
            await release.wait()
            return number

        task = app.task(work)
        far.task(work)
        async with app, far, far.worker(concurrency=20) as worker:
            handles = await app.defer_many([task.job(number) for number in range(20)])
            await wait_until(lambda: len(running) == 20, "all run")
            proxy.break_all()
            release.set()
            await wait_until(lambda: worker.snapshot().free == 20, "all have ended")
            await wait_until(lambda: "doing='finish'" in caplog.text, "the finisher has met the fault")
            assert 20 == await counted(database, "state = 'running'")
            proxy.let_pass()
            assert list(range(20)) == [await handle.result(timeout=PATIENCE) for handle in handles]
            assert 7 == await (await task.defer(7)).result(timeout=PATIENCE)

    assert 21 == len(running)
    assert 21 == await archived(database)


async def test_a_silent_network_loses_nothing(database: str) -> None:
    """A finish whose packets are held back is written when the network works again; nothing is cut for that."""
    release = asyncio.Event()
    began = asyncio.Event()

    async with proxied(database) as proxy:
        app, far = new_app(database), new_app(proxy.dsn)

        async def work() -> str:
            began.set()
            await release.wait()
            return "done"

        task = app.task(work)
        far.task(work)
        async with app, far, far.worker() as worker:
            handle = await task.defer()
            await began.wait()
            proxy.stall()
            release.set()
            await wait_until(lambda: worker.snapshot().free == 50, "the job has ended")
            assert JobState.RUNNING is await handle.status()
            proxy.let_pass()
            assert "done" == await handle.result(timeout=PATIENCE)


async def test_a_finish_whose_answer_was_lost_is_not_refused(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A completion that was committed before the connection broke is recognised as written when it is sent again."""
    release = asyncio.Event()
    began = asyncio.Event()

    async with proxied(database) as proxy:
        app, far = new_app(database), new_app(proxy.dsn)

        async def work(held: bool) -> str:
            if held:
                began.set()
                await release.wait()
            return "done"

        task = app.task(work)
        far.task(work)
        async with app, far, far.worker() as worker:
            handle = await task.defer(True)
            await began.wait()
            proxy.lose_answer_to(str(handle.id).encode())  # nobody but the finisher names the job
            release.set()
            assert "done" == await handle.result(timeout=PATIENCE)
            proxy.cut()
            proxy.let_pass()
            assert "done" == await (await task.defer(False)).result(timeout=PATIENCE)
            await wait_until(lambda: "doing='finish'" in caplog.text, "the finisher has met the fault")
            assert worker.snapshot().unwritten == 0

    assert "job.refused" not in caplog.text


async def test_a_claim_whose_answer_was_lost_is_given_back(database: str) -> None:
    """Jobs that were claimed on record but never reached the worker run soon, with no attempt spent."""
    async with proxied(database) as proxy:
        app, far = new_app(database), new_app(proxy.dsn)
        attempts: list[int] = []

        async def work(ctx: JobContext) -> None:
            attempts.append(ctx.attempt)

        task = app.task(work)
        far.task(work)
        async with app, far, far.worker(concurrency=10):
            async with claims_held(database):
                handles = await app.defer_many([task.job() for _ in range(10)])
                await one_waits(database)
                proxy.lose_answers()
            await wait_until(lambda: claimed(database, 10), "the claim is committed")
            proxy.cut()
            proxy.let_pass()
            for handle in handles:
                await end_of(app, handle)

    assert [1] * 10 == attempts


async def claimed(dsn: str, count: int) -> bool:
    return await counted(dsn, "state = 'running'") == count


@pytest.mark.parametrize("cut", [True, False])
async def test_a_claim_cut_off_by_the_stop_is_given_back(database: str, cut: bool) -> None:
    """A worker that is stopped while the answer to its claim is missing, late or lost, leaves no job claimed behind."""
    async with proxied(database) as proxy:
        app, far = new_app(database), new_app(proxy.dsn)

        async def work() -> None: ...

        task = app.task(work)
        far.task(work)
        async with app, far:
            async with far.worker(concurrency=10) as worker:
                async with claims_held(database):
                    await app.defer_many([task.job() for _ in range(10)])
                    await one_waits(database)
                    proxy.lose_answers()
                await wait_until(lambda: claimed(database, 10), "the claim is committed")
                worker.stop(0)
                if cut:
                    proxy.cut()
                proxy.let_pass()
            assert [] == await claims_left(database)
            assert 10 == await counted(database, "state = 'ready' and attempt = 0")


async def test_work_goes_on_after_every_connection_was_ended(database: str) -> None:
    """With all backends terminated again and again under load nothing is lost; each job completes."""
    app = new_app(database, poll=0.2)
    chosen = random.Random(9)  # noqa: S311 - a seed to repeat it by
    runs: list[int] = []

    @app.task
    async def work(number: int) -> None:
        runs.append(number)
        await asyncio.sleep(0)

    async with app, connect(database) as connection, app.worker(concurrency=10):
        for first in range(0, 1200, 200):  # of each cut its own: no worker is too quick
            wanted = len(runs) + chosen.randrange(1, 100)
            await app.defer_many([work.job(number) for number in range(first, first + 200)], connection=connection)
            await wait_until(lambda: len(runs) >= wanted, "some have run")  # noqa: B023 - used at once
            await connection.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        await all_ended(database)

    assert 1200 == await archived(database)
    assert set(range(1200)) == set(runs)


async def test_a_lost_listener_is_replaced(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A listening connection that was ended comes back, and with it wake-ups without delay."""
    app = new_app(database)

    @app.task
    async def work() -> str:
        return "ran"

    async with app, app.worker() as worker:
        await becomes(database, 1, LISTENS)
        for _ in range(3):
            assert 1 == await terminate(database, LISTENS)
            await wait_until(lambda: not worker.snapshot().listening, "the loss is noticed")
            handle = await work.defer()
            assert "ran" == await seen(handle)
            await wait_until(lambda: worker.snapshot().listening, "it listens again")
            await becomes(database, 1, f"{LISTENS} and query like '%wake%'")
            assert "ran" == await seen(await work.defer())

    assert "listener.lost" in caplog.text


async def test_flags_lost_with_the_server_are_published_anew(database: str) -> None:
    """After the table of sleepers was emptied, as by a crash of the server, a worker publishes its sleep again."""
    app = new_app(database)

    @app.task
    async def work() -> str:
        return "ran"

    async def asleep() -> bool:
        return bool(await asked(database, "select exists (select from jobqueue.sleeper where queue = '*')"))

    async with app, app.worker():
        await wait_until(asleep, "the worker sleeps")
        async with connect(database) as connection:
            await connection.execute("truncate jobqueue.sleeper")
        await terminate(database, "application_name <> 'tests'")
        await wait_until(asleep, "the worker has published its sleep again")
        assert "ran" == await seen(await work.defer())


async def test_an_unreachable_database_is_told_once_a_second_at_most(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """While the database is away each part of the worker logs at most one line a second, without a payload."""
    async with proxied(database) as proxy:
        far = new_app(proxy.dsn, poll=0.05)
        async with far, far.worker():
            await asleep(database)  # all parts have begun
            proxy.break_all()
            began = asyncio.get_running_loop().time()
            await wait_until(lambda: caplog.text.count("doing='stage'") >= 2, "it is told twice")
            lines = [caplog.text.count(f"doing='{part}'") for part in ("claim", "stage", "rescue", "beat")]
            passed = asyncio.get_running_loop().time() - began
            proxy.let_pass()

    assert max(lines) <= passed + 1
