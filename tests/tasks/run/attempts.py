"""Runs of one job without a database, as a worker would make them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from jobqueue.base.job import AttemptError, Job, JobState, NewJob
from jobqueue.base.outcome import (
    Dead,
    Outcome,
    Retried,
)
from jobqueue.base.retry import RetryPolicy
from jobqueue.tasks.phases.memory import MemoryJournal
from jobqueue.tasks.run.attempt import Attempt, Conditions, run_apart
from jobqueue.tasks.task import Task
from tests.tasks.recording import Recorder, ended_job, open_home


class Claimed:
    """Behind a run that has nothing but its job."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def job(self) -> Job:
        return self._job

    def report(self, report: str) -> None:
        pass

    def transaction(self, given: object | None) -> NoReturn:
        raise AssertionError

    def bundle(self) -> None:
        pass

    def journal(self) -> MemoryJournal:
        return MemoryJournal()


class Shock(BaseException):
    """An exception that `except Exception` does not catch."""


def attempt_at(
    function: Callable[..., Any],
    /,
    *args: Any,
    number: int = 1,
    max_attempts: int = 20,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    budget: float | None = None,
    text: str | None = None,
    **named: Any,
) -> Attempt:
    """A run of this function as the worker would make it."""
    task: Task[..., Any] = open_home(Recorder()).task(retry=retry, max_attempts=max_attempts)(function)
    job: NewJob[Any] = task.job(*args, **named) if text is None else task.job()
    claimed = replace(ended_job(job.id, JobState.RUNNING, None, None, ()), attempt=number, max_attempts=max_attempts)
    return Attempt(
        task,
        job.args if text is None else text,
        Claimed(claimed),
        number,
        Conditions(result_limit=1000, resources={str: "resource"}),
        timeout=timeout,
        budget_left=budget,
    )


async def run(function: Callable[..., Any], /, *args: Any, **options: Any) -> Outcome:
    return await run_apart(attempt_at(function, *args, **options))


async def error_of(function: Callable[..., Any], /, *args: Any, **options: Any) -> AttemptError:
    """How the failure of this function is stored."""
    outcome = await run(function, *args, **options)
    assert isinstance(outcome, Retried | Dead), outcome
    assert outcome.error is not None
    return outcome.error
