"""Jobs of workers that died are taken back by whoever is left, at once or when their lease is over, and counted."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from jobqueue.base.errors import JobFailed
from jobqueue.base.job import Job, JobState
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.handle import JobHandle
from jobqueue.worker.keeping.machine import born, this_machine
from tests.support.jobs.beating import QUICK
from tests.support.jobs.deaths import ALIVE, SILENT, bait, left_running, worker_row
from tests.support.jobs.store import connect
from tests.support.jobs.working import archived, asked, counted, end_of, new_app, reached
from tests.support.patience import NEVER, PATIENCE, scaled
from tests.support.postgres.backends import terminate
from tests.support.waiting import wait_until

RESCUES = "query ~ 'fence <> all|dead as materialized|worker where machine'"
LONG = NEVER
"""Seconds: a lease that does not end while a test lasts."""


async def left(dsn: str, handles: Sequence[JobHandle[Any]], worker: UUID | None = None, **said: Any) -> None:
    """Put these jobs on record as claimed by a worker that is no more."""
    await left_running(dsn, [handle.id for handle in handles], worker, **said)


async def set_counter(dsn: str, column: str, value: int) -> None:
    async with connect(dsn) as connection:
        await connection.execute(f"update jobqueue.job set {column} = $1", value)


async def test_what_a_dead_worker_held_is_run(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S1-17, S4-67, S3-08: a job whose worker died in mid-run is run again, its attempt refunded, the story told."""
    app = new_app(database, **QUICK)
    dead = await worker_row(database, SILENT)

    @app.task
    async def work(ctx: JobContext) -> int:
        return ctx.attempt

    async with app:
        handle = await work.defer()
        await left(database, [handle], dead)
        async with app.worker() as worker:
            assert 1 == await handle.result(timeout=PATIENCE)
            assert 1 == worker.snapshot().rescued
        job = await app.jobs.get(handle.id)

    (error,) = job.errors
    assert (1, 1, 0) == (job.attempt, job.crashes, job.lost)
    assert ("WorkerCrashed", 1, str(dead)) == (error.error_class, error.attempt, error.worker)
    assert job.claimed_at is not None
    assert error.at is not None
    assert error.at < job.due_at <= job.claimed_at, "it is delayed"
    assert "crash 1 of 3" in error.message
    (line,) = [line for line in caplog.text.splitlines() if "job.rescued" in line]
    assert str(dead) in line


@pytest.mark.parametrize(("alive", "started"), [(ALIVE, True), (ALIVE, False), (SILENT, False)])
async def test_a_claim_lost_without_a_crash_costs_nothing(database: str, alive: float, started: bool) -> None:
    """Protocols A4: with a worker that still beats, or no start of what runs once, the job is ready in its place."""
    app = new_app(database, concurrency=1, **QUICK)
    order: list[int] = []

    @app.task
    async def work(number: int) -> None:
        order.append(number)

    async with app:
        handles = await work.options(max_attempts=1 if alive == SILENT else 20).defer_many(range(3))
        await left(database, handles[:1], await worker_row(database, alive), started=started)
        async with app.worker(queues=["elsewhere"]):
            job = await reached(app, handles[0], JobState.READY)
        await app.run_until_idle()
    assert (0, 0, 1, ()) == (job.attempt, job.crashes, job.lost, job.errors)
    assert [0, 1, 2] == order


@pytest.mark.parametrize(
    ("knobs", "told", "crashes", "reason"),
    [
        ({}, {}, 2, "crashed"),
        ({"max_crashes": 5}, {}, 4, "crashed"),
        ({"max_crashes": 1}, {}, 1, "crashed"),
        ({}, {"max_attempts": 1}, 0, "crashed"),
    ],
    ids=["third of three", "fifth of five", "second of one", "one attempt"],
)
async def test_a_job_that_killed_its_workers_is_dead(
    database: str, knobs: dict[str, Any], told: dict[str, Any], crashes: int, reason: str
) -> None:
    """S4-68: at its limit of crashes a job is dead, and who waits for its result hears so; its neighbours run on.

    With one attempt there is never a second run. The unique key is free again.
    """
    app = new_app(database, **QUICK, **knobs)
    dead = await worker_row(database, SILENT)
    runs: list[str] = []

    @app.task
    async def work(name: str) -> str:
        runs.append(name)
        return name

    async with app:
        poison = await work.options(unique="key", **told).defer("poison")
        await left(database, [poison], dead)
        await set_counter(database, "crashes", crashes)
        await set_counter(database, "alone", crashes > 0)
        neighbour = await work.defer("neighbour")
        async with app.worker():
            with pytest.raises(JobFailed, match="WorkerCrashed"):
                await poison.result(timeout=PATIENCE)
            assert "neighbour" == await neighbour.result(timeout=PATIENCE)
            again = await work.options(unique="key").defer("again")
            assert again.id != poison.id
            assert "again" == await again.result(timeout=PATIENCE)
        job = await app.jobs.get(poison.id)

    assert (JobState.DEAD, reason, crashes + 1) == (job.state, job.reason, job.crashes)
    assert ("WorkerCrashed", 1, str(dead)) == (
        job.errors[-1].error_class,
        job.errors[-1].attempt,
        job.errors[-1].worker,
    )
    assert ["again", "neighbour"] == sorted(runs)


async def test_a_crash_below_the_limit_is_no_death(database: str) -> None:
    """S4-68: one crash fewer than the limit, and the job runs again."""
    app = new_app(database, max_crashes=2, **QUICK)

    @app.task
    async def work() -> str:
        return "ran"

    async with app:
        handle = await work.defer()
        await left(database, [handle])
        async with app.worker():
            assert "ran" == await handle.result(timeout=PATIENCE)


async def test_a_job_lost_ten_times_is_dead(database: str) -> None:
    """Protocols A4: claims that are lost again and again though nobody died end the job as well; nine times do not."""
    app = new_app(database, **QUICK)
    alive = await worker_row(database, ALIVE)
    jobs: list[Job] = []

    @app.task
    async def work() -> str:
        return "ran"

    async with app:
        for lost in (8, 9):
            handle = await work.defer()
            await left(database, [handle], alive)
            await set_counter(database, "lost", lost)
            async with app.worker():
                jobs.append(await end_of(app, handle))

    assert [(JobState.COMPLETED, 9, 0), (JobState.DEAD, 10, 0)] == [(job.state, job.lost, job.crashes) for job in jobs]
    assert ("lost", "ClaimLost") == (jobs[1].reason, jobs[1].errors[-1].error_class)


def a_dead_pid() -> int:
    """The number of a process that has been and is no more."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


async def test_a_process_of_this_machine_that_is_gone_is_proof(database: str) -> None:
    """Jobs of a worker of this machine whose process is gone, its number perhaps another's now, wait for no lease."""
    machine, ours = this_machine(), born(os.getpid())
    assert machine is not None
    assert ours is not None
    gone = await worker_row(database, ALIVE, machine=machine, pid=a_dead_pid(), born=ours)
    reused = await worker_row(database, ALIVE, machine=machine, pid=os.getpid(), born=f"{ours}0")
    lives = await worker_row(database, ALIVE, machine=machine, pid=os.getpid(), born=ours)
    unsure = await worker_row(database, ALIVE, machine=machine, pid=a_dead_pid())
    elsewhere = await worker_row(database, ALIVE, machine="elsewhere", pid=a_dead_pid(), born=ours)
    app = new_app(database, **QUICK)

    @app.task
    async def work() -> str:
        return "ran"

    async with app:
        handles = await app.defer_many([work.job() for _ in range(5)])
        for handle, owner in zip(handles, (gone, reused, lives, unsure, elsewhere), strict=True):
            await left(database, [handle], owner, lease=LONG)
        async with app.worker() as worker:
            assert ["ran"] * 2 == [await handle.result(timeout=PATIENCE) for handle in handles[:2]]
            await sweeps(database)
            assert [JobState.RUNNING] * 3 == [await handle.status() for handle in handles[2:]]
            assert 2 == worker.snapshot().rescued
        crashes = [(await app.jobs.get(handle.id)).crashes for handle in handles]
        alive = await asked(database, "select array_agg(id order by id) from jobqueue.worker where alive_until > now()")
    assert [1, 1, 0, 0, 0] == crashes
    assert sorted([lives, unsure, elsewhere]) == alive


async def test_a_claim_that_commits_after_its_worker_was_found_dead_waits_for_no_lease(database: str) -> None:
    """A worker dies while its claim is under way: the server commits it later, when the others have looked already."""
    machine, ours = this_machine(), born(os.getpid())
    gone = await worker_row(database, ALIVE, machine=machine, pid=a_dead_pid(), born=ours)
    app = new_app(database, **QUICK)

    @app.task
    async def work() -> str:
        return "run"

    async with app, app.worker(queues=["elsewhere"]):
        await wait_until(lambda: asked(database, IS_OVER, gone), "it was found dead")
        handle = await work.defer()
        await left(database, [handle], gone, lease=LONG)
        job = await reached(app, handle, JobState.SCHEDULED)
    assert ("WorkerCrashed", 1) == (job.errors[0].error_class, job.crashes)


IS_OVER = "select alive_until < now() from jobqueue.worker where id = $1"


async def sweeps(dsn: str) -> None:
    """Return once a rescuer has gone over everything twice more: a claim that it must take is taken by then."""
    for _ in range(2):
        await (await bait(dsn))()


async def test_more_than_a_page_is_rescued_at_once(database: str) -> None:
    """Reliability A9: 1 200 jobs of a dead worker are all back after one sweep."""
    app = new_app(database, **{**QUICK, "rescue_interval": LONG})

    @app.task
    async def work() -> None: ...

    async with app:
        handles = await app.defer_many([work.job() for _ in range(1_200)])
        await left(database, handles, started=False)
        async with app.worker() as worker:
            await wait_until(lambda: worker.snapshot().rescued == 1_200, "all are taken back")
            await wait_until(lambda: is_archived(database, 1_200), "all have run")


async def is_archived(dsn: str, jobs: int) -> bool:
    return await archived(dsn) == jobs


async def test_two_workers_rescue_each_job_once(database: str) -> None:
    """Reliability A10: of workers that sweep at once each takes its share, and no job is counted twice."""
    app = new_app(database, **{**QUICK, "rescue_interval": 0.05})

    @app.task
    async def work() -> None: ...

    async with app:
        async with app.worker(queues=["none"]) as one, app.worker(queues=["none"]) as two:
            handles = await app.defer_many([work.job() for _ in range(800)])
            await left(database, handles)
            await wait_until(lambda: one.snapshot().rescued + two.snapshot().rescued == 800, "all are taken back")
            await sweeps(database)
            assert 800 == one.snapshot().rescued + two.snapshot().rescued
        assert 800 == await counted(database, "crashes = 1 and lost = 0 and attempt = 0")


async def test_an_error_in_a_sweep_ends_nothing(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A rescuer that meets an error of the database says so, and sweeps again."""
    app = new_app(database, **QUICK)

    @app.task
    async def work() -> str:
        return "ran"

    async with app:
        handle = await work.defer()
        await left(database, [handle], started=False)
        async with connect(database) as connection:
            await connection.execute("alter table jobqueue.job rename column lost to mislaid")
        async with app.worker(queues=["none"]):
            await wait_until(lambda: "doing='rescue'" in caplog.text, "the rescuer has met the error")
            async with connect(database) as connection:
                await connection.execute("alter table jobqueue.job rename column mislaid to lost")
            await reached(app, handle, JobState.READY)


async def test_after_a_cut_others_get_time_to_renew(database: str) -> None:
    """A rescuer whose connection was cut lets two beats pass before a lease counts as over: others were cut off too."""
    app = new_app(database, lease=3.0, beat=1.0, rescue_interval=0.1)

    @app.task
    async def work() -> None: ...

    async with app, app.worker(queues=["none"]):
        await sweeps(database)
        first, later = await app.defer_many([work.job() for _ in range(2)])
        await left(database, [first], started=False)
        await reached(app, first, JobState.READY)
        cut = await asked(database, "select clock_timestamp()")
        await terminate(database, RESCUES)
        await left(database, [later], started=False)
        await reached(app, later, JobState.READY)
        passed = await asked(database, "select extract(epoch from clock_timestamp() - $1)::float", cut)
    assert 1.5 < passed < scaled(8)


async def has_crashed(dsn: str, times: int) -> bool:
    return await counted(dsn, "crashes = $1 and state <> 'running'", times) == 1


async def test_a_job_story_of_crash_and_failure(database: str) -> None:
    """S3-08: crashes are no attempts: after two of them a job still has every attempt that it may spend."""
    app = new_app(database, **QUICK)
    seen: list[tuple[int, int]] = []

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        seen.append((ctx.attempt, ctx.job.crashes))
        raise OSError("no")

    async with app:
        handle = await work.options(max_attempts=2).defer()
        for crashes in (1, 2):
            await left(database, [handle])
            async with app.worker(queues=["none"]):
                await wait_until(lambda: has_crashed(database, crashes), "it is taken back")  # noqa: B023 - used at once
            async with connect(database) as connection:
                await connection.execute("update jobqueue.job set state = 'ready', due_at = now()")
        async with app.worker():
            job: Job = await end_of(app, handle)
    assert [1, 2] == [attempt for attempt, _ in seen]
    assert ["WorkerCrashed", "WorkerCrashed", "OSError", "OSError"] == [error.error_class for error in job.errors]
    assert ("attempts", 2, 2) == (job.reason, job.attempt, job.crashes)


async def test_what_may_run_only_once_is_on_record_before_it_begins(database: str) -> None:
    """With one attempt and claimed ahead a job is marked first: if it kills its worker, it has had its run."""
    app = new_app(database, prefetch=5)
    seen: list[object] = []

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        seen.append(await asked(database, "select started from jobqueue.job where id = $1", ctx.job.id))

    async with app:
        await app.defer_many([work.job() for _ in range(6)])
        await app.run_worker(concurrency=1, burst=True)
    assert [True] * 6 == seen
