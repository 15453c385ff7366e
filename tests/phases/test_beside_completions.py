"""A transaction that completes a job, beside phases of it: neither loses or ends what the other has."""

import asyncio
from functools import partial
from typing import Any

from jobqueue import ClaimLost, JobContext, JobState, steps
from tests.support.jobs.gate import Gate
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, end_of, new_app
from tests.support.postgres.backends import WAITS_FOR_LOCK, becomes
from tests.support.waiting import wait_until


async def test_a_phase_beside_the_end_of_its_job_is_told_of_it(database: str) -> None:
    """A step ends while its handler's transaction completes the job: it gets ClaimLost, and the slot is free."""
    app, gate, heard = new_app(database), Gate(), list[BaseException]()

    async def beside(ctx: JobContext) -> None:
        try:
            await ctx.phase("gate", gate.step)
        except BaseException as error:
            heard.append(error)
            raise

    @app.task
    async def work(ctx: JobContext) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(beside(ctx))
            await gate.begun.wait()
            async with ctx.transaction():
                ctx.complete(None)

    async with app, connect(database) as connection:
        await connection.execute(
            "create function slow() returns trigger language plpgsql as "
            "$$ begin perform pg_advisory_xact_lock(7); return null; end $$;"
            "create constraint trigger slow after delete on jobqueue.job deferrable initially deferred "
            "for each row execute function slow()"
        )
        await connection.execute("select pg_advisory_lock(7)")
        handle = await work.defer()
        async with app.worker() as worker:
            await becomes(database, 1, WAITS_FOR_LOCK)
            gate.open.set()
            await wait_until(lambda: worker.supervisor.parts.recorder.unwritten > 0, "it is to be recorded")
            await connection.execute("select pg_advisory_unlock(7)")
            job = await end_of(app, handle)
            await wait_until(lambda: not worker.supervisor.parts.slots.running, "its slot is free")

    assert (JobState.COMPLETED, [ClaimLost]) == (job.state, [type(error) for error in heard])


async def test_what_ended_beside_a_completion_that_failed_is_kept(database: str) -> None:
    """A step ends, then the handler's commit fails: the step is on record, and does not run again."""
    app, gate, busy, ends = new_app(database), Gate(), Gate(), asyncio.Event()

    @app.task
    async def other(ctx: JobContext) -> int:
        return await ctx.phase("busy", busy.step)

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> int:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ctx.phase("gate", gate.step))
            if ctx.attempt == 1:
                await wait_until(lambda: worker.supervisor.parts.recorder.unwritten > 1, "two are to be recorded")
            async with ctx.transaction() as connection:
                ends.set()
                if ctx.attempt == 1:
                    await connection.execute("insert into refusing values (1)")
                ctx.complete(1)
        return await task

    async with app, connect(database) as connection:
        await connection.execute(
            "create table refusing (n integer); create function refuse() returns trigger language plpgsql as "
            "$$ begin raise exception 'no'; end $$;"
            "create constraint trigger refuse after insert on refusing deferrable initially deferred "
            "for each row execute function refuse()"
        )
        first = await other.defer()
        async with app.worker() as worker:
            await wait_until(partial(asked, database, "select count(*) from jobqueue.phase"), "it is told that it runs")
            handle = await work.defer()
            await gate.begun.wait()
            async with connection.transaction():
                await connection.execute("select from jobqueue.phase where job_id = $1 for update", first.id)
                busy.open.set()
                await becomes(database, 1, WAITS_FOR_LOCK)
                gate.open.set()
                await ends.wait()
            await end_of(app, first)
            job = await end_of(app, handle)

    assert (JobState.COMPLETED, 2, 1) == (job.state, job.attempt, gate.runs)


async def test_a_completion_waits_for_whoever_shares_the_row(database: str) -> None:
    """A step in a transaction has a share of the job's row beside the completion: that waits, and loses no claim."""
    app, gate = new_app(database), Gate()

    async def step(connection: Any) -> None:
        await connection.execute("select from jobqueue.job where id = $1 for key share", shared[0])
        await gate.step()

    shared = list[Any]()

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        shared.append(ctx.job.id)
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.phase_in_transaction("step", step))
            await gate.begun.wait()
            async with ctx.transaction():
                ctx.complete(None)

    async with app, app.worker():
        handle = await work.defer()
        await becomes(database, 1, WAITS_FOR_LOCK)
        gate.open.set()
        job = await end_of(app, handle)

    assert (JobState.COMPLETED, ()) == (job.state, tuple(job.errors))


async def test_a_step_in_a_transaction_completes_nothing(database: str) -> None:
    """It commits beside a transaction that has completed the job and then rolls back: the job is not completed."""
    app, gate, ended = new_app(database), Gate(), asyncio.Event()

    async def step(connection: Any) -> None:
        await gate.step()

    async def beside(ctx: JobContext) -> None:
        await ctx.phase_in_transaction("step", step)
        ended.set()

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        task = asyncio.create_task(beside(ctx))
        await gate.begun.wait()
        async with ctx.transaction():
            ctx.complete(None)
            gate.open.set()
            await asyncio.wait({task})
            raise OSError(str(ended.is_set()))

    async with app, app.worker():
        job = await end_of(app, await work.defer())

    assert (JobState.DEAD, "True") == (job.state, job.errors[0].message if job.errors else "")
