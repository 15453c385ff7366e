"""Tasks of every form, from defer to result, in one worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest

from jobqueue.app import App
from jobqueue.base.errors import NotMigrated
from jobqueue.base.job import JobState
from jobqueue.tasks.context import JobContext, current_job
from jobqueue.tasks.router import Router
from tests.support.jobs.working import archived, counted, end_of, new_app
from tests.support.patience import PATIENCE
from tests.support.waiting import wait_until


async def test_plain_coroutines_run_once_each(database: str) -> None:
    """S0-02: one registered task, twenty jobs, twenty completions, one call for each job."""
    app = new_app(database)
    calls: list[int] = []

    @app.task
    async def work(number: int) -> int:
        calls.append(number)
        return number * 2

    async with app, app.worker():
        handles = [await work.defer(number) for number in range(20)]
        results = [await handle.result(timeout=PATIENCE) for handle in handles]

    assert [number * 2 for number in range(20)] == results
    assert list(range(20)) == sorted(calls)
    assert 20 == await archived(database)


async def test_every_form_of_task_runs(database: str) -> None:
    """S4-20: a bare decorator, a named task, one that takes the whole job, an alias, a router's task: all run."""
    app = new_app(database)
    router = Router(prefix="shop.", queue="shop")

    @app.task
    async def bare() -> str:
        return "bare"

    @app.task(name="named", aliases=["old-name"])
    async def some_function() -> str:
        return "named"

    @app.task
    async def raw(ctx: JobContext, number: int) -> dict[str, object]:
        assert current_job() is ctx
        job = ctx.job
        return {"task": job.task, "args": job.args, "queue": job.queue, "id": str(job.id), "state": str(job.state)}

    @router.task
    async def routed() -> str:
        return current_job().job.queue

    app.include(router)
    async with app, app.worker():
        handle = await raw.options(queue="other").defer(5)
        assert "bare" == await (await bare.defer()).result(timeout=PATIENCE)
        assert "named" == await (await some_function.defer()).result(timeout=PATIENCE)
        assert "shop" == await (await routed.defer()).result(timeout=PATIENCE)
        job = await handle.result(timeout=PATIENCE)

    assert {"task": "raw", "args": {"number": 5}, "queue": "other", "id": str(handle.id), "state": "running"} == job


async def test_the_context_tells_the_attempt_and_a_key_that_stays(database: str) -> None:
    """S4-120: `ctx.idempotency_key` is the same for all attempts of a job and different between jobs."""
    app = new_app(database)
    seen: list[tuple[int, str]] = []

    @app.task(retry=lambda job, error: 0)
    async def work(ctx: JobContext) -> None:
        seen.append((ctx.attempt, ctx.idempotency_key))
        if ctx.attempt == 1:
            raise OSError

    async with app, app.worker(concurrency=1):
        handles = [await work.defer(), await work.defer()]
        for handle in handles:
            await end_of(app, handle)

    assert {(attempt, str(handle.id)) for attempt in (1, 2) for handle in handles} == set(seen)


@dataclass
class Mailer:
    """A resource of the user's."""

    opened: bool = True


async def test_the_lifespan_surrounds_the_jobs(database: str) -> None:
    """What the app's lifespan yields is found by its type in tasks, and closed after the last of them."""
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[Mailer]:
        mailer = Mailer()
        yield mailer
        mailer.opened = False
        log.append("closed")

    app = new_app(database, lifespan=lifespan)

    @app.task
    async def send(ctx: JobContext) -> bool:
        log.append("sent")
        return ctx.get(Mailer).opened

    async with app:
        async with app.worker():
            handle = await send.defer()
            await wait_until(lambda: "sent" in log, "the task has run")
        assert True is await handle.result(timeout=PATIENCE)

    assert ["sent", "closed"] == log


async def test_a_burst_runs_what_is_there_and_what_that_defers(database: str) -> None:
    """`run_until_idle` runs ready jobs, the jobs they defer into whatever queue, and leaves scheduled ones alone."""
    app = new_app(database)
    ran: list[str] = []

    @app.task
    async def family(generations: int) -> None:
        ran.append(f"family {generations}")
        if generations:
            await family.options(queue=f"queue-{generations}").defer(generations - 1)

    async with app:
        await family.defer(3)
        later = await family.options(delay=3600).defer(0)
        await app.run_until_idle()
        state = await later.status()

    assert ["family 3", "family 2", "family 1", "family 0"] == ran
    assert JobState.SCHEDULED is state


async def test_a_burst_runs_retries_without_delay(database: str) -> None:
    """A job that fails and is due again at once belongs to the burst."""
    app = new_app(database)

    @app.task(retry=lambda job, error: 0)
    async def third_time(ctx: JobContext) -> int:
        if ctx.attempt < 3:
            raise OSError
        return ctx.attempt

    async with app:
        handle = await third_time.defer()
        await app.run_until_idle()
        assert JobState.COMPLETED is await handle.status()
    assert 0 == await counted(database)


async def test_a_job_of_a_burst_may_wait_for_one_that_it_has_deferred(database: str) -> None:
    """A burst goes on starting jobs while others run."""
    app = new_app(database)

    @app.task
    async def child() -> str:
        return "from the child"

    @app.task
    async def parent() -> str:
        return await (await child.defer()).result(timeout=PATIENCE)

    async with app:
        handle = await parent.defer()
        await app.run_until_idle()
        assert "from the child" == await handle.result(timeout=PATIENCE)


async def test_an_empty_burst_returns_at_once(database: str) -> None:
    """With nothing to do a burst is over, and may be repeated."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app:
        await app.run_until_idle()
        handle = await work.defer()
        await app.run_until_idle()
        assert JobState.COMPLETED is await handle.status()


async def test_two_workers_in_one_process(database: str) -> None:
    """One app may run several workers side by side; each job runs in one of them."""
    app = new_app(database)
    calls: list[UUID] = []

    @app.task
    async def work(ctx: JobContext) -> None:
        calls.append(ctx.job.id)

    async with app, app.worker(concurrency=2) as first, app.worker(concurrency=2) as second:
        assert first.id != second.id
        handles = await app.defer_many([work.job() for _ in range(200)])
        for handle in handles:
            await end_of(app, handle)

    assert sorted(handle.id for handle in handles) == sorted(calls)


async def test_starting_a_worker_on_a_schema_that_is_missing_says_so(empty_database: str) -> None:
    """Start is guarded: without the schema a worker does not start, and leaves nothing behind."""
    app = new_app(empty_database)

    with pytest.raises(NotMigrated, match="migrate up"):
        async with app.worker():
            pytest.fail("it has started")
