"""Signals: sent before, while and after somebody waits for them, each taken once, in order."""

import asyncio
import os
import random
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from jobqueue import (
    App,
    Change,
    ClaimLost,
    InvalidOption,
    InvalidPayload,
    JobContext,
    JobState,
    PhaseState,
    TooManySignals,
    steps,
)
from tests.support.jobs.beating import QUIET
from tests.support.jobs.deaths import take_away
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended, archived, asked, end_of, new_app, reached
from tests.support.waiting import wait_until


@dataclass
class Approval:
    """What is waited for."""

    by: str


def waiting(app: App, **options: Any) -> Any:
    """A task that waits for an approval."""

    @app.task(**options)
    async def waits(ctx: JobContext) -> str:
        return (await ctx.wait_for("approved", Approval)).by

    return waits


@pytest.mark.parametrize("when", ["before", "while", "after"])
async def test_a_signal_is_heard_whenever_it_comes(database: str, when: str) -> None:
    """Before the job runs, while its handler is on the way to the wait, and after it was put to sleep."""
    app, begun, go = new_app(database), asyncio.Event(), asyncio.Event()

    @app.task
    async def work(ctx: JobContext) -> str:
        begun.set()
        await go.wait()
        return (await ctx.wait_for("approved", Approval)).by

    async with app:
        handle = await work.defer()
        if when == "before":
            assert Change.DONE is await handle.signal("approved", Approval("me"))
        async with app.worker():
            await begun.wait()
            if when == "while":
                await handle.signal("approved", {"by": "me"})
            go.set()
            if when == "after":
                await reached(app, handle, JobState.SCHEDULED)
                await app.jobs.signal(handle.id, "approved", Approval("me"))
            job = await end_of(app, handle)
        (phase,) = await app.jobs.phases(handle.id)

    assert ("me", 1) == (job.result, job.attempt)
    assert ("wait", PhaseState.COMPLETED, "approved", {"by": "me"}) == (
        phase.kind,
        phase.state,
        phase.signal,
        phase.result,
    )


async def test_each_is_taken_once_in_order(database: str) -> None:
    """FIFO by name; in a loop each wait has a name of its own. A later run gets the same ones again."""
    app, seen = new_app(database), list[list[int]]()

    @app.task(retry=steps(0), max_attempts=2)
    async def work(ctx: JobContext) -> None:
        seen.append([await ctx.wait_for(f"item {n}", int, signal="item") for n in range(4)])
        if ctx.attempt == 1:
            raise OSError

    async with app:
        handle = await work.defer()
        for n in range(4):
            await handle.signal("item", n)
        await app.run_worker(burst=True)
        await end_of(app, handle)

    assert [[0, 1, 2, 3]] * 2 == seen
    assert 0 == await asked(database, "select count(*) from jobqueue.signal")


async def test_two_waits_side_by_side_share_what_comes(database: str) -> None:
    """No signal goes to two waits, and none is left while somebody waits for it."""
    app = new_app(database)

    @app.task
    async def work(ctx: JobContext) -> list[int]:
        return await asyncio.gather(*(ctx.wait_for(f"w {n}", int, signal="n") for n in range(3)))

    async with app:
        handle = await work.defer()
        async with app.worker():
            for n in range(3):
                await reached(app, handle, JobState.SCHEDULED)
                await handle.signal("n", n)
            job = await end_of(app, handle)

    assert [0, 1, 2] == sorted(job.result)


async def test_another_name_wakes_nobody(database: str) -> None:
    """A signal that nobody waits for stays in the mailbox; the job sleeps on."""
    app = new_app(database)
    waits = waiting(app)

    async with app:
        handle = await waits.defer()
        await app.run_worker(burst=True)
        assert Change.DONE is await handle.signal("other", 1)
        assert JobState.SCHEDULED is await handle.status()
        await handle.signal("approved", Approval("x"))
        assert JobState.READY is await handle.status()
        await app.run_worker(burst=True)
        await end_of(app, handle)


async def test_a_sleep_is_not_ended_by_a_signal(database: str) -> None:
    """What sleeps waits for its time, and what waits for a retry for that: a signal is no reason to run."""
    app, waiting = new_app(database), "select count(*) from jobqueue.phase where kind = 'wait'"

    async def fails(ctx: JobContext) -> None:
        await wait_until(partial(asked, database, waiting), "its neighbour waits")
        raise OSError

    @app.task(retry=steps(3600))
    async def sleeps(ctx: JobContext) -> None:
        await ctx.sleep("nap", days=1)

    @app.task(retry=steps(3600))
    async def waits(ctx: JobContext) -> None:
        await asyncio.gather(ctx.wait_for("nap", int), ctx.phase("fails", fails, ctx))

    async with app:
        handles = [await sleeps.defer(), await waits.defer()]
        await app.run_worker(burst=True)
        for handle in handles:
            await handle.signal("nap", 1)
        assert [JobState.SCHEDULED] * 2 == [await handle.status() for handle in handles]


async def test_a_wait_has_an_end_that_is_kept(database: str) -> None:
    """The deadline is set once; after it the wait raises TimeoutError in every run, whatever comes then."""
    app, told = new_app(database), list[str]()

    @app.task(retry=steps(0), max_attempts=2)
    async def work(ctx: JobContext) -> str:
        try:
            await ctx.wait_for("approved", Approval, timeout=timedelta(days=2))
        except TimeoutError as error:
            told.append(str(error))
        if ctx.attempt == 1:
            await app.jobs.signal(ctx.job.id, "approved", Approval("late"))
            raise OSError
        return "without"

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        async with connect(database) as connection:
            await connection.execute("update jobqueue.phase set wake_at = now() - interval '1 s'")
        await app.jobs.retry(handle.id)
        await app.run_worker(burst=True)
        job = await end_of(app, handle)
        (phase,) = await app.jobs.phases(handle.id)

    assert ("without", ["no signal 'approved' came within the time given"] * 2) == (job.result, told)
    assert (PhaseState.FAILED, "TimeoutError: no signal 'approved' came within the time given") == (
        phase.state,
        phase.error,
    )


async def test_a_wait_that_was_over_begins_anew_by_hand(database: str) -> None:
    """A dead job that is told to run again by hand would else die of the same at once; what it had done stays done."""
    app = new_app(database)

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> str:
        return await ctx.phase("one", str, 1) + (await ctx.wait_for("approved", Approval, timeout=60)).by

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        async with connect(database) as connection:
            await connection.execute("update jobqueue.phase set wake_at = now() - interval '1 s' where kind = 'wait'")
        await app.jobs.retry(handle.id)
        await app.run_worker(burst=True)
        dead = await end_of(app, handle)
        await app.jobs.retry(handle.id)
        await app.run_worker(burst=True)
        assert JobState.SCHEDULED is await handle.status()
        await handle.signal("approved", Approval("me"))
        await app.run_worker(burst=True)
        job = await end_of(app, handle)

    assert (JobState.DEAD, "1me") == (dead.state, job.result)


async def test_a_signal_that_fits_no_type_is_gone(database: str) -> None:
    """It fails one attempt, by a text that names signal and field, not the value; the next run waits for another."""
    app = new_app(database)
    waits = waiting(app, retry=steps(0))

    async with app:
        handle = await waits.defer()
        await handle.signal("approved", {"by": ["hunter2"], "secret": "hunter2"})
        await app.run_worker(burst=True)
        job = await app.jobs.get(handle.id)
        await handle.signal("approved", Approval("you"))
        await app.run_worker(burst=True)
        last = await end_of(app, handle)

    assert (JobState.SCHEDULED, 1) == (job.state, len(job.errors))
    assert ("approved", "jobqueue.base.errors.InvalidPayload") == (job.errors[0].phase, job.errors[0].error_class)
    assert "signal 'approved': by: " in job.errors[0].message
    assert "hunter2" not in job.errors[0].message
    assert "you" == last.result


async def test_a_signal_says_what_became_of_it(database: str) -> None:
    """Done, too late, not found; what is wrong with it is told at once."""
    app = new_app(database)
    waits = waiting(app)

    async with app:
        handle = await waits.defer()
        missing = waits.handle("01900000-0000-7000-8000-000000000009")
        assert Change.NOT_FOUND is await missing.signal("approved")
        with pytest.raises(InvalidOption, match="name: must have 1 to 100 characters"):
            await handle.signal("", 1)
        with pytest.raises(InvalidPayload, match=r"signal: .*max_payload"):
            await handle.signal("approved", "x" * 2_000_000)
        with pytest.raises(InvalidPayload, match="signal: is NaN"):
            await handle.signal("approved", float("nan"))
        await handle.signal("approved", Approval("me"))
        await app.run_worker(burst=True)
        assert Change.TOO_LATE is await handle.signal("approved", Approval("me"))


async def test_a_mailbox_is_bounded(database: str) -> None:
    """A thousand that nobody has read are enough; more are refused, and nothing else is."""
    app = new_app(database)
    waits = waiting(app)

    async with app:
        handle = await waits.defer()
        async with connect(database) as connection:
            await connection.execute(
                "insert into jobqueue.signal (job_id, name, payload)"
                " select $1, 'spam', '1' from generate_series(1, 1000)",
                handle.id,
            )
        with pytest.raises(TooManySignals, match=r"1,000 signals"):
            await handle.signal("approved", Approval("me"))


async def test_a_signal_joins_a_transaction(database: str) -> None:
    """Rolled back it was never sent; committed it is, and wakes the job then."""
    app = new_app(database)
    waits = waiting(app)

    async with app:
        handle = await waits.defer()
        async with app.worker(), connect(database) as connection:
            await reached(app, handle, JobState.SCHEDULED)
            undone = connection.transaction()
            await undone.start()
            await app.jobs.signal(handle.id, "approved", Approval("undone"), connection=connection)
            await undone.rollback()
            async with connection.transaction():
                await app.jobs.signal(handle.id, "approved", Approval("kept"), connection=connection)
            job = await end_of(app, handle)

    assert "kept" == job.result


async def test_signals_in_the_very_moment_of_the_wait(database: str) -> None:
    """flows §4: each is sent while its job looks for it and goes to sleep; none sleeps on."""
    await signal_in_the_moment(database, 4_000 if "JOBQUEUE_LONG" in os.environ else 100)


async def signal_in_the_moment(dsn: str, jobs: int) -> None:
    """Each job is sent its signal when its handler is about to wait, some statements sooner or later."""
    app, about, chance = new_app(dsn), asyncio.Queue[UUID](), random.Random(14)  # noqa: S311 - varies a moment, guards nothing

    @app.task
    async def work(ctx: JobContext) -> int:
        if ctx.job.id in fresh:
            fresh.discard(ctx.job.id)
            about.put_nowait(ctx.job.id)
        return await ctx.wait_for("n", int)

    async def send(count: int) -> None:
        async with connect(dsn) as connection:
            for _ in range(count):
                id = await about.get()
                for _ in range(chance.randrange(6)):
                    await connection.execute("select 1")
                await app.jobs.signal(id, "n", 7, connection=connection)

    async with app:
        fresh = {handle.id for handle in await app.defer_many([work.job() for _ in range(jobs)])}
        async with app.worker(concurrency=20), asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(send(jobs // 4))
            await all_ended(dsn)

    assert jobs == await archived(dsn)


async def test_a_worker_that_lost_its_claim_takes_no_signal(database: str) -> None:
    """The fence: what was sent to a job is there for the run that has it now."""
    app, begun, go, errors = new_app(database, **QUIET), asyncio.Event(), asyncio.Event(), list[BaseException]()

    @app.task
    async def work(ctx: JobContext) -> None:
        begun.set()
        await go.wait()
        try:
            await ctx.wait_for("approved", Approval)
        except ClaimLost as error:
            errors.append(error)
            raise

    async with app:
        handle = await work.defer()
        await handle.signal("approved", Approval("me"))
        async with app.worker():
            await begun.wait()
            await take_away(database, handle.id)
            go.set()
            await wait_until(lambda: bool(errors), "its handler has heard")

    assert 1 == await asked(database, "select count(*) from jobqueue.signal")
