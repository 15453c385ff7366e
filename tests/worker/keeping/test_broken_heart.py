"""Heart, watchdog or rescuer break by a mistake of ours: the worker ends, loudly, and gives back what it holds."""

import asyncio
from typing import Any

import anyio
import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.base.settings import Settings
from tests.app.test_pool import own_pool
from tests.support.jobs.beating import QUICK
from tests.support.jobs.working import POLL, asked, new_app
from tests.support.patience import PATIENCE


class Broken(Exception):
    """A mistake in the library."""


def leaves(error: BaseException) -> set[type[BaseException]]:
    """The classes of what has failed, out of all groups."""
    if isinstance(error, BaseExceptionGroup):
        return set().union(*(leaves(part) for part in error.exceptions))
    return {type(error)}


async def broken(*given: Any) -> Any:
    raise Broken


async def ends_loudly(app: App, dsn: str, break_it: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Run a worker whose part breaks once its jobs run; check that it ends, that it says why, and what is left."""
    running: list[int] = []
    cleaned: list[int] = []

    @app.task
    async def work(number: int) -> None:
        running.append(number)
        if len(running) == 5:
            break_it()
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.lowlevel.checkpoint()
            cleaned.append(number)

    async with app:
        handles = await app.defer_many([work.job(number) for number in range(5)])
        with anyio.fail_after(PATIENCE), pytest.raises(BaseException) as caught:
            await app.run_worker()
        assert {Broken} == leaves(caught.value)
        jobs = [await app.jobs.get(handle.id) for handle in handles]
        assert 0 == await asked(dsn, "select count(*) from jobqueue.worker")
    assert [(JobState.READY, 0)] * 5 == [(job.state, job.attempt) for job in jobs]
    assert [0, 1, 2, 3, 4] == sorted(cleaned)
    assert "worker.failed" in caplog.text
    assert "job.outcome_unsaved" not in caplog.text


async def test_a_broken_heart_ends_the_worker(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that cannot renew its claims gives them back and ends with the cause, within seconds."""

    def break_it() -> None:
        monkeypatch.setattr("jobqueue.worker.keeping.heartbeat.renew", broken)

    await ends_loudly(new_app(database, **QUICK), database, break_it, caplog)


async def test_a_broken_heart_on_a_pool_of_the_users(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same where the beat shares the loop of the worker."""

    def break_it() -> None:
        monkeypatch.setattr("jobqueue.worker.keeping.heartbeat.renew", broken)

    async with own_pool(database, 10) as pool:
        await ends_loudly(App(pool=pool, settings=Settings(poll=POLL, **QUICK)), database, break_it, caplog)


async def test_a_broken_rescuer_ends_the_worker(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in the sweep ends the worker as one in any other part does."""

    def break_it() -> None:
        monkeypatch.setattr("jobqueue.worker.keeping.rescue.Rescuer._dead_neighbours", broken)

    await ends_loudly(new_app(database, **QUICK), database, break_it, caplog)


async def test_a_heart_that_stops_without_a_word_ends_the_worker(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A heart that has ended, for whatever reason, is an error: nothing would be renewed any more."""

    async def stops(*given: Any) -> Any:
        raise asyncio.CancelledError

    monkeypatch.setattr("jobqueue.worker.keeping.heartbeat.renew", stops)
    app = new_app(database, **QUICK)
    async with app:
        with anyio.fail_after(PATIENCE), pytest.raises(BaseExceptionGroup) as caught:
            await app.run_worker()
    assert {RuntimeError} == leaves(caught.value)
    assert "worker.failed" in caplog.text
