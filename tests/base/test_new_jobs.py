"""New jobs in the making: in slices, each once, and a failure is not taken for the end."""

import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from jobqueue.base.job import NewJob
from jobqueue.base.new_jobs import Draft, NewJobs, sealed
from tests.support.jobs.store import new_job


def making(count: int, fails_at: int | None = None) -> Iterator[NewJob[Any]]:
    for number in range(count):
        if number == fails_at:
            raise TimeoutError("a serializer of the user's")
        yield new_job(args=f'{{"n": {number}}}')


def test_all_come_once_and_in_order() -> None:
    """However they are asked for, slice by slice or all at once, the jobs are those that were made."""
    jobs = NewJobs(making(1_700))
    assert 0 < jobs.more() <= 500
    assert [f'{{"n": {number}}}' for number in range(1_700)] == [job.args for job in jobs.all()]
    assert (0, 1_700) == (jobs.more(), len(jobs.made))


def test_a_failure_is_told_each_time() -> None:
    """Whoever asks again, as after an error of the database, never gets some of the jobs for all of them."""
    jobs = NewJobs(making(1_700, fails_at=700))
    for _ in range(3):
        with pytest.raises(TimeoutError, match="of the user's"):
            jobs.all()


def test_large_jobs_come_in_small_slices() -> None:
    """A slice ends at a megabyte of arguments, so that the event loop turns between two of them."""
    jobs = NewJobs(new_job(args=f'"{"x" * 400_000}"') for _ in range(5))
    assert [3, 2, 0] == [jobs.more() for _ in range(3)]


def test_a_sealed_draft_is_a_job_like_any_other() -> None:
    """It has the same fields and defaults, is equal to one that was made directly, copied, sent, and never changed."""
    assert not hasattr(NewJob, "__post_init__"), "which a draft would leave out"
    id = uuid7()
    job = sealed(Draft(id, "noop", "{}", priority=3))
    assert (NewJob, NewJob(id, "noop", "{}", priority=3)) == (type(job), job)
    assert [getattr(NewJob(id, "x", ""), each.name) for each in fields(NewJob)] == [
        getattr(sealed(Draft(id, "x", "")), each.name) for each in fields(NewJob)
    ]
    assert (job, 4) == (pickle.loads(pickle.dumps(job)), replace(job, priority=4).priority)
    with pytest.raises(FrozenInstanceError):
        job.priority = 5  # type: ignore[misc]
