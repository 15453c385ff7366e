"""A part of the worker itself breaks: that ends the worker, loudly, and the jobs are given back."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from jobqueue.app import App
from jobqueue.base.job import JobState
from jobqueue.tasks.handle import JobHandle
from tests.support.jobs.working import asked, new_app
from tests.support.patience import PATIENCE


class Broken(Exception):
    """A mistake in the library."""


async def broken(*given: Any) -> Any:
    raise Broken


def leaves(error: BaseException) -> set[type[BaseException]]:
    """The classes of what has failed, out of all groups."""
    if isinstance(error, BaseExceptionGroup):
        return set().union(*(leaves(part) for part in error.exceptions))
    return {type(error)}


@dataclass
class Hanging:
    """A job that runs until it is cancelled."""

    began: asyncio.Event = field(default_factory=asyncio.Event)
    cleaned: bool = False

    async def defer(self, app: App) -> JobHandle[None]:
        @app.task
        async def hangs() -> None:
            try:
                self.began.set()
                await anyio.sleep_forever()
            finally:
                await anyio.lowlevel.checkpoint()
                self.cleaned = True

        return await hangs.defer()


async def worker_breaks(app: App) -> None:
    """Run a worker, which must end by the mistake."""
    with anyio.fail_after(PATIENCE), pytest.raises(BaseException) as caught:
        await app.run_worker()
    assert {Broken} == leaves(caught.value)


async def test_a_broken_part_ends_the_worker(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that no part of the worker expects stops it at once: running jobs are given back, the caller is told."""
    app, hanging = new_app(database), Hanging()

    async def break_once_a_job_runs(*given: Any) -> None:
        await hanging.began.wait()
        raise Broken

    monkeypatch.setattr("jobqueue.worker.claiming.staging.Stager._until_next", break_once_a_job_runs)
    async with app:
        handle = await hanging.defer(app)
        await worker_breaks(app)
        job = await app.jobs.get(handle.id)
        assert 0 == await asked(database, "select count(*) from jobqueue.worker")

    assert (JobState.READY, 0, True) == (job.state, job.attempt, hanging.cleaned)
    assert "worker.failed" in caplog.text


async def test_a_broken_finisher_ends_the_worker(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that cannot write outcomes any more cancels what runs, names what it could not save, and raises."""
    app, hanging = new_app(database), Hanging()

    @app.task
    async def ends() -> None:
        await hanging.began.wait()

    monkeypatch.setattr("jobqueue.worker.ending.finishing.write", broken)
    async with app:
        await hanging.defer(app)
        lost = await ends.defer()
        await worker_breaks(app)

    assert hanging.cleaned
    assert "job.outcome_unsaved" in caplog.text
    assert str(lost.id) in caplog.text


async def test_a_slot_that_cannot_be_freed_ends_the_worker(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error at the end of a job's own task would lose its slot without a word: it ends the worker instead."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    def refuses(*given: Any) -> None:
        raise Broken

    monkeypatch.setattr("jobqueue.worker.ending.finishing.Finisher.submit", refuses)
    monkeypatch.setattr("jobqueue.worker.draining.FINAL_WRITES", 0.2)
    async with app:
        await work.defer()
        await worker_breaks(app)

    assert "worker.slot_lost" in caplog.text
