"""What the README's section on cancellation says, executed."""

import sys
import traceback
from inspect import iscoroutinefunction
from typing import Any

import pytest

from examples.cancellation import app, compress, download
from jobqueue import JobState, Task, Work
from tests.examples.programs import run
from tests.support.waiting import wait_until


async def test_each_kind_of_task_sees_its_timeout(database: str) -> None:
    """At its timeout an async task is cancelled and cleans up, a thread is told so and does the same. (S3-32)"""
    ended = await run("examples/cancellation.py", dsn=database)

    assert 0 == ended.code, ended.err
    for line in (
        "download: closing the connection",
        "compress: removing the half-written file",
        "download: TimeoutError: timeout after 0.5 s",
        "compress: TimeoutError: timeout after 0.5 s",
    ):
        assert line in ended.out


@pytest.mark.parametrize("task", [download, compress])
async def test_a_job_cut_off_by_a_drain_is_given_back(
    task: Task[[str], Any], database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the drain's limit each kind of task is asked to end and cleans up; the job is given back. (S3-32)"""
    with app.override(dsn=database):
        async with app:
            (handle,) = await app.defer_many([task.options(timeout=60).job("a")])
            async with app.worker(["cancellation"]) as worker:
                await wait_until(lambda: has_begun(task, worker), "the task is at work")
                with pytest.raises(TimeoutError, match="given back"):
                    await worker.drain(0)
            job = await app.jobs.get(handle.id)

    assert JobState.READY is job.state
    assert 0 == job.attempt
    assert f"{task.name}: " in capsys.readouterr().out


def has_begun(task: Task[Any, Any], worker: Work) -> bool:
    """True once the worker's one job is inside the task's own code, in whatever thread that is."""
    if worker.snapshot().running != 1:
        return False
    frames = (frame for top in sys._current_frames().values() for frame, _ in traceback.walk_stack(top))
    return iscoroutinefunction(task.function) or any(frame.f_code is task.function.__code__ for frame in frames)
