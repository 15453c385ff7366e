"""What runs beside a handler that ends, fails or gives up waiting: nothing of it hangs, is lost, or is done twice."""

import asyncio
from functools import partial
from typing import Any

import pytest

from jobqueue import ClaimLost, InvalidPayload, JobContext, JobState, steps
from jobqueue.tasks.phases import phases
from tests.support.jobs.gate import Gate
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, end_of, new_app
from tests.support.patience import NEVER
from tests.support.postgres.locks import row_held
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until


async def test_a_wait_that_outlived_its_run_holds_up_nobody(database: str) -> None:
    """One of two side by side fails while the row is locked, and `gather` leaves the other: the worker works on."""
    app, gate, heard = new_app(database), Gate(), list[BaseException]()

    async def fails() -> None:
        await gate.open.wait()
        raise OSError("broken")

    async def waits(ctx: JobContext) -> None:
        await gate.open.wait()
        try:
            await ctx.wait_for("go", str)
        except BaseException as error:
            heard.append(error)
            raise

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        await ctx.phase("first", ctx.job.id.__str__)
        gate.begun.set()
        await asyncio.gather(ctx.phase("fails", fails), waits(ctx))

    async with app:
        handle = await work.defer()
        async with app.worker() as worker:
            await gate.begun.wait()
            async with row_held(database, handle.id):
                gate.open.set()
                await wait_until(lambda: not worker.supervisor.parts.slots.running, "its handler has failed")
                await wait_until(lambda: bool(heard), "the one left behind was told")
            job = await end_of(app, handle)

    assert (JobState.DEAD, [ClaimLost]) == (job.state, [type(error) for error in heard])


async def test_two_may_read_one_large_result(database: str) -> None:
    """Side by side, by one name: both get it."""
    app = new_app(database)

    async def large() -> str:
        return "x" * 100_000

    @app.task
    async def work(ctx: JobContext) -> list[int]:
        await ctx.phase("large", large)
        return [len(each) for each in await asyncio.gather(*(ctx.phase_result("large", str) for _ in range(3)))]

    async with app, app.worker():
        job = await end_of(app, await work.defer())

    assert [100_000] * 3 == job.result


async def test_a_signal_whose_answer_was_lost_is_no_loss(database: str) -> None:
    """It is taken, and the answer never comes: who asks again gets the same one, and the next one is left."""
    async with proxied(database) as proxy:
        app, far, gate = new_app(database), new_app(proxy.dsn), Gate()

        @far.task
        async def work(ctx: JobContext) -> str:
            await ctx.wait_for("warm", str)  # the statement is known from now on
            await gate.step()
            return await ctx.wait_for("go", str)

        async with app, far:
            handle = await work.defer()
            for name, word in (("warm", "0"), ("go", "one"), ("go", "two")):
                await app.jobs.signal(handle.id, name, word)
            async with far.worker():
                await gate.begun.wait()
                proxy.lose_answers()
                gate.open.set()
                taken = "select count(*) = 1 from jobqueue.signal"
                await wait_until(partial(asked, database, taken), "it is taken")
                proxy.cut()
                proxy.let_pass()
                job = await end_of(app, handle)

    assert "one" == job.result


@pytest.mark.parametrize("again", [False, True], ids=["the run ends", "the handler asks again"])
async def test_a_step_that_has_ended_runs_once_though_nobody_waits_for_its_record(
    database: str, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """The handler gives up while the record waits for a locked row: its result is there for whoever asks next."""
    monkeypatch.setattr(phases, "_TELL_AFTER", NEVER)
    app, gate, given_up = new_app(database), Gate(), asyncio.Event()

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> int:
        asking = asyncio.create_task(ctx.phase("gate", gate.step))
        if ctx.attempt == 1:
            await wait_until(lambda: worker.supervisor.parts.recorder.unwritten > 0, "it is to be recorded")
            asking.cancel()
            await asyncio.wait({asking})
            given_up.set()
            if not again:
                raise OSError
            return await ctx.phase("gate", gate.step)
        return await asking

    async with app:
        handle = await work.defer()
        async with app.worker() as worker:
            await gate.begun.wait()
            async with row_held(database, handle.id):
                gate.open.set()
                await given_up.wait()
            job = await end_of(app, handle)

    assert (1, 1) == (job.result, gate.runs)


async def test_a_commit_whose_answer_was_lost_is_found_by_the_handler_too(database: str) -> None:
    """The handler catches the error of the broken connection, and asks again in the same run: rows are there once."""
    async with connect(database) as connection:
        await connection.execute("create table stock (n integer)")
    async with proxied(database) as proxy:
        far, failed = new_app(proxy.dsn), asyncio.Event()

        async def reserve(connection: Any) -> int:
            await connection.execute("insert into stock values (1)")
            if not failed.is_set():
                proxy.lose_answer_to(b"COMMIT;")
            return 5

        @far.task
        async def work(ctx: JobContext) -> int:
            try:
                return await ctx.phase_in_transaction("reserve", reserve)
            except Exception:
                failed.set()
                return await ctx.phase_in_transaction("reserve", reserve)

        async with far, far.worker():
            handle = await work.defer()
            await wait_until(partial(asked, database, "select count(*) from stock"), "it has committed")
            proxy.cut()
            proxy.let_pass()
            job = await end_of(far, handle)

    assert (5, 1) == (job.result, await asked(database, "select count(*) from stock"))


async def test_a_job_of_one_attempt_sleeps_and_goes_on(database: str) -> None:
    """What may run only once is not kept from going on by the mark of its first run."""
    app = new_app(database, poll=0.05)

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> int:
        await ctx.sleep("a moment", 0.05)
        return ctx.attempt

    async with app, app.worker():
        job = await end_of(app, await work.defer())

    assert (1, JobState.COMPLETED) == (job.result, job.state)


async def test_a_sleep_left_behind_is_no_end_of_its_run(database: str) -> None:
    """The handler fails beside a sleep that it has left to itself: its policy says when it runs again, undisturbed."""
    app, tasks = new_app(database), list[asyncio.Task[None]]()

    async def policy(job: Any, error: BaseException) -> float:
        for _ in range(500):
            await asyncio.sleep(0)
        return 0.0

    @app.task(retry=policy, max_attempts=2)
    async def work(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            tasks.append(asyncio.create_task(ctx.sleep("long", days=1)))
            await ctx.phase("first", ctx.job.id.__str__)
            raise OSError("broken")
        return ctx.attempt

    async with app, app.worker():
        job = await end_of(app, await work.defer())
        await asyncio.wait(tasks)

    assert (2, "broken") == (job.result, job.errors[0].message)


async def test_nothing_begins_once_the_run_is_over(database: str) -> None:
    """A task that its handler has left to itself gets ClaimLost for a phase, and for a sleep."""
    app, over, heard = new_app(database), asyncio.Event(), list[BaseException]()
    tasks = list[asyncio.Task[None]]()

    async def late(ctx: JobContext) -> None:
        await over.wait()
        for ask in (partial(ctx.phase, "late", over.wait), partial(ctx.sleep, "later", days=1)):
            try:
                await ask()
            except ClaimLost as error:
                heard.append(error)

    @app.task
    async def work(ctx: JobContext) -> None:
        await ctx.phase("first", ctx.job.id.__str__)
        tasks.append(asyncio.create_task(late(ctx)))

    async with app:
        handle = await work.defer()
        async with app.worker() as worker:
            await wait_until(lambda: bool(tasks), "it has begun")
            async with row_held(database, handle.id):
                await wait_until(lambda: not worker.supervisor.parts.slots.running, "its handler has ended")
                over.set()
                await asyncio.wait(tasks)
            job = await end_of(app, handle)
            found = await app.jobs.phases(handle.id)

    assert (JobState.COMPLETED, 2, ["first"]) == (job.state, len(heard), [phase.name for phase in found])


async def test_a_signal_that_does_not_fit_is_not_heard_again(database: str) -> None:
    """The handler catches that, and waits once more in the same run: the next one is taken."""
    app = new_app(database)

    @app.task
    async def work(ctx: JobContext) -> int:
        try:
            return await ctx.wait_for("count", int)
        except InvalidPayload:
            return await ctx.wait_for("count", int)

    async with app:
        handle = await work.defer()
        for payload in ("many", 5):
            await handle.signal("count", payload)
        async with app.worker():
            job = await end_of(app, handle)

    assert 5 == job.result


async def test_a_step_may_run_another_task_here(database: str) -> None:
    """The phases of a task that a step runs by `task.run` are none of its job's: they are not refused."""
    app = new_app(database)

    async def two() -> int:
        return 2

    @app.task
    async def inner(ctx: JobContext) -> int:
        return await ctx.phase("outer", two)

    async def step() -> int:
        return await inner.run()

    @app.task
    async def work(ctx: JobContext) -> int:
        return await ctx.phase("outer", step)

    async with app, app.worker():
        job = await end_of(app, await work.defer())

    assert 2 == job.result
