"""A run that sleeps ends: whatever its handler makes of that, the job sleeps, and goes on behind it, once."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from jobqueue import App, InvalidOption, JobContext, JobState, PhaseState, steps
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, counted, end_of, new_app, reached
from tests.support.patience import NEVER
from tests.support.waiting import wait_until

Style = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]


async def plain(sleep: Callable[[], Awaitable[None]]) -> None:
    """As anybody writes it."""
    await sleep()


async def catches(sleep: Callable[[], Awaitable[None]]) -> None:
    """A handler that catches all errors."""
    try:
        await sleep()
    except Exception:
        raise AssertionError from None


async def cleans_up(sleep: Callable[[], Awaitable[None]]) -> None:
    """A handler that awaits while it is cancelled."""
    try:
        await sleep()
    finally:
        await asyncio.sleep(0)


async def in_a_group(sleep: Callable[[], Awaitable[None]]) -> None:
    """A handler whose child sleeps, beside one that works."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
        group.create_task(sleep())  # type: ignore[arg-type]


async def under_a_timeout(sleep: Callable[[], Awaitable[None]]) -> None:
    """A handler with a limit around the sleep."""
    async with asyncio.timeout(NEVER):
        await sleep()


async def swallows(sleep: Callable[[], Awaitable[None]]) -> None:
    """A handler that takes the cancellation for nothing, and goes on."""
    with contextlib.suppress(asyncio.CancelledError):
        await sleep()


async def replaces(sleep: Callable[[], Awaitable[None]]) -> None:
    """A handler that makes an error of it."""
    try:
        await sleep()
    except asyncio.CancelledError:
        raise OSError("replaced") from None


STYLES: list[Style] = [plain, catches, cleans_up, in_a_group, under_a_timeout, swallows, replaces]


@pytest.mark.parametrize("style", STYLES, ids=[style.__name__ for style in STYLES])
async def test_whatever_the_handler_does_the_job_sleeps(database: str, style: Style) -> None:
    """flows §3.4: the outcome is the suspension, in every style: no attempt spent, no error, nothing done twice."""
    app, runs = new_app(database), list[str]()

    async def step(name: str) -> None:
        runs.append(name)

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> str:
        await ctx.phase("before", step, "before")
        await style(partial(ctx.sleep, "nap", 0.05))
        with contextlib.suppress(asyncio.CancelledError):  # of the one that swallows
            await ctx.phase("after", step, "after")
        return "done"

    async with app:
        handle = await work.defer()
        async with app.worker(concurrency=2):
            job = await end_of(app, handle)

    assert (JobState.COMPLETED, "done", 1, ()) == (job.state, job.result, job.attempt, job.errors)
    assert ["before", "after"] == runs


async def test_a_run_that_sleeps_begins_nothing_more(database: str) -> None:
    """A handler that swallowed its cancellation is cancelled again at its next phase."""
    app, runs, told = new_app(database), list[int](), list[str]()

    async def step() -> None:
        runs.append(1)

    @app.task
    async def work(ctx: JobContext) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await ctx.sleep("nap", days=1)
        try:
            await ctx.phase("after", step)
        except asyncio.CancelledError:
            told.append("cancelled")

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        assert JobState.SCHEDULED is await handle.status()

    assert ([], ["cancelled"]) == (runs, told)


async def test_a_thread_left_behind_is_waited_for(database: str) -> None:
    """A plain step that outlived its limit: its job sleeps only when the thread has ended, or two could run at once."""
    app, begins, go = new_app(database), threading.Event(), threading.Event()

    def step() -> None:
        begins.set()
        go.wait(NEVER)

    @app.task
    async def work(ctx: JobContext) -> None:
        with contextlib.suppress(TimeoutError):
            await ctx.options(timeout=0.05).phase("thread", step)
        await ctx.sleep("nap", days=1)

    async with app:
        handle = await work.defer()
        async with app.worker() as worker:
            parts = worker.supervisor.parts
            try:
                await wait_until(
                    lambda: any(each.task and each.task.done() for each in parts.slots.running), "it sleeps"
                )
                assert (True, JobState.RUNNING) == (begins.is_set(), await handle.status())
            finally:
                go.set()
            await reached(app, handle, JobState.SCHEDULED)


def sleeper(app: App, **options: Any) -> Any:
    """A task that sleeps for a day."""

    @app.task(**options)
    async def sleeps(ctx: JobContext) -> str:
        await ctx.sleep("day", days=1)
        return "awake"

    return sleeps


async def until_past(dsn: str) -> None:
    """A day goes by."""
    async with connect(dsn) as connection:
        await connection.execute("update jobqueue.phase set wake_at = now() where ended_at is null")


async def test_sleepers_cost_nothing(database: str) -> None:
    """Slots are free, no attempt is spent, and nobody looks at those that sleep until their time has come."""
    app = new_app(database)
    task = sleeper(app)

    async with app:
        handles = [await task.defer() for _ in range(100)]
        async with app.worker(concurrency=5) as worker:
            await wait_until(partial(all_asleep, database, 100), "all sleep")
            assert 5 == worker.snapshot().free
            job = await app.jobs.get(handles[0].id)
            (phase,) = await app.jobs.phases(handles[0].id)

    assert (JobState.SCHEDULED, 0) == (job.state, job.attempt)
    assert timedelta(hours=23) < job.due_at - datetime.now(UTC) < timedelta(days=1)
    assert (PhaseState.SLEEPING, "sleep", job.due_at) == (phase.state, phase.kind, phase.wake_at)


async def all_asleep(dsn: str, jobs: int) -> bool:
    """Whether so many jobs are put off for about a day."""
    return jobs == await counted(dsn, "state = 'scheduled' and due_at > now() + interval '23 h'")


async def test_one_that_is_woken_too_early_sleeps_on(database: str) -> None:
    """A retry by hand makes the job look: its time has not come, and that was settled the first time."""
    app = new_app(database)
    task = sleeper(app)

    async with app:
        handle = await task.defer()
        await app.run_worker(burst=True)
        first = await app.jobs.get(handle.id)
        await app.jobs.retry(handle.id)
        await app.run_worker(burst=True)
        again = await app.jobs.get(handle.id)
        await until_past(database)
        await app.jobs.retry(handle.id)
        await app.run_worker(burst=True)
        last = await end_of(app, handle)

    assert (JobState.SCHEDULED, first.due_at) == (again.state, again.due_at)
    assert ("awake", 1) == (last.result, last.attempt)


async def test_a_sleep_until_a_moment(database: str) -> None:
    """`until=` is kept to the microsecond; one that has passed is no sleep."""
    app, moment = new_app(database), datetime.now(UTC) + timedelta(days=2)

    @app.task
    async def work(ctx: JobContext) -> None:
        await ctx.sleep("past", until=datetime(2020, 1, 1, tzinfo=UTC))
        await ctx.sleep("future", until=moment)

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        job, phases = await app.jobs.get(handle.id), await app.jobs.phases(handle.id)

    assert moment == job.due_at
    assert [PhaseState.COMPLETED, PhaseState.SLEEPING] == [phase.state for phase in phases]


@pytest.mark.parametrize("unit", ["delay", "days", "hours", "minutes"])
@pytest.mark.parametrize("length", [-1, float("nan"), float("inf"), 1e308, 10**400, "5", True])
async def test_a_length_that_cannot_be_slept_is_named(unit: str, length: Any) -> None:
    """Each part of a sleep is held to the one range of lengths, and so is their sum."""
    app = App.null()

    @app.task
    async def work(ctx: JobContext) -> None:
        with pytest.raises(InvalidOption, match=f"^{unit}: "):
            await ctx.sleep("odd", **{unit: length})
        with pytest.raises(InvalidOption, match=r"^days: must be a number; a timedelta is a delay"):
            await ctx.sleep("odd", days=timedelta(days=1))  # type: ignore[arg-type]
        with pytest.raises(InvalidOption, match=r"^delay: "):
            await ctx.sleep("odd", days=3_000, hours=24 * 3_000)

    await work.run()


async def test_it_sleeps_no_longer_than_its_budget(database: str) -> None:
    """`budget` goes on: the job wakes when that is used up, and dies of it. `expires` is no matter any more."""
    app = new_app(database)
    task = sleeper(app, budget=3600, expires=NEVER)

    async with app:
        handle = await task.defer()
        await app.run_worker(burst=True)
        job = await app.jobs.get(handle.id)
        async with connect(database) as connection:
            await connection.execute("update jobqueue.job set deadline = now() - interval '1 s'")
        await app.jobs.retry(handle.id)
        await app.run_worker(burst=True)
        dead = await end_of(app, handle)

    assert (job.deadline, None) == (job.due_at, job.expires_at)
    assert (JobState.DEAD, "budget") == (dead.state, dead.reason)


async def test_phases_beside_a_sleep_end_first(database: str) -> None:
    """The run is not put to sleep under a step, nor between two that follow each other: none is done twice."""
    app, runs = new_app(database), list[str]()
    parked = "select count(*) from jobqueue.phase where name = 'nap'"

    async def step(name: str) -> str:
        runs.append(name)
        await wait_until(partial(asked, database, parked), "its neighbour sleeps")
        return name

    async def chain(ctx: JobContext) -> list[str]:
        return [await ctx.phase(name, step, name) for name in ("one", "two")]

    @app.task
    async def work(ctx: JobContext) -> list[str]:
        return (await asyncio.gather(chain(ctx), ctx.sleep("nap", 0.01)))[0]

    async with app:
        handle = await work.defer()
        async with app.worker():
            job = await end_of(app, handle)

    assert (["one", "two"], ["one", "two"]) == (job.result, runs)


@pytest.mark.parametrize("groups", [False, True])
async def test_a_failure_beside_a_wait_is_a_failure(database: str, groups: bool) -> None:
    """A step that fails while its neighbour waits fails the attempt, through however many groups: it does not sleep."""
    app, waits = new_app(database), "select count(*) from jobqueue.phase where kind = 'wait'"

    async def fails() -> None:
        await wait_until(partial(asked, database, waits), "its neighbour waits")
        raise OSError("no")

    async def nested(ctx: JobContext, depth: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(nested(ctx, depth - 1) if depth else ctx.phase("fails", fails))

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        if groups:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.wait_for("never", int))
                group.create_task(nested(ctx, 5))
        await asyncio.gather(ctx.wait_for("never", int), ctx.phase("fails", fails))

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        job = await end_of(app, handle)

    assert job.error is not None
    assert (JobState.DEAD, "fails") == (job.state, job.error.phase)


async def test_of_several_sleeps_the_shortest_wakes(database: str) -> None:
    """Two sleeps and a wait side by side are one suspension, until the first of them is over."""
    app = new_app(database)

    @app.task
    async def work(ctx: JobContext) -> None:
        await asyncio.gather(ctx.sleep("two", days=2), ctx.sleep("one", days=1), ctx.wait_for("w", int, 7 * 86_400))

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        job, phases = await app.jobs.get(handle.id), await app.jobs.phases(handle.id)

    assert min(phase.wake_at for phase in phases if phase.wake_at) == job.due_at
    assert {("one", "sleeping"), ("two", "sleeping"), ("w", "waiting")} == {(p.name, str(p.state)) for p in phases}


async def test_a_cancel_that_came_first_wins(database: str) -> None:
    """A run that was asked to end before it came to its sleep ends so, and its phases are cancelled with it."""
    app, begun = new_app(database), asyncio.Event()

    @app.task
    async def work(ctx: JobContext) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await ctx.sleep("nap", days=1)

    async with app:
        handle = await work.defer()
        async with app.worker():
            await begun.wait()
            await handle.cancel()
            job = await end_of(app, handle)
        phases = await app.jobs.phases(handle.id)

    assert (JobState.CANCELLED, []) == (job.state, phases)


async def test_a_sleeper_is_cancelled_at_once(database: str) -> None:
    """S2-31, S2-32: nobody holds it; what was unfinished reads as cancelled, what was finished as it was."""
    app = new_app(database)

    async def step() -> int:
        return 1

    @app.task
    async def work(ctx: JobContext) -> None:
        await ctx.phase("one", step)
        await ctx.sleep("nap", days=1)

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        await handle.cancel()
        await reached(app, handle, JobState.CANCELLED)
        phases = await app.jobs.phases(handle.id)
        await app.jobs.retry(handle.id)
        await app.run_worker(burst=True)
        again = await app.jobs.phases(handle.id)

    assert [("completed", 1), ("cancelled", None)] == [(str(phase.state), phase.result) for phase in phases]
    assert ["completed", "sleeping"] == [str(phase.state) for phase in again]


async def test_a_drain_leaves_sleepers_alone(database: str) -> None:
    """A deploy: the next worker goes on where the job sleeps; what a run had done is not done again."""
    app, runs = new_app(database), list[str]()

    async def step(name: str) -> None:
        runs.append(name)

    @app.task(retry=steps(0))
    async def work(ctx: JobContext) -> None:
        await ctx.phase("one", step, "one")
        await ctx.sleep("nap", 0.01)
        await ctx.phase("two", step, "two")

    async with app:
        handle = await work.defer()
        async with app.worker() as worker:
            await wait_until(lambda: bool(runs), "it has begun")
            await worker.drain()
        async with app.worker():
            job = await end_of(app, handle)

    assert (JobState.COMPLETED, ["one", "two"]) == (job.state, runs)


async def test_here_a_sleep_is_over_at_once() -> None:
    """`task.run` keeps phases in memory: steps run, sleeps pass, signals are given beforehand."""
    app = App.null()

    async def step() -> int:
        return 2

    @app.task
    async def work(ctx: JobContext) -> list[Any]:
        first = await ctx.phase("one", step)
        await ctx.sleep("long", days=300)
        late = None
        try:
            await ctx.wait_for("never", int, timeout=60)
        except TimeoutError as error:
            late = str(error)
        return [first, await ctx.wait_for("count", int), await ctx.phase_result("one", int), late]

    given = await work.options(signals={"count": [3]}).run()

    assert [2, 3, 2, "no signal 'never' came within the time given"] == given


async def test_here_a_missing_signal_is_told() -> None:
    """Without a timeout it would wait for ever: the error says how to give it."""
    app = App.null()

    @app.task
    async def work(ctx: JobContext) -> int:
        return await ctx.wait_for("count", int)

    with pytest.raises(Exception, match=r"no signal 'count' is left; .*: task.options\(signals="):
        await work.run()
