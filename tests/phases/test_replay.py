"""What a run finds of the runs before it: results by name, as they were stored, and nothing is done a second time."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from jobqueue import App, Fatal, Job, JobContext, JobState, PhaseState, Retry, steps
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, end_of, new_app
from tests.support.patience import NEVER
from tests.support.waiting import wait_until

AT_ONCE: dict[str, Any] = {"retry": steps(0), "max_attempts": 3}


class Card(BaseModel):
    """A result that is not JSON by itself."""

    amount: Decimal
    at: datetime


@dataclass
class Box:
    """Another one."""

    size: tuple[int, int]


CARD = Card(amount=Decimal("10.50"), at=datetime(2026, 1, 2, tzinfo=UTC))


async def ran(app: App, task: Any, *args: Any) -> Any:
    """The job once it has ended; the worker ends when nothing is ready."""
    handle = await task.defer(*args)
    await app.run_worker(concurrency=5, burst=True)
    return await end_of(app, handle)


async def stored(dsn: str, id: UUID) -> dict[str, str | None]:
    """The results of a job's phases as the database has them."""
    async with connect(dsn) as connection:
        rows = await connection.fetch("select name, result::text as result from jobqueue.phase where job_id = $1", id)
    return {row["name"]: row["result"] for row in rows}


async def test_only_what_has_not_ended_runs_again(database: str) -> None:
    """S2-02, S2-05, S2-36: after a failure in the third phase the first two ran once, their results byte for byte."""
    app, ran_steps, kept = new_app(database), list[str](), list[Any]()

    async def step(name: str) -> dict[str, Any]:
        ran_steps.append(name)
        if ran_steps == ["one", "two", "three"]:
            raise OSError("no")
        return {"ü": 1.0, "name": name}

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> list[Any]:
        kept.append(await stored(database, ctx.job.id))
        return [await ctx.phase(name, step, name) for name in ("one", "two", "three")]

    async with app:
        job = await ran(app, work)
        phases = await app.jobs.phases(job.id)
        after = await stored(database, job.id)

    assert (JobState.COMPLETED, 2) == (job.state, job.attempt)
    assert ["one", "two", "three", "three"] == ran_steps
    assert [("one", 1, 1), ("two", 2, 1), ("three", 3, 2)] == [(each.name, each.place, each.attempt) for each in phases]
    assert {PhaseState.COMPLETED} == {each.state for each in phases}
    assert {name: text for name, text in kept[1].items() if text} == {name: after[name] for name in ("one", "two")}


async def test_a_result_is_what_its_annotation_says_the_first_time_too(database: str) -> None:
    """Models, dataclasses and tuples go through JSON by the annotation, in the first run as in later ones."""
    app, seen = new_app(database), list[Any]()

    async def card() -> Card:
        return CARD

    def box() -> Box:
        return Box((1, 2))

    async def plain() -> Any:
        return (1, 2)

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> None:
        seen.append([await ctx.phase("card", card), await ctx.phase("box", box), await ctx.phase("plain", plain)])
        if ctx.attempt == 1:
            raise OSError

    async with app:
        await ran(app, work)

    assert [[CARD, Box((1, 2)), [1, 2]]] * 2 == seen


async def test_any_callable_is_a_step(database: str) -> None:
    """Async and plain functions, lambdas that give a coroutine, partials, methods, and tasks are steps."""
    app = new_app(database)

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    class Service:
        async def ask(self, n: int) -> Card:
            return CARD

    @app.task
    async def work(ctx: JobContext) -> list[Any]:
        found = [
            await ctx.phase("async", double.function, 1),
            await ctx.phase("plain", len, "four"),
            await ctx.phase("lambda", lambda: double.function(2)),
            await ctx.phase("partial", partial(double.function, n=3)),
            await ctx.phase("task", double, 4),
        ]
        assert CARD == await ctx.phase("method", Service().ask, 1)
        return found

    async with app:
        job = await ran(app, work)

    assert [2, 4, 4, 6, 8] == job.result


async def test_phases_run_side_by_side_and_in_any_order(database: str) -> None:
    """Results belong to names: another order in the next run gives each name its own."""
    app, runs = new_app(database), list[str]()
    gate = asyncio.Barrier(3)

    async def step(name: str) -> str:
        runs.append(name)
        await gate.wait()  # all three at once, or nobody goes on
        return name.upper()

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> list[str]:
        names = ["a", "b", "c"] if ctx.attempt == 1 else ["c", "a", "b"]
        found = await asyncio.gather(*(ctx.phase(name, step, name) for name in names))
        if ctx.attempt == 1:
            raise OSError
        return found

    async with app:
        job = await ran(app, work)

    assert ["C", "A", "B"] == job.result
    assert ["a", "b", "c"] == sorted(runs)


async def test_a_phase_that_failed_is_one_that_runs_again(database: str) -> None:
    """Its error reaches the handler, which may go on; it is on record, and the name may come once more in that run."""
    app, tries = new_app(database), list[int]()

    async def step() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return len(tries)

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> int:
        try:
            return await ctx.phase("step", step)
        except ValueError:
            return await ctx.phase("step", step)

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        job, phases = await end_of(app, handle), await app.jobs.phases(handle.id)
        failed = job.errors[0]

    assert (JobState.COMPLETED, 2) == (job.state, job.attempt)
    assert ("ValueError", "step", 2) == (failed.error_class, failed.phase, failed.place)
    assert [("step", PhaseState.COMPLETED, 3)] == [(each.name, each.state, each.result) for each in phases]


async def test_a_failed_phase_shows_its_error(database: str) -> None:
    """A dead job's timeline says which phase failed, and how."""
    app = new_app(database)

    def step() -> None:
        raise ValueError("no stock")

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        await ctx.phase("reserve", step)

    async with app:
        job = await ran(app, work)
        (phase,) = await app.jobs.phases(job.id)

    assert (PhaseState.FAILED, "ValueError: no stock") == (phase.state, phase.error)
    assert ("reserve", 1) == (job.error.phase, job.error.place)


async def test_from_start_forgets(database: str) -> None:
    """S2-06: retry(from_start=True) runs the first phase again; a plain retry does not."""
    app, runs = new_app(database), list[str]()

    async def step(name: str) -> None:
        runs.append(name)

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        await ctx.phase("one", step, "one")
        raise OSError

    async with app:
        job = await ran(app, work)
        for from_start in (False, True):
            await app.jobs.retry(job.id, from_start=from_start)
            await app.run_worker(burst=True)

    assert ["one", "one"] == runs


@pytest.mark.parametrize("large", [False, True])
async def test_a_phase_is_read_by_name(database: str, large: bool) -> None:
    """S2-04: a later phase, in this run or the next, reads what an earlier one gave; also what is large."""
    app, text, seen = new_app(database), "x" * (100_000 if large else 1), list[Any]()

    async def step() -> str:
        return text

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            await ctx.phase("step", step)
        seen.append(await ctx.phase_result("step", str))
        with pytest.raises(LookupError, match="no completed phase 'other'"):
            await ctx.phase_result("other")
        if ctx.attempt == 1:
            raise OSError
        seen.append(await ctx.phase("step", step))

    async with app:
        job = await ran(app, work)

    assert (JobState.COMPLETED, [text] * 3) == (job.state, seen)


def death_of(job: Job) -> str:
    """What a job has died of."""
    assert job.error is not None
    return f"{job.error.error_class}: {job.error.message}"


async def nothing(*_: Any) -> None:
    """A step."""


async def inside(ctx: JobContext, what: str) -> None:
    """A step that does what a step may not."""
    await (
        ctx.sleep("nap", 1)
        if what == "sleep"
        else ctx.wait_for("w", int)
        if what == "wait"
        else ctx.phase("p", nothing)
    )


async def twice(ctx: JobContext) -> None:
    """One name for two phases."""
    await ctx.phase("same", nothing)
    await ctx.phase("same", nothing)


REFUSED: list[tuple[Callable[[JobContext], Awaitable[Any]], str]] = [
    (twice, "DuplicatePhase: phase 'same': this run has one of that name already"),
    (lambda ctx: ctx.phase("called", 7), "phase 'called': takes a function and its arguments"),  # type: ignore[call-overload]
    (lambda ctx: ctx.phase("", nothing), "name: must have 1 to 100 characters"),
    (lambda ctx: ctx.phase("a\nb", nothing), "name: must have printable characters"),
    (lambda ctx: ctx.phase("outer", inside, ctx, "sleep"), "phase 'nap': ctx.sleep cannot be inside phase 'outer'"),
    (lambda ctx: ctx.phase("outer", inside, ctx, "wait"), "phase 'w': ctx.wait_for cannot be inside phase 'outer'"),
    (lambda ctx: ctx.phase("outer", inside, ctx, "phase"), "phase 'p': a phase cannot be inside phase 'outer'"),
    (lambda ctx: ctx.phase_in_transaction("t", len), "takes an `async def` function"),  # type: ignore[arg-type]
    (lambda ctx: ctx.sleep("s", -1), "delay: must be between 0 seconds and ten years"),
    (lambda ctx: ctx.sleep("s", 1, until=datetime.now(UTC)), "until: give either until= or how long"),
    (lambda ctx: ctx.wait_for("s", int, timeout=0), "timeout: must be above 0 seconds"),
    (lambda ctx: ctx.options(max_attempts=0).phase("p", nothing), "max_attempts: must be a whole number from 1"),
    (lambda ctx: ctx.options(timeout=-1).phase("p", nothing), "timeout: must be above 0 seconds"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("call", "text"), REFUSED, ids=[text[:40] for _, text in REFUSED])
async def test_misuse_is_refused_with_a_sentence(
    own: str, served: App, call: Callable[[JobContext], Awaitable[Any]], text: str
) -> None:
    """Each refusal names the phase or the option, and what to do."""

    @served.task(name=f"refused: {text}"[:100], max_attempts=1)
    async def work(ctx: JobContext) -> None:
        await call(ctx)

    assert text in death_of(await end_of(served, await work.defer()))


async def test_phases_of_a_plain_task_are_refused(database: str) -> None:
    """A `def` task runs in a thread, which nobody could suspend."""
    app = new_app(database)

    @app.task(max_attempts=1)
    def work(ctx: JobContext, call: int) -> None:
        calls: list[Callable[[], object]] = [
            lambda: ctx.phase("p", nothing),
            lambda: ctx.sleep("s", 1),
            lambda: ctx.wait_for("w", int),
        ]
        calls[call]()  # nobody awaits it

    async with app:
        for call in range(3):
            job = await ran(app, work, call)
            assert "need an async task; a `def` task runs in a thread" in job.error.message


async def test_the_failed_one_of_several_is_named(database: str) -> None:
    """Side by side: the error names the phase that raised it, not a neighbour that was cancelled for it."""
    app, begun = new_app(database), asyncio.Event()

    async def fails() -> None:
        await begun.wait()
        raise OSError("no")

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        async with asyncio.TaskGroup() as group:
            for name, step in (("first", waits), ("fails", fails), ("last", waits)):
                group.create_task(ctx.phase(name, step))

    async with app:
        job = await ran(app, work)

    assert ("OSError", "fails", 2) == (job.error.error_class, job.error.phase, job.error.place)


async def test_a_thread_that_goes_on_gets_no_second_beside_it(database: str) -> None:
    """A plain step cannot be cut at its limit: while its thread goes on, this run does not try it again."""
    app, go, runs = new_app(database), threading.Event(), list[int]()

    def step() -> None:
        runs.append(1)
        go.wait(NEVER)

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        try:
            await ctx.options(timeout=0.05, max_attempts=3, retry=steps(0)).phase("thread", step)
        finally:
            go.set()

    async with app:
        job = await ran(app, work)

    assert ([1], "phase 'thread': timeout after 0.05 s") == (runs, job.error.message)


async def test_a_result_that_cannot_be_stored_is_not_tried_again(database: str) -> None:
    """Its effect has happened: the job is dead at once, whatever attempts are left, and the text names the phase."""
    app, runs = new_app(database), list[int]()

    async def step() -> float:
        runs.append(1)
        return float("nan")

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> None:
        await ctx.options(max_attempts=3).phase("sum", step)

    async with app:
        job = await ran(app, work)

    assert (JobState.DEAD, "fatal", [1]) == (job.state, job.reason, runs)
    assert "result of phase 'sum'" in job.error.message


async def test_a_stored_result_that_fits_no_more_fails_the_attempt(database: str) -> None:
    """A deploy has changed the type: the error names the phase and the place, never the value; nothing runs again."""
    app, runs = new_app(database), list[int]()

    async def before() -> dict[str, str]:
        runs.append(1)
        return {"amount": "secret"}

    async def now() -> Card:
        runs.append(2)
        return CARD

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            await ctx.phase("card", before)
            raise OSError
        await ctx.phase("card", now)

    async with app:
        job = await ran(app, work)

    assert (JobState.DEAD, [1]) == (job.state, runs)
    assert "result of phase 'card': amount" in job.error.message
    assert "secret" not in job.error.message + job.error.traceback
    assert "card" == job.error.phase


async def test_a_name_keeps_its_kind(database: str) -> None:
    """A sleep that a deploy has made a phase is told apart: the text says so."""
    app = new_app(database)

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            await ctx.sleep("step")
            raise OSError
        await ctx.phase("step", nothing)

    async with app:
        job = await ran(app, work)

    assert "an earlier run of this job has a sleep of that name" in job.error.message


async def test_tries_of_a_phase(database: str) -> None:
    """`ctx.options(max_attempts=, retry=)` tries a step again in the same run; the job spends no attempt."""
    app, delays = new_app(database), list[tuple[int, str]]()

    async def step() -> int:
        if len(delays) < 2:
            raise ValueError("not yet")
        return 7

    def policy(job: Any, error: BaseException) -> float:
        delays.append((job.attempt, type(error).__name__))
        return 0.0

    @app.task
    async def work(ctx: JobContext) -> int:
        return await ctx.options(retry=policy, max_attempts=5).phase("step", step)

    async with app:
        job = await ran(app, work)

    assert (7, 1, [(1, "ValueError"), (2, "ValueError")]) == (job.result, job.attempt, delays)


@pytest.mark.parametrize("raised", [Fatal("no"), Retry(0)])
async def test_a_step_that_chooses_the_outcome_is_not_tried_again(database: str, raised: Exception) -> None:
    """Fatal and Retry inside a phase mean the job."""
    app, runs = new_app(database), list[int]()

    async def step() -> None:
        runs.append(1)
        raise raised

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        await ctx.options(max_attempts=5).phase("step", step)

    async with app:
        job = await ran(app, work)

    assert (JobState.DEAD, [1], "step") == (job.state, runs, job.error.phase)


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_phase_has_a_limit_of_its_own(database: str, swallows: bool) -> None:
    """`timeout` cancels the step and fails it, by a text that names the phase; the handler may go on."""
    app, ends = new_app(database), list[str]()

    async def step() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cut")

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> str:
        try:
            await ctx.options(timeout=0.05).phase("slow", step)
        except TimeoutError:
            if not swallows:
                raise
        return "went on"

    async with app:
        job = await ran(app, work)

    assert ["cut"] == ends
    if swallows:
        assert "went on" == job.result
    else:
        assert ("slow", "phase 'slow': timeout after 0.05 s") == (job.error.phase, job.error.message)


async def test_rows_and_record_commit_together(database: str) -> None:
    """phase_in_transaction: a step that fails leaves no row; one that ended is found again, its row there once."""
    app, runs = new_app(database), list[int]()
    async with connect(database) as connection:
        await connection.execute("create table stock (n integer)")

    async def reserve(connection: Any, n: int) -> int:
        runs.append(n)
        await connection.execute("insert into stock values ($1)", n)
        if len(runs) == 1:
            raise ValueError("no")
        return n

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> int:
        n = await ctx.phase_in_transaction("reserve", reserve, 5)
        if ctx.attempt == 2:
            raise OSError
        return n

    async with app:
        job = await ran(app, work)

    assert (5, [5, 5], 1) == (job.result, runs, await asked(database, "select count(*) from stock"))


async def test_what_a_transaction_has_begun_is_not_said_after_its_end(database: str) -> None:
    """A step that takes a moment is on record as begun; that never undoes the record of its end."""
    app, begun = new_app(database), "select count(*) from jobqueue.phase where ended_at is null"

    async def slow(connection: Any) -> int:
        await wait_until(partial(asked, database, begun), "that it has begun is on record")
        return 1

    @app.task(**AT_ONCE)
    async def work(ctx: JobContext) -> int:
        n = await ctx.phase_in_transaction("slow", slow)
        if ctx.attempt == 1:
            raise OSError
        return n

    async with app:
        job = await ran(app, work)
        (phase,) = await app.jobs.phases(job.id)

    assert (1, PhaseState.COMPLETED, 1) == (job.result, phase.state, phase.attempt)


@pytest.mark.parametrize("plain", [True, False])
async def test_the_traceback_of_a_step_leads_from_the_handler_to_it(database: str, plain: bool) -> None:
    """What is stored shows the handler's line and the step's own, in a thread as well, and nothing of ours between."""
    app = new_app(database)

    async def charge() -> None:
        raise OSError("no route")

    def charge_plainly() -> None:
        raise OSError("no route")

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> None:
        try:
            await ctx.phase("charge", charge_plainly if plain else charge)
        except OSError as error:
            raise RuntimeError("not paid") from error

    async with app, app.worker(concurrency=1):
        job = await end_of(app, await work.defer())

    assert job.error is not None
    frames = [line.rpartition("in ")[2] for line in job.error.traceback.splitlines() if line.startswith("  File")]
    assert ["work", "charge_plainly" if plain else "charge", "work"] == frames
