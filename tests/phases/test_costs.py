"""What phases cost whoever has none: nothing."""

from jobqueue import Change, JobContext, Snooze, steps
from tests.support.jobs.store import connect
from tests.support.jobs.working import end_of, new_app


async def test_a_plain_job_touches_no_phase_and_no_signal(database: str) -> None:
    """With both tables locked by somebody, jobs without phases come, run, fail, snooze, are cancelled and end."""
    app = new_app(database)

    @app.task(retry=steps(0))
    async def plain(ctx: JobContext) -> int:
        if ctx.attempt == 1 and not ctx.job.errors:
            raise OSError
        if ctx.job.progress is None:
            ctx.progress(0.5)
            raise Snooze(0)
        async with ctx.transaction():
            ctx.complete(ctx.attempt)
        return 0

    async with app, connect(database) as holder, holder.transaction():
        await holder.execute("lock table jobqueue.phase, jobqueue.signal in access exclusive mode")
        doomed = await plain.options(delay=3600).defer()
        async with app.worker():
            job = await end_of(app, await plain.defer())
            assert Change.DONE is await doomed.cancel()

    assert (2, 1) == (job.result, len(job.errors))
