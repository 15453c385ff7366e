"""Odd records: rows that somebody wrote by hand, and results that are too large, or that the database refuses."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from jobqueue import App, JobContext, JobHandle, JobState, PhaseState, steps
from jobqueue.store.flows.phases import FITTING, MOST_PHASES
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, end_of, new_app
from tests.support.postgres.backends import change

BY_HAND = """
insert into jobqueue.phase select (json_populate_record(null::jobqueue.phase, $1::json)).*
"""
NOW = "2026-01-01 00:00+00"
REFUSES = "alter table jobqueue.phase add constraint no_bad check (result::text not like '%bad%')"


async def write(dsn: str, id: UUID, **said: Any) -> None:
    """A phase as a hand might write it."""
    row = {"job_id": str(id), "name": "step", "kind": "phase", "place": 1, "attempt": 1, "fence": 1, "began_at": NOW}
    async with connect(dsn) as connection:
        await connection.execute(BY_HAND, json.dumps({**row, **said}))


async def over(app: App, handle: JobHandle[Any]) -> Any:
    """The job once it has ended."""
    return await end_of(app, handle)


async def step() -> int:
    return 7


def stepping(app: App) -> Any:
    """A task with one of each; made once for an app."""
    if (known := app.registry.find("stepping")) is not None:
        return known

    @app.task(name="stepping", max_attempts=1)
    async def stepping(ctx: JobContext) -> list[int]:
        number = await ctx.phase("step", step)
        await ctx.sleep("nap", 0)
        return [number, await ctx.wait_for("word", int)]

    return stepping


DONE: dict[str, Any] = {"ended_at": NOW}
FITS: dict[str, dict[str, Any]] = {
    "a negative place": {"place": -(2**31), "attempt": -5, "fence": -(2**63), **DONE, "result": 7},
    "the largest numbers": {"place": 2**31 - 1, "attempt": 2**31 - 1, "fence": 2**63 - 1, **DONE, "result": 7},
    "nobody's": {"worker_id": None, **DONE, "result": 7},
    "a stranger's": {"worker_id": str(uuid4())},
    "failed": {**DONE, "result": 9, "error": {"class": "OSError", "message": "no"}},
    "failed without a word": {**DONE, "error": 5},
    "failed with half a word": {**DONE, "error": {"class": "OSError"}},
    "another name": {"name": "a\nb\u202e", **DONE, "result": 9},
    "a sleep without an end": {"name": "nap", "kind": "sleep"},
    "a sleep that is over": {"name": "nap", "kind": "sleep", "wake_at": "1970-01-01 00:00+00", **DONE},
    "a wait without an end": {"name": "word", "kind": "wait", "signal": "other"},
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", FITS)
async def test_odd_values_are_read_past(own: str, served: App, case: str) -> None:
    """What says nothing of a result disturbs neither the run nor whoever looks at the phases."""
    handle = await stepping(served).options(delay=3600).defer()
    await write(own, handle.id, **FITS[case])
    before = [(phase.state, phase.error) for phase in await served.jobs.phases(handle.id)]
    await handle.signal("word", 8)
    await served.jobs.reschedule(handle.id, delay=0)
    job = await over(served, handle)
    after = await served.jobs.phases(handle.id)

    assert 1 == len(before)
    assert (JobState.COMPLETED, [7, 8]) == (job.state, job.result)
    assert {"step", "nap", "word"} <= {phase.name for phase in after if phase.state is PhaseState.COMPLETED}


NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "a result that does not fit": ({**DONE, "result": {"a": "secret"}}, "result of phase 'step'"),
    "no result": (DONE, "result of phase 'step'"),
    "a result that python cannot read": (
        {**DONE, "result": json.loads("[" * 300 + "]" * 300)},
        "result of phase 'step'",
    ),
    "another kind": ({"kind": "sleep", "wake_at": NOW}, "phase 'step': an earlier run of this job has a sleep"),
    "a sleep that is a phase": ({"name": "nap"}, "phase 'nap': an earlier run of this job has a phase"),
    "a payload that does not fit": ({"name": "word", "kind": "wait", **DONE, "result": "secret"}, "signal 'word'"),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", NAMED)
async def test_what_cannot_be_used_fails_the_job_by_its_name(own: str, served: App, case: str) -> None:
    """The error names the phase and no value; the worker goes on with other jobs."""
    said, told = NAMED[case]
    task = stepping(served)
    handle, other = await task.options(delay=3600).defer(), await task.defer()
    await write(own, handle.id, **said)
    await served.jobs.reschedule(handle.id, delay=0)
    job = await over(served, handle)
    await other.signal("word", 8)
    assert [7, 8] == (await over(served, other)).result

    assert (JobState.DEAD, said.get("name", "step")) == (job.state, job.error.phase)
    assert told in job.error.message
    assert "secret" not in job.error.message


ABSURD = ("infinity", "-infinity", "1066-10-14 00:00+00", "4000-01-01 00:00+00")


@pytest.mark.parametrize("kind", ["phase", "sleep"])
@pytest.mark.parametrize("column", ["began_at", "ended_at", "wake_at"])
async def test_no_moment_is_stored_that_python_cannot_read(database: str, kind: str, column: str) -> None:
    """One such row would keep all phases of a worker from being read: the table takes none."""
    for moment in ABSURD:
        with pytest.raises(Exception, match="phase_times_in_range"):
            await write(database, uuid4(), kind=kind, **{column: moment})


@pytest.mark.parametrize("said", [{"kind": None}, {"kind": "other"}, {"name": ""}, {"name": None}, {"place": None}])
async def test_no_row_is_stored_that_means_nothing(database: str, said: dict[str, Any]) -> None:
    """A row without a kind, name or place is refused, also if a hand writes it."""
    with pytest.raises(Exception, match=r"not-null|phase_kind_known|phase_name_length"):
        await write(database, uuid4(), **said)


@pytest.mark.parametrize("in_transaction", [False, True], ids=["phase", "in a transaction"])
async def test_what_the_database_refuses_fails_its_own_phase(database: str, in_transaction: bool) -> None:
    """A result that the database does not take: the job is dead at once, unlike those recorded along with it."""
    app, together, runs = new_app(database), asyncio.Barrier(5), list[str]()

    async def say(word: str) -> str:
        runs.append(word)
        await together.wait()
        return word

    async def say_there(connection: Any, word: str) -> str:
        return await say(word)

    @app.task(retry=steps(0))
    async def work(ctx: JobContext, word: str) -> str:
        if in_transaction:
            return await ctx.phase_in_transaction("say", say_there, word)
        return await ctx.phase("say", say, word)

    await change(database, REFUSES)
    words = ["good", "bad secret", "better", "best", "fine"]
    async with app:
        handles = await work.defer_many(words)
        async with app.worker(concurrency=5):
            jobs = [await over(app, handle) for handle in handles]

    assert sorted(words) == sorted(runs)
    assert [JobState.COMPLETED if "bad" not in word else JobState.DEAD for word in words] == [job.state for job in jobs]
    assert ("fatal", "say") == (jobs[1].reason, jobs[1].error.phase)
    assert "result of phase 'say': the database refuses it" in jobs[1].error.message
    assert "secret" not in jobs[1].error.message + jobs[1].error.traceback


async def test_a_signal_that_the_database_refuses_fails_its_own_wait(database: str) -> None:
    """A payload that cannot be kept with its wait fails that attempt by name; other jobs wait and hear as ever."""
    app = new_app(database)

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> str:
        return await ctx.wait_for("word", str)

    await change(database, REFUSES)
    async with app:
        handles = [await work.defer() for _ in range(3)]
        for handle, word in zip(handles, ["good", "bad secret", "better"], strict=True):
            await handle.signal("word", word)
        async with app.worker():
            jobs = [await over(app, handle) for handle in handles]

    assert ["good", None, "better"] == [job.result for job in jobs]
    assert "signal 'word': the database refuses it" in jobs[1].error.message
    assert "word" == jobs[1].error.phase


@pytest.mark.parametrize("size", [FITTING - 2, FITTING - 1, (1 << 20) - 2], ids=["fitting", "over", "a megabyte"])
async def test_large_results_are_found_again(database: str, size: int) -> None:
    """Up to max_result, at the border of what is read along as well: the next run gets the same, byte for byte."""
    app, runs, text = new_app(database), list[int](), "x" * size

    async def large() -> str:
        runs.append(1)
        return text

    @app.task(retry=steps(0), max_attempts=2)
    async def work(ctx: JobContext) -> int:
        found = await ctx.phase("large", large)
        assert text == found == await ctx.phase_result("large", str)
        if ctx.attempt == 1:
            raise OSError
        return len(found)

    async with app:
        handle = await work.defer()
        await app.run_worker(burst=True)
        job = await over(app, handle)
        (phase,) = await app.jobs.phases(handle.id)

    assert (size, [1], size + 2) == (job.result, runs, phase.result_bytes)


async def test_a_job_has_a_most_of_phases(database: str) -> None:
    """A job with 10 000 phases gets no more, and is told what to do instead; those that it has are found."""
    app, runs = new_app(database), list[int]()

    async def count() -> int:
        runs.append(1)
        return 1

    @app.task(max_attempts=1)
    async def work(ctx: JobContext) -> int:
        assert [1, 5, 1] == [await ctx.phase(name, count) for name in ("new", "step 5", f"step {MOST_PHASES - 1}")]
        return await ctx.phase("one more", count)

    async with app:
        handle = await work.defer()
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "insert into jobqueue.phase (job_id, name, kind, place, attempt, fence, began_at, ended_at, result)"
                " select %s, 'step ' || n, 'phase', n, 1, 1, now(), now(), to_json(case n when 5 then 5 else 1 end)"
                " from generate_series(1, %s - 1) n",
                (handle.id, MOST_PHASES),
            )
        await app.run_worker(burst=True)
        job = await over(app, handle)

    assert (JobState.DEAD, [1]) == (job.state, runs)
    assert "a job has at most 10000 phases; for more make a bundle of jobs" in job.error.message
    assert MOST_PHASES == await asked(database, "select count(*) from jobqueue.phase where ended_at is not null")
