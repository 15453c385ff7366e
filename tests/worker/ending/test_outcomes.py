"""Outcomes on their way from the handler to the rows that users see."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from jobqueue.app import App
from jobqueue.base.errors import JobCancelled, JobFailed
from jobqueue.base.job import JobState
from jobqueue.base.outcome import Cancel, Fatal, Retry, Snooze
from jobqueue.base.retry import steps
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.handle import JobHandle
from tests.support.jobs.working import asked, end_of, new_app, reached, seconds_until
from tests.support.patience import PATIENCE, scaled, stretched
from tests.support.waiting import wait_until


async def test_a_retry_waits_as_long_as_asked(database: str) -> None:
    """`Retry(delay=, queue=, priority=)` costs the attempt, moves the job and sets when it is due."""
    app = new_app(database)

    @app.task(retry=steps(1))
    async def fail() -> None:
        raise Retry(delay=100, queue="slow", priority=7)

    async with app, app.worker():
        job = await reached(app, await fail.defer(), JobState.SCHEDULED)

    assert 100 - scaled(20) < seconds_until(job) <= 100
    assert ("slow", 7, 1) == (job.queue, job.priority, job.attempt)
    assert ["jobqueue.base.outcome.Retry"] == [error.error_class for error in job.errors]


async def test_a_retry_at_a_time(database: str) -> None:
    """`Retry(at=...)` makes the job due at exactly that time."""
    app = new_app(database)
    at = datetime.now(UTC) + timedelta(hours=3)

    @app.task
    async def fail() -> None:
        raise Retry(at=at)

    async with app, app.worker():
        job = await reached(app, await fail.defer(), JobState.SCHEDULED)

    assert at == job.due_at


async def test_a_failing_job_is_retried_until_it_succeeds(database: str) -> None:
    """S4-41, S0-29, S3-10, S3-28: a job that fails twice runs three times; result, attempts and errors are kept."""
    app = new_app(database)

    @app.task(retry=steps(0))
    async def third_time(ctx: JobContext) -> int:
        if ctx.attempt < 3:
            raise OSError(f"attempt {ctx.attempt}")
        return ctx.attempt

    async with app, app.worker() as worker:
        handle = await third_time.defer()
        assert 3 == await handle.result(timeout=PATIENCE)
        job = await app.jobs.get(handle.id)

    assert (3, JobState.COMPLETED) == (job.attempt, job.state)
    assert [(1, "attempt 1"), (2, "attempt 2")] == [(error.attempt, error.message) for error in job.errors]
    assert {str(worker.id)} == {error.worker for error in job.errors}
    times = [moment for error in job.errors for moment in (error.began, error.at)]
    assert sorted(times, key=str) == times  # each began after the one before had failed
    assert None not in times


async def test_a_job_without_attempts_left_is_dead_and_keeps_its_errors(database: str) -> None:
    """S3-07, S0-10: with no hook at all the dead row holds class, message and traceback of each attempt."""
    app = new_app(database)

    @app.task(retry=steps(0), max_attempts=3)
    async def fail(ctx: JobContext) -> None:
        raise OSError(f"no route {ctx.attempt}\x00")

    async with app, app.worker():
        handle = await fail.defer()
        job = await end_of(app, handle)
        with pytest.raises(JobFailed, match="no route 3") as caught:
            await handle.result()

    assert (JobState.DEAD, "attempts", 3) == (job.state, job.reason, job.attempt)
    assert [f"no route {n}\ufffd" for n in (1, 2, 3)] == [error.message for error in job.errors]
    assert all("OSError" == error.error_class and "in fail" in error.traceback for error in job.errors)
    assert ("attempts", "OSError") == (caught.value.reason, caught.value.error_class)


async def test_attempts_are_given_by_task_and_by_call(database: str) -> None:
    """S4-09: the call's number of attempts beats the task's, which beats the setting."""
    app = new_app(database, max_attempts=2)

    @app.task(retry=steps(0))
    async def by_setting() -> None:
        raise OSError

    @app.task(retry=steps(0), max_attempts=3)
    async def by_task() -> None:
        raise OSError

    async with app, app.worker():
        handles = [
            await by_setting.defer(),
            await by_task.defer(),
            await by_task.options(max_attempts=1).defer(),
        ]
        attempts = [(await end_of(app, handle)).attempt for handle in handles]

    assert [2, 3, 1] == attempts


async def test_snooze_spends_no_attempt(database: str) -> None:
    """A job that snoozes runs again with the same attempt number and no error, as often as it likes."""
    app = new_app(database)
    seen: list[int] = []

    @app.task(max_attempts=1)
    async def snooze(ctx: JobContext) -> None:
        seen.append(ctx.attempt)
        if len(seen) < 4:
            raise Snooze(0)

    async with app, app.worker():
        job = await end_of(app, await snooze.defer())

    assert [1, 1, 1, 1] == seen
    assert (JobState.COMPLETED, 1, ()) == (job.state, job.attempt, job.errors)


async def test_snooze_until_later(database: str) -> None:
    """A snoozed job is scheduled for then, with its attempt given back."""
    app = new_app(database)

    @app.task
    async def snooze() -> None:
        raise Snooze(100)

    async with app, app.worker():
        job = await reached(app, await snooze.defer(), JobState.SCHEDULED)

    assert 100 - scaled(20) < seconds_until(job) <= 100
    assert (0, ()) == (job.attempt, job.errors)


async def test_cancel_ends_the_job_as_cancelled(database: str) -> None:
    """`Cancel(reason)` is neither success nor failure."""
    app = new_app(database)

    @app.task
    async def cancel() -> None:
        raise Cancel("not needed any more")

    async with app, app.worker():
        handle = await cancel.defer()
        with pytest.raises(JobCancelled, match="not needed any more"):
            await handle.result(timeout=PATIENCE)
        job = await app.jobs.get(handle.id)

    assert (JobState.CANCELLED, "not needed any more", ()) == (job.state, job.reason, job.errors)


async def test_odd_words_end_only_their_own_job(database: str) -> None:
    """S0-09: control characters and empty texts in reasons, errors and results are stored as they are, side by side."""
    app, words = new_app(database), ["a\x1fb", "", "\x1f", "plain"]

    @app.task
    async def cancel(word: str) -> None:
        raise Cancel(word)

    @app.task
    async def refuse(word: str) -> None:
        raise Fatal(word)

    @app.task
    async def echo(word: str) -> str:
        return word

    jobs = await app.defer_many([task.job(word) for word in words for task in (cancel, refuse, echo)])
    async with app, app.worker():
        ended = [await end_of(app, handle) for handle in jobs]
        results = [await handle.result(timeout=PATIENCE) for handle in jobs[2::3]]

    assert words == [job.reason for job in ended[0::3]]
    assert words == [job.errors[0].message for job in ended[1::3]]
    assert words == results


async def test_fatal_ends_the_job_at_once(database: str) -> None:
    """S3-15, S4-37, S4-41: `Fatal` is dead after one attempt; message and data reach the waiting caller."""
    app = new_app(database)

    @app.task
    async def refuse() -> None:
        raise Fatal("card refused", {"code": 51})

    async with app, app.worker():
        with pytest.raises(JobFailed) as caught:
            await (await refuse.defer()).result(timeout=PATIENCE)

    assert ("fatal", "card refused", {"code": 51}) == (caught.value.reason, caught.value.message, caught.value.data)


async def test_a_timeout_is_a_failed_attempt(database: str) -> None:
    """S4-56, S0-07, S4-35: a run past its timeout costs an attempt; dead when none is left; a call may set its own."""
    app = new_app(database)

    @app.task(timeout=30, retry=steps(0))
    async def hang() -> None:
        await anyio.sleep_forever()

    async with app, app.worker():
        job = await end_of(app, await hang.options(timeout=0.05, max_attempts=2).defer())

    assert (JobState.DEAD, "attempts", 2) == (job.state, job.reason, job.attempt)
    assert ["timeout after 0.05 s"] * 2 == [error.message for error in job.errors]


async def test_a_result_that_cannot_be_stored_is_final(database: str) -> None:
    """A result outside JSON makes the job dead with that reason after one run: its effect has happened."""
    app = new_app(database)
    runs: list[int] = []

    @app.task(retry=steps(0))
    async def give() -> Any:
        runs.append(1)
        return float("nan")

    async with app, app.worker():
        job = await end_of(app, await give.defer())

    assert (JobState.DEAD, "result", [1]) == (job.state, job.reason, runs)


async def test_none_and_an_empty_object_are_told_apart(database: str) -> None:
    """S4-36: a result of None and one of {} are stored and read back as such."""
    app = new_app(database)

    @app.task
    async def nothing() -> None: ...

    @app.task
    async def empty() -> dict[str, int]:
        return {}

    async with app, app.worker():
        handles = [await nothing.defer(), await empty.defer()]
        results: list[Any] = [await handle.result(timeout=PATIENCE) for handle in handles]
        stored = [(await app.jobs.get(handle.id)).result_json for handle in handles]

    assert [None, {}] == results
    assert ["null", "{}"] == stored


async def test_a_job_that_has_expired_never_starts(database: str) -> None:
    """S3-12: `expires`: a job that was not started in time is dead and its code has not run."""
    app = new_app(database)
    runs: list[int] = []

    @app.task
    async def work() -> None:
        runs.append(1)

    async with app:
        handle = await work.options(expires=0.01).defer()
        fresh = await work.options(expires=3600).defer()
        await _passed(app, handle)
        async with app.worker():
            job, other = await end_of(app, handle), await end_of(app, fresh)

    assert (JobState.DEAD, "expired", JobState.COMPLETED) == (job.state, job.reason, other.state)
    assert [1] == runs


async def _passed(app: App, handle: JobHandle[Any]) -> None:
    """Wait until the job has expired."""
    at = (await app.jobs.get(handle.id)).expires_at
    await wait_until(lambda: at is not None and datetime.now(UTC) > at, "the job has expired")


async def test_expires_concerns_the_first_start_only(database: str) -> None:
    """A job that has started in time is retried, also after its `expires`."""
    app = new_app(database)

    @app.task(retry=steps(0))
    async def second_time(ctx: JobContext) -> int:
        if ctx.attempt < 2:
            await asked(database, "update jobqueue.job set expires_at = now() returning 1")
            raise OSError
        return ctx.attempt

    async with app, app.worker():
        assert 2 == await (await second_time.options(expires=3600).defer()).result(timeout=PATIENCE)


async def test_the_budget_bounds_all_attempts(database: str) -> None:
    """S3-11, S3-12, S3-13: `budget`: a job whose deadline passes while it waits or runs is dead with that reason."""
    app = new_app(database)

    @app.task(retry=steps(0.05), max_attempts=1_000)
    async def fail() -> None:
        raise OSError

    @app.task
    async def hang() -> None:
        await anyio.sleep_forever()

    async with app, app.worker():
        handles = [await task.options(budget=stretched(1.5)).defer() for task in (fail, hang)]
        jobs = [await end_of(app, handle) for handle in handles]

    assert [(JobState.DEAD, "budget")] * 2 == [(job.state, job.reason) for job in jobs]
    assert jobs[0].attempt > 1
    assert 1 == jobs[1].attempt


async def test_a_retry_beyond_the_budget_is_not_planned(database: str) -> None:
    """S3-11: a job whose next attempt would begin after its budget is dead at once, with its error kept."""
    app = new_app(database)

    @app.task(retry=steps(30), budget=20)
    async def fails() -> None:
        raise OSError("no route")

    async with app, app.worker():
        job = await end_of(app, await fails.defer())
    assert (JobState.DEAD, "budget", 1) == (job.state, job.reason, job.attempt)
    assert "no route" == job.errors[-1].message


async def test_a_retried_job_waits_behind_the_backlog(database: str) -> None:
    """A retried or delayed job queues up anew: it does not overtake what was ready before."""
    app = new_app(database)
    order: list[str] = []

    @app.task(retry=steps(0))
    async def note(ctx: JobContext, name: str) -> None:
        order.append(name)
        if name == "fails" and ctx.attempt == 1:
            raise OSError

    async with app:
        for name in ("fails", "one", "two", "three"):
            await note.defer(name)
        await app.run_worker(concurrency=1, burst=True)

    assert ["fails", "one", "two", "three", "fails"] == order


@pytest.mark.parametrize(("attempts", "levels"), [(1, ["ERROR"]), (3, ["WARNING", "WARNING", "ERROR"])])
async def test_failures_are_warnings_while_retries_remain(
    database: str, caplog: pytest.LogCaptureFixture, attempts: int, levels: list[str]
) -> None:
    """S4-38: a failed attempt is logged as a warning while retries remain, the last one as an error."""
    app = new_app(database)
    caplog.set_level(logging.DEBUG, "jobqueue")

    @app.task(retry=steps(0), max_attempts=attempts)
    async def fail() -> None:
        raise OSError

    async with app, app.worker():
        await end_of(app, await fail.defer())

    seen = [record for record in caplog.records if record.name == "jobqueue.worker.ending.lines"]
    assert levels == [record.levelname for record in seen]
    assert all("OSError" in record.getMessage() for record in seen)


async def test_many_errors_keep_the_first_and_the_latest(database: str) -> None:
    """A job that fails often keeps 25 errors: the first five and the latest."""
    app = new_app(database)

    @app.task(retry=steps(0), max_attempts=40)
    async def fail() -> None:
        raise OSError

    async with app, app.worker():
        job = await end_of(app, await fail.defer())

    assert [1, 2, 3, 4, 5, *range(21, 41)] == [error.attempt for error in job.errors]


async def test_handlers_that_swallow_the_cancellation_time_out_all_the_same(database: str) -> None:
    """A handler that catches the timeout's cancellation and returns has failed this attempt, and its slot is free."""
    app = new_app(database)

    @app.task(timeout=0.05, max_attempts=1)
    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        return "late"

    @app.task
    async def next_one() -> str:
        return "ran"

    async with app, app.worker(concurrency=1):
        job = await end_of(app, await stubborn.defer())
        assert "ran" == await (await next_one.defer()).result(timeout=PATIENCE)

    assert (JobState.DEAD, "TimeoutError") == (job.state, job.error and job.error.error_class)
