"""A worker keeps what it holds: its claims are renewed beside the event loop for as long as it lives."""

import asyncio
import logging
import threading

import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.base.settings import Settings
from tests.support.jobs.beating import BEAT, LEASE, QUICK, block, block_while_watching, outlived, worker_elsewhere
from tests.support.jobs.counting import counted_pool
from tests.support.jobs.store import connect
from tests.support.jobs.working import POLL, archived, asked, counted, end_of, new_app, one_waits
from tests.support.patience import NEVER, PATIENCE
from tests.support.waiting import wait_until


async def test_a_job_longer_than_its_lease_runs_once(database: str) -> None:
    """S4-60: running jobs and those claimed ahead, all of one batch, keep their claims beside another worker.

    Jobs that wait for a slot are not said to have started.
    """
    app = new_app(database, prefetch=4, **QUICK)
    release = asyncio.Event()
    runs: list[int] = []

    @app.task
    async def work(number: int) -> int:
        runs.append(number)
        await release.wait()
        return number

    async with app:
        handles = await app.defer_many([work.job(number) for number in range(7)])
        async with app.worker(concurrency=3):
            await wait_until(lambda: len(runs) == 3, "three jobs run")
            async with app.worker(concurrency=1) as second:
                assert 7 == await counted(database, "state = 'running'")
                await outlived(database)
                assert 3 == await counted(database, "started")
                assert (0, 3) == (second.snapshot().rescued, len(runs))
            release.set()
            assert list(range(7)) == [await handle.result(timeout=PATIENCE) for handle in handles]
    assert list(range(7)) == sorted(runs)


async def test_a_blocked_loop_keeps_every_claim(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S4-63, reliability B8: a task that blocks the event loop for two leases loses nothing, nor do its neighbours."""
    app = new_app(database, **QUICK)
    release = asyncio.Event()
    runs: list[str] = []

    async def beside() -> str:
        runs.append("beside")
        await release.wait()
        return "done"

    async def blocks() -> str:
        runs.append("blocks")
        assert all(block_while_watching(database, 2.2 * LEASE))
        release.set()
        return "done"

    async with app, app.worker(concurrency=2):
        neighbour = await app.task(beside).defer()
        await wait_until(lambda: runs == ["beside"], "the neighbour runs")
        async with worker_elsewhere(database, beside, blocks, **QUICK):
            blocker = await app.task(blocks).defer()
            await wait_until(lambda: "blocks" in runs, "one blocks its loop")
            assert "done" == await neighbour.result(timeout=PATIENCE)
            await wait_until(lambda: runs_on(database, blocker.id), "the blocker is done")
    assert ["beside", "blocks"] == runs
    assert 2 == await archived(database)
    assert "job.lost" not in caplog.text


async def runs_on(dsn: str, id: object) -> bool:
    return await counted(dsn, "id = $1", id) == 0


async def test_a_drain_goes_on_beating(database: str) -> None:
    """S4-62, reliability A12: while the last jobs of a stopping worker run, their claims are renewed."""
    app = new_app(database, **QUICK)
    began, release = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @app.task
    async def work() -> str:
        runs.append(1)
        began.set()
        await release.wait()
        return "done"

    async with app, app.worker() as first:
        handle = await work.defer()
        await began.wait()
        first.stop(30)
        async with app.worker() as second:
            await outlived(database)
            release.set()
            assert "done" == await handle.result(timeout=PATIENCE)
            await first.ended()
            assert (True, 0) == (first.clean, second.snapshot().rescued)
    assert [1] == runs


async def test_an_outcome_that_cannot_be_written_keeps_its_claim(database: str) -> None:
    """S1-16: a job that has ended is held on record until its outcome is written, however long that takes."""
    app = new_app(database, **QUICK)
    runs: list[int] = []

    @app.task
    async def work(number: int) -> int:
        runs.append(number)
        return number

    async with app, app.worker() as worker, connect(database) as connection:
        await end_of(app, await work.defer(0))
        async with connection.transaction():
            await connection.execute("lock table jobqueue.job_archive in share mode")
            handles = await app.defer_many([work.job(number) for number in range(1, 5)])
            await one_waits(database)
            await wait_until(lambda: len(runs) == 5, "all have ended")
            await outlived(database)
            assert 50 == worker.snapshot().free
        assert [1, 2, 3, 4] == [await handle.result(timeout=PATIENCE) for handle in handles]
    assert [0, 1, 2, 3, 4] == sorted(runs)


async def test_a_blocked_beat_holds_up_no_job(database: str) -> None:
    """S4-61: while a beat waits for a lock, jobs end, are written and start as ever."""
    app = new_app(database, lease=NEVER, beat=BEAT)
    began, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def work(wait: bool) -> str:
        began.set()
        if wait:
            await release.wait()
        return "done"

    async with app, app.worker(), connect(database) as connection:
        handle = await work.defer(True)
        await began.wait()  # so the first beat was answered: nothing is claimed before that
        async with connection.transaction():
            await connection.execute("select from jobqueue.worker for update")
            await one_waits(database)
            release.set()
            assert "done" == await handle.result(timeout=PATIENCE)
            assert "done" == await (await work.defer(False)).result(timeout=PATIENCE)


async def test_a_locked_row_keeps_the_others_waiting_for_nothing(database: str) -> None:
    """Protocols A9: one claim that somebody has locked is asked for again; the other is renewed, and both are kept."""
    app = new_app(database, **QUICK)
    release = asyncio.Event()
    runs: list[int] = []

    @app.task
    async def work(number: int) -> int:
        runs.append(number)
        await release.wait()
        return number

    async with app, app.worker(), connect(database) as connection:
        locked, other = await app.defer_many([work.job(0), work.job(1)])
        await wait_until(lambda: len(runs) == 2, "both run")
        lease = "select lease_until from jobqueue.job where id = $1"
        before = await asked(database, lease, other.id)
        async with connection.transaction():
            await connection.execute("select from jobqueue.job where id = $1 for update", locked.id)

            async def renewed() -> bool:
                return bool(await asked(database, lease, other.id) > before)

            await wait_until(renewed, "the other is renewed")
        await outlived(database)
        release.set()
        assert [0, 1] == [await handle.result(timeout=PATIENCE) for handle in (locked, other)]
    assert [0, 1] == sorted(runs)


async def test_thousands_of_quick_jobs_and_a_beat_all_the_time(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Protocols A9: a beat that meets jobs which have just ended cancels none, loses none and doubles none."""
    caplog.set_level(logging.INFO, "jobqueue")
    app = new_app(database, lease=9.0, beat=0.02, rescue_interval=0.05)
    runs: list[int] = []

    @app.task
    async def work(number: int) -> None:
        await asyncio.sleep(0)
        runs.append(number)

    async with app:
        await app.defer_many([work.job(number) for number in range(3_000)])
        async with app.worker(concurrency=50) as worker:
            await wait_until(lambda: len(runs) >= 3_000, "all have run")
            await worker.drain(10)
            assert (0, 0) == (worker.snapshot().refused, worker.snapshot().rescued)
    assert list(range(3_000)) == sorted(runs)
    assert 3_000 == await archived(database)
    for trouble in ("job.lost", "job.refused"):
        assert trouble not in caplog.text


async def test_two_hundred_jobs_beat_in_one_statement_on_a_pool_of_the_users(database: str) -> None:
    """S4-60: on the user's own pool claims are renewed as well, 200 of them by one statement a beat."""
    release = asyncio.Event()
    runs: list[int] = []
    async with counted_pool(database) as (pool, sent):
        app = App(pool=pool, settings=Settings(poll=POLL, **QUICK))

        @app.task
        async def work() -> None:
            runs.append(1)
            await release.wait()

        async with app, app.worker(concurrency=200):
            await app.defer_many([work.job() for _ in range(200)])
            await wait_until(lambda: len(runs) == 200, "all run")
            before, began = sent.calls["renew_claims"], asyncio.get_running_loop().time()
            await outlived(database)
            beats = sent.calls["renew_claims"] - before
            passed = asyncio.get_running_loop().time() - began
            release.set()
    assert passed / LEASE < beats < passed / BEAT * 1.3 + 2
    assert 200 == await archived(database) == len(runs)


async def test_a_worker_whose_row_is_gone_registers_again(database: str) -> None:
    """Reliability A8: a worker row that somebody deleted is back within a beat or two, and no job suffers."""
    app = new_app(database, **QUICK)
    release = asyncio.Event()

    @app.task
    async def work() -> str:
        await release.wait()
        return "done"

    async with app, app.worker() as worker:
        handle = await work.defer()
        async with connect(database) as connection:
            await connection.execute("delete from jobqueue.worker")

        async def back() -> bool:
            query = "select exists (select from jobqueue.worker where id = $1 and alive_until > now() and pid > 0)"
            return bool(await asked(database, query, worker.id))

        await wait_until(back, "it is registered again")
        release.set()
        assert "done" == await handle.result(timeout=PATIENCE)


async def test_no_claim_ends_before_the_word_of_its_worker(database: str) -> None:
    """S3-08: a lease never ends while its worker still counts as alive: else a crash was taken for a lost claim.

    Claims are made all the time, so that some are as young as can be when a beat comes.
    """
    app = new_app(database, **QUICK)
    release = asyncio.Event()

    @app.task
    async def work() -> None:
        await release.wait()

    async with app, app.worker(concurrency=1_000):
        for _ in range(100):
            await work.defer()
            assert 0 == await asked(
                database,
                "select count(*) from jobqueue.job j join jobqueue.worker w on w.id = j.worker_id"
                " where w.alive_until > j.lease_until",
            )
        release.set()


async def test_nothing_of_the_heart_outlives_its_worker(database: str) -> None:
    """Reliability B10: workers that start and stop leave no thread behind; the end waits for the heart's."""
    app = new_app(database, **QUICK)

    def ours() -> list[str]:
        fresh = (thread for thread in threading.enumerate() if thread not in before)
        return [thread.name for thread in fresh if thread.name.startswith("jobqueue")]

    before = set(threading.enumerate())
    all_of_two = ["jobqueue heartbeat"] * 2 + ["jobqueue watchdog"] * 2
    async with app:
        for _ in range(5):
            async with app.worker(), app.worker():
                await wait_until(lambda: sorted(ours()) == all_of_two, "all run")
            assert "jobqueue heartbeat" not in ours()
        await wait_until(lambda: not ours(), "the watchdogs have ended")
        assert 0 == await asked(database, "select count(*) from jobqueue.worker")


async def test_a_worker_that_hangs_lets_its_claims_go(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Reliability B9: a loop that is blocked for many leases renews no more; another worker takes the job over."""
    monkeypatch.setattr("jobqueue.worker.keeping.heartbeat.HUNG", 1)
    app = new_app(database, **QUICK)
    second = threading.Event()
    runs: list[bool] = []

    async def hangs() -> str:
        ours = threading.current_thread() is threading.main_thread()
        runs.append(ours)
        if ours:
            assert second.wait(PATIENCE), "nobody took the job over"
            block(BEAT)
            return "first"
        second.set()
        return "second"

    async with app, app.worker() as worker:
        handle = await app.task(hangs).defer()
        async with worker_elsewhere(database, hangs, **QUICK):
            assert "second" == await handle.result(timeout=PATIENCE)
            await wait_until(lambda: worker.snapshot().running == 0, "the first run has ended")
            await wait_until(lambda: worker.snapshot().unwritten == 0, "its outcome is refused")
    assert [True, False] == runs
    assert "worker.hung" in caplog.text


async def test_a_worker_that_is_not_heard_claims_nothing(database: str) -> None:
    """While its beats get no answer jobs stay ready, for others; what it had lost by then was not the jobs' fault."""
    app = new_app(database, **QUICK)
    release = asyncio.Event()

    @app.task
    async def work() -> None:
        await release.wait()

    async with app, connect(database) as other, app.worker() as worker:
        running = await work.defer()
        await wait_until(lambda: worker.snapshot().running == 1, "it runs")
        async with other.transaction():
            await other.execute("lock table jobqueue.worker in access exclusive mode")
            await wait_until(lambda: worker.snapshot().unanswered > LEASE, "the beats get no answer")
            waiting = await app.defer_many([work.job() for _ in range(3)])
            began = worker.snapshot().unanswered
            await wait_until(lambda: worker.snapshot().unanswered > began + LEASE / 2, "some looks have passed")
            assert [JobState.READY] * 3 == [await handle.status() for handle in waiting]
        release.set()
        jobs = [await end_of(app, handle) for handle in (running, *waiting)]
    assert [(JobState.COMPLETED, 0, 0)] * 4 == [(job.state, job.lost, job.crashes) for job in jobs]
