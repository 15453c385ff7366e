"""Tasks between processes: pickled by where they are defined, as functions are."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from copy import copy, deepcopy
from multiprocessing import get_context
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.errors import JobNotFound
from jobqueue.base.job import NewJob
from jobqueue.tasks.router import Router
from jobqueue.tasks.task import Task

app, router = App.null(), Router()
app.include(router)


@app.task
async def double(number: int) -> int:
    return 2 * number


@router.task(name="half.it")
def halve(number: int) -> float:
    return number / 2


class Mailer:
    @staticmethod
    @app.task
    def send(to: str) -> str:
        return to


def call(task: Task[Any, Any], argument: object) -> object:
    return task.job(argument).task, task.job(argument).queue


def same(job: NewJob[Any]) -> NewJob[Any]:
    return job


def miss() -> None:
    raise JobNotFound(double.job(1).id)


@pytest.mark.parametrize("task", [double, halve, Mailer.send], ids=lambda task: task.name)
def test_a_task_comes_back_as_itself(task: Task[Any, Any]) -> None:
    """Unpickled a task is the one that its module has, and a copy of it, however deep, is pickled as well."""
    for each in (task, copy(task), deepcopy(task)):
        assert pickle.loads(pickle.dumps(each)) is task


def test_options_travel_along() -> None:
    """What `options` said of the next jobs comes back with the task, beside it."""
    later = pickle.loads(pickle.dumps(double.options(queue="bulk", priority=3)))

    job = later.job(4)
    assert ("double", "bulk", 3) == (job.task, job.queue, job.priority)
    assert "default" == double.job(4).queue


def test_what_would_not_be_found_again_is_refused() -> None:
    """A task of a function inside a function says so, and so does a handle: neither hangs a pool."""

    @app.task(name="inner")
    async def inner() -> None: ...

    for thing, words in ((inner, "<locals>.inner"), (double.handle(double.job(1).id), "handle.id")):
        with pytest.raises(pickle.PicklingError, match=words):
            pickle.dumps(thing)


def test_a_process_pool_takes_tasks_and_gives_errors() -> None:
    """Both ways: tasks and new jobs go into another process, an error of ours comes out, and the pool goes on."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert ("double", "bulk") == pool.submit(call, double.options(queue="bulk"), 2).result()
        with pytest.raises(JobNotFound, match="no job"):
            pool.submit(miss).result()
        job = pool.submit(same, double.job(2)).result()
        assert job.decode_result is not None
        assert ("double", 4) == (job.task, job.decode_result("4"))
        assert ("half.it", "default") == pool.submit(call, halve, 2).result()
