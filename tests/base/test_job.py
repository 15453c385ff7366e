"""Jobs as values: what they say, and what they keep to themselves."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from jobqueue.base.job import FINAL, AttemptError, Job, JobState, NewJob

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECRET = '{"card": "hunter2"}'


def stored(args: str = "{}", result: str | None = None, errors: tuple[AttemptError, ...] = ()) -> Job:
    return Job(
        id=UUID(int=1),
        task="t",
        queue="q",
        state=JobState.READY,
        priority=0,
        attempt=0,
        max_attempts=20,
        crashes=0,
        lost=0,
        due_at=NOW,
        created_at=NOW,
        errors=errors,
        args_json=args,
        result_json=result,
        meta_json=args,
        progress_json=args,
    )


@pytest.mark.parametrize("state", JobState)
def test_three_states_are_final(state: JobState) -> None:
    """Completed, cancelled and dead are final, nothing else is."""
    assert (state in FINAL) is state.final
    assert state.final is (state in {"completed", "cancelled", "dead"})


def test_payloads_do_not_show() -> None:
    """Neither a job nor a new job shows arguments, result, meta or an error's data in its repr."""
    error = AttemptError("E", "m", traceback="hunter2", data={"card": "hunter2"})
    new: NewJob[None] = NewJob(id=UUID(int=1), task="t", args=SECRET, meta=SECRET)

    assert "hunter2" not in repr(stored(SECRET, SECRET, (error,)))
    assert "hunter2" not in repr(new)


def test_stored_json_is_read_exactly() -> None:
    """Integers of any size come back as they were stored, by us or by SQL."""
    job = stored('{"n": 123456789012345678901234567890}', "[18446744073709551616]")

    assert {"n": 123456789012345678901234567890} == job.args == job.meta == job.progress
    assert [2**64] == job.result


def test_none_is_not_an_empty_object() -> None:
    """A result of None and one of {} are told apart. (S4-36)"""
    assert stored(result="null").result is None
    assert {} == stored(result="{}").result


def test_the_error_is_that_of_the_last_attempt() -> None:
    """`job.error` is the newest of `job.errors`."""
    first, last = AttemptError("A", "a", attempt=1), AttemptError("B", "b", attempt=2)

    assert stored().error is None
    assert last is stored(errors=(first, last)).error
