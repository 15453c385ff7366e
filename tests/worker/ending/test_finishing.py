"""Outcomes are written in batches, each job's own fate apart from its neighbours'."""

import asyncio
import logging

import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.base.retry import steps
from jobqueue.base.settings import Settings
from tests.support.jobs.beating import QUIET
from tests.support.jobs.counting import counted_pool
from tests.support.jobs.deaths import take_away
from tests.support.jobs.store import connect
from tests.support.jobs.working import POLL, all_ended, archived, counted, end_of, new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change
from tests.support.postgres.locks import row_held
from tests.support.waiting import wait_until


async def test_claims_and_outcomes_go_in_batches(database: str) -> None:
    """S1-10: with 4 000 waiting and concurrency 100, far less than one statement in ten jobs claims or finishes."""
    async with counted_pool(database) as (pool, sent):
        app = App(pool=pool, settings=Settings(poll=POLL))

        @app.task
        async def work(number: int) -> None: ...

        async with app:
            await app.defer_many([work.job(number) for number in range(4_000)])
            await app.run_worker(concurrency=100, burst=True)

    assert 4_000 == await archived(database)
    assert 0 < sent.calls["claim_jobs"] < 400
    assert 0 < sent.calls["finish_jobs"] < 400


async def test_batches_are_bounded_in_bytes(database: str) -> None:
    """Outcomes with large results do not become one giant statement."""
    async with counted_pool(database) as (pool, sent):
        app = App(pool=pool, settings=Settings(poll=POLL))
        release = asyncio.Event()
        waiting: list[int] = []

        @app.task
        async def give(number: int) -> str:
            waiting.append(number)
            await release.wait()
            return "x" * 1_000_000

        async with app, app.worker(concurrency=30):
            await app.defer_many([give.job(number) for number in range(30)])
            await wait_until(lambda: len(waiting) == 30, "all run")
            release.set()
            await all_ended(database)

    assert 30 == await archived(database)
    assert 1_000_000 < sent.longest["finish_jobs"] < 12_000_000


async def test_an_outcome_that_the_database_refuses_is_alone_in_that(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One poisoned outcome in a batch ends its own job as dead; the others of the batch are completed."""
    app = new_app(database)
    release = asyncio.Event()
    waiting: list[int] = []

    @app.task
    async def give(number: int) -> str:
        waiting.append(number)
        await release.wait()
        return "poison" if number in (7, 23) else "fine"

    async with connect(database) as connection:
        await connection.execute(
            """alter table jobqueue.job_archive add constraint no_poison check (result::text <> '"poison"')"""
        )
    async with app, app.worker(concurrency=40) as worker:
        handles = await app.defer_many([give.job(number) for number in range(40)])
        await wait_until(lambda: len(waiting) == 40, "all run")
        release.set()
        jobs = [await end_of(app, handle) for handle in handles]
        assert worker.snapshot().free == 40

    dead = [number for number, job in enumerate(jobs) if job.state is JobState.DEAD]
    assert [7, 23] == dead
    assert all(job.state is JobState.COMPLETED for number, job in enumerate(jobs) if number not in dead)
    assert ("result", "OutcomeRefused") == (jobs[7].reason, jobs[7].error and jobs[7].error.error_class)
    assert "poison" not in caplog.text


async def test_a_failure_whose_words_are_refused_is_a_failure_still(database: str) -> None:
    """Its attempts count as ever; only what the database does not take is left out of the history."""
    app = new_app(database)

    @app.task(max_attempts=3, retry=steps(0))
    async def fail() -> None:
        raise ValueError("poison")

    for table in ("job", "job_archive"):
        await change(
            database, f"alter table jobqueue.{table} add constraint no_poison check (errors::text not like '%poison%')"
        )
    async with app, app.worker():
        job = await end_of(app, await fail.defer())

    assert (JobState.DEAD, "attempts", 3) == (job.state, job.reason, job.attempt)
    assert ["OutcomeRefused"] * 3 == [error.error_class for error in job.errors]


async def test_an_outcome_that_can_never_be_written_does_not_stop_the_worker(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the database takes no outcome of a job at all, that is logged once, and the worker goes on."""
    app = new_app(database)

    @app.task
    async def work(number: int) -> int:
        return number

    async with connect(database) as connection:
        await connection.execute(
            "alter table jobqueue.job_archive add constraint no_first check (args->>'number' <> '1')"
        )
    async with app, app.worker():
        lost, fine = await work.defer(1), await work.defer(2)
        assert 2 == await fine.result(timeout=PATIENCE)
        await wait_until(lambda: "job.outcome_unsaved" in caplog.text, "it is logged")
        assert 3 == await (await work.defer(3)).result(timeout=PATIENCE)
        assert JobState.RUNNING is await lost.status()

    assert 1 == caplog.text.count("job.outcome_unsaved")


@pytest.mark.parametrize("how", ["returns", "fails"])
async def test_a_worker_that_lost_its_claim_writes_nothing(
    database: str, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """An outcome whose fence has changed is refused and logged; row and worker are as if it had never been."""
    app = new_app(database, **QUIET)
    began, release = asyncio.Event(), asyncio.Event()

    @app.task(retry=steps(0))
    async def work() -> str:
        began.set()
        await release.wait()
        if how == "fails":
            raise OSError
        return "mine"

    @app.task
    async def next_one() -> str:
        return "ran"

    async with app, app.worker(concurrency=2):
        handle = await work.defer()
        await began.wait()
        await take_away(database, handle.id)
        release.set()
        await wait_until(lambda: "job.refused" in caplog.text, "the refusal is logged")
        assert "ran" == await (await next_one.defer()).result(timeout=PATIENCE)
        job = await app.jobs.get(handle.id)

    assert (JobState.RUNNING, 1, ()) == (job.state, job.attempt, job.errors)
    assert 1 == caplog.text.count("job.refused")
    assert "database.unreachable" not in caplog.text


async def test_a_job_that_vanished_while_it_ran_is_no_trouble(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A running job whose row was deleted by hand is refused like any lost claim."""
    app = new_app(database)
    began, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> None:
        began.set()
        await release.wait()

    async with app, app.worker():
        await work.defer()
        await began.wait()
        async with connect(database) as connection:
            await connection.execute("delete from jobqueue.job")
        release.set()
        await wait_until(lambda: "job.refused" in caplog.text, "the refusal is logged")

    assert (0, 0) == (await counted(database), await archived(database))


async def test_a_day_without_partition_is_made_by_the_finish(database: str) -> None:
    """A finish that meets no partition for its day makes it; nobody notices."""
    app = new_app(database)
    began, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> str:
        began.set()
        await release.wait()
        return "done"

    async with app, app.worker():
        handle = await work.defer()
        await began.wait()
        async with connect(database) as connection:
            leaves = await connection.fetch(
                "select inhrelid::regclass::text as leaf from pg_inherits"
                " where inhparent = 'jobqueue.job_archive_completed'::regclass"
            )
            for leaf in leaves:
                await connection.execute(f"drop table {leaf['leaf']}")
        release.set()
        assert "done" == await handle.result(timeout=PATIENCE)


async def test_completions_are_told_at_debug_level_only(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """What goes well is silent at the usual level, and told at debug."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app:
        for level, told in ((logging.INFO, 0), (logging.DEBUG, 1)):
            caplog.clear()
            caplog.set_level(level, "jobqueue")
            async with app.worker():
                await end_of(app, await work.defer())
            assert told == caplog.text.count("job.completed")


async def test_an_open_transaction_holds_up_one_outcome(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A row that anybody has locked, to cancel the job for one, delays its own outcome only, and that is told."""
    app = new_app(database)
    release = asyncio.Event()
    running: list[int] = []

    @app.task
    async def work(number: int) -> int:
        running.append(number)
        await release.wait()
        return number

    async with app, connect(database) as connection, app.worker(concurrency=5):
        locked, beside = await work.defer(0), await work.defer(1)
        await wait_until(lambda: len(running) == 2, "both run")
        async with connection.transaction():
            await app.jobs.cancel(locked.id, connection=connection)
            release.set()
            others = await work.defer_many(range(2, 50))
            assert list(range(1, 50)) == [await handle.result() for handle in (beside, *others)]
            await wait_until(lambda: "job.locked" in caplog.text, "it is told")
            assert JobState.RUNNING is await locked.status()
        assert 0 == await locked.result()


async def test_a_stop_writes_all_but_what_is_locked(database: str) -> None:
    """A drain while somebody has one row locked leaves that one job behind, and all others written."""
    app = new_app(database)
    release = asyncio.Event()
    running: list[int] = []

    @app.task
    async def work(number: int) -> int:
        running.append(number)
        await release.wait()
        return number

    async with app:
        handles = await work.defer_many(range(20))
        with pytest.raises(TimeoutError):
            async with app.worker(concurrency=20) as worker:
                await wait_until(lambda: len(running) == 20, "all run")
                async with row_held(database, handles[7].id):
                    release.set()
                    await worker.drain(60.0)
    assert (19, 1) == (await archived(database), await counted(database, "state = 'running'"))
