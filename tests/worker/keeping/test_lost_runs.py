"""What becomes of jobs whose claim is lost though nobody died: given back and counted, never taken for a crash."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import anyio
import asyncpg
import pytest

from jobqueue.app import App
from jobqueue.base.job import Job, JobState
from jobqueue.base.settings import Settings
from jobqueue.tasks.context import JobContext
from tests.support.jobs.beating import BEAT, LEASE, QUICK, outlived
from tests.support.jobs.deaths import ALIVE, bait, left_running, worker_row
from tests.support.jobs.store import connect
from tests.support.jobs.working import POLL, asked, counted, end_of, new_app
from tests.support.patience import NEVER, PATIENCE, scaled
from tests.support.postgres.backends import change
from tests.support.postgres.proxy import proxied
from tests.support.programs.scripts import run_script
from tests.support.waiting import wait_until

ONE_SWEEP: dict[str, Any] = {**QUICK, "rescue_interval": 3600.0}
"""A worker looks for claims to rescue at its start, and never again while a test lasts."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What threads wait for; opened at the end whatever happens, so that none outlives its test."""
    event = threading.Event()
    yield event
    event.set()


async def over(dsn: str) -> bool:
    return await counted(dsn, "lease_until > clock_timestamp()") == 0


async def test_a_claim_lost_while_a_retry_policy_thinks_is_given_back(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Protocols A4: cut off in a policy that awaits, the failure has no verdict: the job is not dead, it runs again.

    That the database did not answer is no fault of the job's: it counts as neither crashed nor lost.
    """
    thinks = asyncio.Event()
    runs: list[int] = []

    async def policy(job: Job, error: BaseException) -> float:
        thinks.set()
        await anyio.sleep_forever()
        return 0.0

    async with proxied(database) as proxy:
        far = new_app(proxy.dsn, **ONE_SWEEP)

        @far.task(retry=policy)
        async def work(ctx: JobContext) -> str:
            runs.append(ctx.attempt)
            if len(runs) == 1:
                raise OSError("no")
            return "ran"

        swept = await bait(database)
        async with far, far.worker():
            await swept()  # else its question would come late, and take the claim back before its own worker does
            handle = await work.defer()
            await thinks.wait()
            proxy.stall()
            await wait_until(lambda: "job.lost" in caplog.text, "the claim is given up")
            await wait_until(lambda: over(database), "its lease is over")
            proxy.let_pass()
            job = await end_of(far, handle)
    assert (JobState.COMPLETED, [1, 1]) == (job.state, runs)
    assert (0, 0, ()) == (job.crashes, job.lost, job.errors)


async def test_claims_lost_again_and_again_end_a_job(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Protocols A4: each claim that its own worker gives up is counted, and the tenth ends the job, as in a rescue."""
    seen: list[int] = []
    app = new_app(database, **ONE_SWEEP)

    @app.task
    async def work(ctx: JobContext) -> None:
        seen.append(ctx.job.lost)
        await anyio.sleep_forever()

    async with app, connect(database) as other:
        handle = await work.defer()
        await change(database, "update jobqueue.job set lost = 8")
        async with app.worker():
            for times in (1, 2):
                await wait_until(lambda: len(seen) == times, "it runs")  # noqa: B023 - used at once
                async with other.transaction():  # the beat is answered, but cannot renew
                    await other.execute("select from jobqueue.job for update")
                    lost = "event='job.lost'"
                    await wait_until(lambda: caplog.text.count(lost) == times, "it is given up")  # noqa: B023 - used at once
            job = await end_of(app, handle)
    assert [8, 9] == seen
    assert (JobState.DEAD, "lost", 0) == (job.state, job.reason, job.crashes)
    assert ["ClaimLost"] == [error.error_class for error in job.errors]


async def test_a_thread_that_outlives_an_orderly_stop_is_no_crash(
    database: str, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protocols A4, A6: a worker that ends in order says so; what it leaves running is lost, not crashed or dead."""
    monkeypatch.setattr("jobqueue.worker.draining.FINAL_WRITES", 1.0)
    began = threading.Event()
    app, other = new_app(database, **QUICK), new_app(database, **QUICK)

    @app.task(max_attempts=1)
    def work() -> None:
        began.set()
        gate.wait(PATIENCE)

    async with app:
        handle = await work.defer()
        with pytest.raises(TimeoutError):
            async with app.worker() as worker:
                await wait_until(began.is_set, "the thread runs")
                await worker.drain(0)
    assert not worker.clean
    assert await asked(database, "select stopped_at is not null from jobqueue.worker where id = $1", worker.id)

    async with other:
        job = await other.jobs.get(handle.id)
        assert JobState.RUNNING is job.state, "its claim holds until its lease ends"
        async with other.worker(queues=["elsewhere"]):
            await wait_until(lambda: rescued(other, handle.id), "it is taken back")
        job = await other.jobs.get(handle.id)
    assert (JobState.READY, 0, 1, 0, ()) == (job.state, job.crashes, job.lost, job.attempt, job.errors)


async def rescued(app: App, id: UUID) -> bool:
    return (await app.jobs.get(id)).state is not JobState.RUNNING


async def test_one_job_that_cannot_be_stored_keeps_no_other_from_its_rescue(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Reliability A9: the others are taken back; of the one that the database refuses the log tells, once a sweep."""
    app = new_app(database, **ONE_SWEEP)

    @app.task
    async def work() -> None: ...

    @app.task(name="bad")
    async def bad() -> None: ...

    def told() -> list[str]:
        return [line for line in caplog.text.splitlines() if "job.rescue_failed" in line]

    async with app:
        handles = await app.defer_many([work.job(), bad.job(), work.job(), work.job()])
        refused = handles.pop(1)
        gone = await worker_row(database, ALIVE)
        await left_running(database, [refused.id, *(handle.id for handle in handles)], gone)
        await change(
            database,
            "alter table jobqueue.job add constraint refuses check (task <> 'bad' or state = 'running') not valid",
        )
        for sweeps in (1, 2):
            await one_sweep(app, database)
            assert [JobState.READY] * 3 == [await handle.status() for handle in handles]
            assert JobState.RUNNING is await refused.status()
            assert sweeps == len(told())
            assert str(refused.id) in told()[-1]
        await change(database, "alter table jobqueue.job drop constraint refuses")
        await one_sweep(app, database)
        assert JobState.READY is await refused.status()
        jobs = [await app.jobs.get(handle.id) for handle in (refused, *handles)]
    assert 2 == len(told())
    assert [(0, 1)] * 4 == [(job.crashes, job.lost) for job in jobs]
    assert "loop.failed" not in caplog.text


async def one_sweep(app: App, dsn: str) -> None:
    """Have a worker go once over everything."""
    swept = await bait(dsn)
    async with app.worker(queues=["none"]):
        await swept()


async def test_a_slow_database_costs_no_claim(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S4-60: a renewal may take as long as the lease leaves it, not only the half of a beat, and is made but once."""
    lease = scaled(4.0)
    app = new_app(database, lease=lease, beat=0.4, rescue_interval=0.3)
    release = asyncio.Event()
    runs: list[int] = []
    await change(
        database,
        "create function slow() returns trigger language plpgsql as"
        " 'begin perform pg_sleep(0.5); return new; end';"
        " create trigger slow before update of lease_until on jobqueue.job for each row"
        " when (old.state = 'running' and new.state = 'running') execute function slow()",
    )

    @app.task
    async def work() -> str:
        runs.append(1)
        await release.wait()
        return "done"

    async with app, app.worker() as worker:
        handle = await work.defer()
        await wait_until(lambda: runs, "it runs")
        await outlived(database, 1.3, lease)
        release.set()
        assert "done" == await handle.result(timeout=PATIENCE)
        assert (0, 0) == (worker.snapshot().refused, worker.snapshot().rescued)
    assert [1] == runs
    assert "job.lost" not in caplog.text
    assert "doing='beat'" not in caplog.text


async def test_a_pool_of_the_users_that_handlers_use_up_costs_no_claim(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S4-60: handlers that take every connection of the user's pool, and keep them, do not stop the heart."""
    release = asyncio.Event()
    runs: list[int] = []
    taken: list[int] = []
    async with asyncpg.create_pool(database, min_size=0, max_size=10, timeout=PATIENCE) as pool:
        app = App(pool=pool, settings=Settings(poll=POLL, **QUICK))

        @app.task
        async def work(number: int) -> None:
            runs.append(number)
            async with pool.acquire():
                taken.append(number)
                await release.wait()

        async with app:
            await app.defer_many([work.job(number) for number in range(12)])
            async with app.worker(concurrency=12) as worker:
                await wait_until(lambda: len(runs) == 12, "all run")
                await wait_until(
                    lambda: pool.get_size() == 10 and pool.get_idle_size() == 0, "every connection is taken"
                )
                assert len(taken) < 12
                await outlived(database, 1.5, LEASE)
                release.set()
                await wait_until(lambda: none_left(database), "all have ended")
                assert (0, 0) == (worker.snapshot().refused, worker.snapshot().rescued)
    assert list(range(12)) == sorted(runs)
    assert "job.lost" not in caplog.text


async def none_left(dsn: str) -> bool:
    return await counted(dsn) == 0


async def test_the_heart_of_a_loop_that_was_closed_stops(database: str) -> None:
    """Protocols A4: a worker whose loop is gone beats no more: others may have its jobs when their leases are over."""
    printed = await run_script(
        """
        import asyncio, gc, json, os, sys, threading
        from jobqueue import App
        from jobqueue.base.settings import Settings

        gc.disable()  # what is left behind stays as it is
        kept = []

        async def start():
            app = App(settings=Settings(**json.loads(sys.argv[1])))
            worker = app.worker()
            await app.open()
            await worker.__aenter__()
            kept.extend((app, worker, asyncio.all_tasks()))

        def serve():
            loop = asyncio.new_event_loop()
            loop.run_until_complete(start())
            kept.append(loop)
            loop.close()

        def hearts():
            return [each for each in threading.enumerate() if each.name == "jobqueue heartbeat"]

        thread = threading.Thread(target=serve)
        thread.start()
        while not hearts() and thread.is_alive():
            thread.join(0.01)
        (heart,) = hearts()
        thread.join()
        heart.join(float(sys.argv[2]))
        print("beats" if heart.is_alive() else "ended", flush=True)
        os._exit(0)
        """,
        database,
        json.dumps({"lease": NEVER, "beat": BEAT}),  # a beat that is slow for want of a processor says nothing
        str(PATIENCE),
    )
    assert "ended" == printed
