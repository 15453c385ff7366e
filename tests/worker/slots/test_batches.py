"""Batch tasks in a worker: what one call of the handler gets, and what becomes of each item."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.contextvars import get_contextvars

from jobqueue import current_job
from jobqueue.base.job import JobState
from jobqueue.base.outcome import Cancel, Fatal, Retry, Snooze
from jobqueue.base.retry import steps
from jobqueue.store import claims
from tests.support.jobs.batches import LONG
from tests.support.jobs.store import connect
from tests.support.jobs.working import all_ended, archived, asked, asleep, counted, end_of, new_app
from tests.support.patience import PATIENCE, scaled, stretched
from tests.support.waiting import wait_until


@pytest.mark.parametrize("concurrency", [1, 50])
async def test_what_waits_already_is_handed_over_in_one_list(database: str, concurrency: int) -> None:
    """S0-03: of 5 jobs that wait, a worker with batches of 5 makes one call, however many slots it has."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task(size=5, wait=LONG)
    async def work(numbers: list[int]) -> list[int]:
        calls.append(numbers)
        return [number * 2 for number in numbers]

    async with app:
        handles = await work.defer_many(range(5))
        async with app.worker(concurrency=concurrency):
            assert [0, 2, 4, 6, 8] == [await handle.result(timeout=PATIENCE) for handle in handles]

    assert [[0, 1, 2, 3, 4]] == calls


async def test_a_thousand_jobs_fill_their_batches(database: str) -> None:
    """S0-03: with one slot, 1 000 jobs come in batches of 100, and each is run once."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task(size=100, wait=LONG)
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)

    async with app:
        await work.defer_many(range(1000))
        async with app.worker(concurrency=1):
            await all_ended(database)

    assert sorted(range(1000)) == sorted(number for numbers in calls for number in numbers)
    assert 1000 == await archived(database)
    assert [100] * 10 == [len(numbers) for numbers in calls]


async def test_a_burst_waits_for_nobody(database: str) -> None:
    """S0-03: where nothing more can come, a batch begins with what is there, whatever its `wait`."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task(size=10, wait=LONG)
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)

    async with app:
        await work.defer_many(range(13))
        async with asyncio.timeout(PATIENCE):
            await app.run_until_idle()

    assert [10, 3] == [len(numbers) for numbers in calls]


async def test_a_full_batch_begins_at_once(database: str) -> None:
    """S0-03: with `size` items nobody waits; the next one opens the next batch."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task(size=3, wait=LONG)
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)

    async with app:
        await work.defer_many(range(7))
        async with app.worker(concurrency=1) as worker:
            await wait_until(lambda: len(calls) == 2, "two batches are full")
            await wait_until(lambda: worker.snapshot().running == 1, "the seventh waits")

    assert [[0, 1, 2], [3, 4, 5], [6]] == calls


async def test_a_batch_waits_for_those_who_come_soon(database: str) -> None:
    """S0-03: items that are deferred while the first waits join it, by no poll; it begins when its time is over."""
    app = new_app(database)
    calls: list[tuple[float, list[int]]] = []
    clock = asyncio.get_running_loop().time

    wait = stretched(1.5)

    @app.batch_task(wait=wait)
    async def work(numbers: list[int]) -> None:
        calls.append((clock(), numbers))

    async with app, app.worker(concurrency=1) as worker:
        await asleep(database)
        began = clock()
        await work.defer(0)
        await wait_until(lambda: worker.snapshot().running == 1, "the first waits")
        last = await work.defer_many([1, 2])
        await end_of(app, last[1])

    assert [[0, 1, 2]] == [numbers for _, numbers in calls]
    assert wait <= calls[0][0] - began < wait + scaled(5)


async def test_an_item_fails_for_itself(database: str) -> None:
    """S0-03: an exception in the list fails its own item, which alone runs again; the others have their results."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task(retry=steps(0))
    async def work(numbers: list[int]) -> list[str | Exception]:
        calls.append(numbers)
        return [OSError("no route") if number == 1 and len(calls) == 1 else f"did {number}" for number in numbers]

    async with app:
        handles = await work.defer_many(range(3))
        async with app.worker():
            jobs = [await end_of(app, handle) for handle in handles]
            assert ["did 0", "did 1", "did 2"] == [await handle.result() for handle in handles]

    assert [[0, 1, 2], [1]] == calls
    assert [1, 2, 1] == [job.attempt for job in jobs]
    assert ["no route"] == [error.message for job in jobs for error in job.errors]


async def test_an_item_may_choose_its_outcome(database: str) -> None:
    """S0-03, S4-15: Retry, Snooze, Cancel and Fatal in the list act as if the item's own job had raised them."""
    app = new_app(database)
    chosen = [Fatal("never", data=[4]), Cancel("not needed"), Retry(delay=300, queue="slow"), Snooze(300)]

    @app.batch_task()
    async def work(numbers: list[int]) -> list[int | Exception]:
        return [chosen[number] if number < 4 else number for number in numbers]

    async with app:
        handles = await work.defer_many(range(5))
        async with app.worker():
            assert 4 == await handles[4].result(timeout=PATIENCE)
            await wait_until(lambda: asked(database, "select count(*) = 2 from jobqueue.job"), "all are written")
        jobs = [await app.jobs.get(handle.id) for handle in handles]

    states = [JobState.DEAD, JobState.CANCELLED, JobState.SCHEDULED, JobState.SCHEDULED, JobState.COMPLETED]
    assert states == [job.state for job in jobs]
    assert ("fatal", "not needed") == (jobs[0].reason, jobs[1].reason)
    assert (1, "slow", 0, "default") == (jobs[2].attempt, jobs[2].queue, jobs[3].attempt, jobs[3].queue)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (["a"], "a list of 3, one for each item of the batch in its order, not of 1"),
        (["a"] * 4, "a list of 3, one for each item of the batch in its order, not of 4"),
        (None, "a list of 3, one for each item of the batch, not NoneType"),
        ("abc", "a list of 3, one for each item of the batch, not str"),
        ({"a": 1, "b": 2, "c": 3}, "a list of 3, one for each item of the batch, not dict"),
    ],
)
async def test_an_answer_that_cannot_be_shared_out_ends_all(database: str, answer: Any, told: str) -> None:
    """S0-03: a list of another length, or no list, kills every item with one clear error and no retry.

    The effect may have happened, as with any result that cannot be stored.
    """
    app = new_app(database)

    @app.batch_task(retry=steps(0))
    async def work(numbers: list[int]) -> list[str]:
        given: list[str] = answer
        return given

    async with app:
        handles = await work.defer_many(range(3))
        async with app.worker():
            jobs = [await end_of(app, handle) for handle in handles]

    assert [(JobState.DEAD, "result", 1)] * 3 == [(job.state, job.reason, job.attempt) for job in jobs]
    assert all(job.error and told in job.error.message for job in jobs), jobs[0].error


async def test_a_result_that_cannot_be_stored_ends_its_item(database: str) -> None:
    """S0-03: a result that JSON would change makes that one item dead; the others are completed."""
    app = new_app(database)

    @app.batch_task()
    async def work(numbers: list[float]) -> list[float]:
        return [number / 0.5 if number else float("nan") for number in numbers]

    async with app:
        handles = await work.defer_many([1, 0, 2])
        async with app.worker():
            jobs = [await end_of(app, handle) for handle in handles]

    assert [(JobState.COMPLETED, None), (JobState.DEAD, "result"), (JobState.COMPLETED, None)] == [
        (job.state, job.reason) for job in jobs
    ]


async def test_a_handler_that_raises_fails_every_item(database: str) -> None:
    """S0-03: each item fails with the error, told with the handler's place, and is retried by its own attempts."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task(retry=steps(0), size=3)
    async def work(numbers: list[int]) -> list[int]:
        calls.append(numbers)
        if len(calls) == 1:
            raise OSError("no route")
        return numbers

    async with app:
        handles = await app.defer_many([work.options(max_attempts=1).job(0), work.job(1), work.job(2)])
        async with app.worker():
            jobs = [await end_of(app, handle) for handle in handles]

    assert [JobState.DEAD, JobState.COMPLETED, JobState.COMPLETED] == [job.state for job in jobs]
    assert [1, 2, 2] == [job.attempt for job in jobs]
    assert [0, 1, 2] == calls[0]
    for job in jobs:
        (error,) = job.errors
        assert ("OSError", "no route", 1) == (error.error_class, error.message, error.attempt)
        assert error.traceback is not None
        assert 1 == error.traceback.count('raise OSError("no route")')
        assert "jobqueue/worker" not in error.traceback


async def test_a_bad_payload_harms_no_other(database: str) -> None:
    """S0-03: an item whose payload does not fit is put aside and never reaches the handler; its batch goes on."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task(size=3)
    async def work(numbers: list[int]) -> list[int]:
        calls.append(numbers)
        return numbers

    async with app:
        handles = await work.defer_many(range(3))
        async with connect(database) as connection:
            await connection.execute(
                'update jobqueue.job set args = \'{"numbers": "one"}\' where id = $1', handles[1].id
            )
        async with app.worker():
            assert [0, 2] == [await handles[place].result(timeout=PATIENCE) for place in (0, 2)]
        job = await app.jobs.get(handles[1].id)

    assert [[0, 2]] == calls
    assert (JobState.SCHEDULED, 0) == (job.state, job.attempt)


async def test_a_batch_has_no_job_of_its_own(database: str) -> None:
    """The handler runs in a context of its own: no current job, and a log that tells task, worker and size only."""
    app = new_app(database)
    bound: list[dict[str, Any]] = []

    @app.batch_task()
    async def work(numbers: list[int]) -> None:
        with pytest.raises(LookupError, match="no job runs here"):
            current_job()
        bound.append(get_contextvars())

    async with app:
        handles = await work.defer_many(range(3))
        async with app.worker() as worker:
            for handle in handles:
                await handle.result(timeout=PATIENCE)

    assert [{"task": "work", "worker": str(worker.id), "items": 3}] == bound


async def test_a_job_whose_worker_died_is_a_batch_of_its_own(database: str) -> None:
    """S4-68: an item that may have killed its worker takes no others with it again."""
    app = new_app(database)
    calls: list[list[int]] = []

    @app.batch_task()
    async def work(numbers: list[int]) -> None:
        calls.append(numbers)

    async with app:
        handles = await work.defer_many(range(5))
        async with connect(database) as connection:
            await connection.execute("update jobqueue.job set crashes = 1 where id = $1", handles[2].id)
        async with app.worker():
            await all_ended(database)

    assert [[2], [0, 1, 3, 4]] == sorted(calls, key=len)


async def test_no_job_is_overlooked_when_a_batch_begins(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S0-03, S1-08: the seats of a batch are gone when it begins, perhaps while the claimer is about to fall asleep.

    Without room it cannot look once more, so it must not sleep on what came meanwhile.
    """
    app = new_app(database)
    falls_asleep, may_sleep, published = asyncio.Event(), asyncio.Event(), asyncio.Event()
    began, let_go = asyncio.Event(), asyncio.Event()
    publish = claims.publish_sleep

    async def publish_later(session: Any, worker: Any, queues: Sequence[str], seconds: float) -> None:
        if queues != ["*"]:  # the stager's
            return
        falls_asleep.set()
        await may_sleep.wait()
        await publish(session, worker, queues, seconds)
        published.set()

    @app.batch_task(size=2, wait=0.3)
    async def work(numbers: list[int]) -> None:
        began.set()
        await let_go.wait()

    @app.task
    async def other() -> None: ...

    async with app:
        await work.defer(1)
        monkeypatch.setattr(claims, "publish_sleep", publish_later)
        async with app.worker(concurrency=1):
            await falls_asleep.wait()
            await other.defer()
            await began.wait()
            may_sleep.set()
            await published.wait()
            for _ in range(5):  # time for its second look, which it cannot take
                await counted(database)
            let_go.set()
            await all_ended(database)  # not by `result()`, which wakes whoever sleeps
