"""Retry policies in a worker: when a failed job runs again."""

from jobqueue.base.job import Job, JobState
from jobqueue.base.retry import exponential
from jobqueue.tasks.context import JobContext
from tests.support.jobs.working import asked, end_of, new_app, reached
from tests.support.patience import scaled, stretched


async def test_a_job_released_by_a_policy_of_the_task(database: str) -> None:
    """S4-50: the task's own policy decides on retries in the worker; None makes the job dead."""
    app = new_app(database)

    async def only_os_errors(job: Job, error: BaseException) -> float | None:
        return 0 if isinstance(error, OSError) else None

    @app.task(retry=only_os_errors)
    async def fail(ctx: JobContext) -> None:
        raise OSError if ctx.attempt == 1 else KeyError("lost")

    async with app, app.worker():
        job = await end_of(app, await fail.defer())

    assert (JobState.DEAD, "policy", 2) == (job.state, job.reason, job.attempt)


async def test_default_backoff(database: str) -> None:
    """S1-14, S4-51: without a policy the first retry comes after about two seconds, the second after about four."""
    app = new_app(database)

    @app.task
    async def fail() -> None:
        raise OSError

    @app.task(retry=exponential(first=20, jitter=0))
    async def fail_slowly() -> None:
        raise OSError

    async with app, app.worker():
        default = await reached(app, await fail.defer(), JobState.SCHEDULED)
        slow = await reached(app, await fail_slowly.defer(), JobState.SCHEDULED)

    usual = 2.0**default.attempt
    assert usual / 2 < delay_of(default) < usual * 1.2 + scaled(2)
    assert 20 <= delay_of(slow) < 20 + scaled(2)


def delay_of(job: Job) -> float:
    """Seconds from its last failure until it is due."""
    at = job.errors[-1].at
    assert at is not None
    return (job.due_at - at).total_seconds()


async def test_a_slow_policy_keeps_its_claim(database: str) -> None:
    """S4-53: a policy may take longer than the lease: the job stays claimed, and is written once, at the end."""
    app = new_app(database, lease=stretched(1.0), beat=stretched(0.2), rescue_interval=0.1)
    runs: list[int] = []

    async def slow(job: Job, error: BaseException) -> float:
        await asked(database, f"select pg_sleep({stretched(1.5)})")
        return 0

    @app.task(retry=slow)
    async def work(ctx: JobContext) -> None:
        runs.append(ctx.attempt)
        if ctx.attempt == 1:
            raise OSError

    async with app, app.worker() as one, app.worker() as two:
        job = await end_of(app, await work.defer())
        snapshots = one.snapshot(), two.snapshot()
    assert [1, 2] == runs
    assert (JobState.COMPLETED, 0, 0, 1) == (job.state, job.crashes, job.lost, len(job.errors))
    assert [(0, 0)] * 2 == [(snapshot.refused, snapshot.rescued) for snapshot in snapshots]
