"""The handle of a job: its state, its result, its end."""

from uuid import UUID

import pytest
from pydantic import BaseModel

from jobqueue.base.errors import (
    InvalidOption,
    InvalidPayload,
    JobCancelled,
    JobFailed,
    JobNotFound,
)
from jobqueue.base.job import AttemptError, JobState
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.handle import JobHandle
from tests.support.patience import PATIENCE
from tests.tasks.recording import Recorder, open_home

ID = UUID(int=9)


class Mail(BaseModel):
    to: str


class Report(BaseModel):
    lines: list[str] = []


async def send(mail: Mail, /, copies: int = 1) -> str:
    """Send a mail."""
    return f"{mail.to} x{copies}"


async def resize(ctx: JobContext, path: str, *, width: int = 800) -> Report:
    return Report(lines=[path, str(width), ctx.job.task, str(ctx.attempt)])


async def test_a_result_is_decoded_by_the_annotation() -> None:
    """The handle, also one made from a stored id, gives the model that the task returned."""
    app = Recorder()
    task = open_home(app).task(resize)
    handle = await task.defer("a")
    app.end(handle.id, result='{"lines": ["a"]}')

    for same in (handle, task.handle(handle.id), task.handle(str(handle.id))):
        assert Report(lines=["a"]) == await same.result(timeout=PATIENCE)
        assert JobState.COMPLETED == await same.status()
        assert handle == same
    assert 1 == len({handle, task.handle(handle.id)})


@pytest.mark.parametrize(("stored", "value"), [("null", None), ("{}", {}), ("[]", []), ("0", 0), (None, None)])
async def test_none_and_empty_results_are_told_apart(stored: str | None, value: object) -> None:
    """A task without a return annotation gives back what was stored: None is not {}. (S4-36)"""
    app = Recorder()

    def anything(n: int): ...  # type: ignore[no-untyped-def]

    app.end(ID, result=stored)
    found = await open_home(app).task(anything).handle(ID).result()

    assert value == found
    assert type(value) is type(found)


async def test_a_dead_job_raises_what_is_known_of_it() -> None:
    """JobFailed carries reason, class, message and data of the last attempt."""
    app = Recorder()
    errors = (AttemptError("A", "first"), AttemptError("shop.CardRefused", "no money", data={"code": 5}))
    app.end(ID, JobState.DEAD, reason="fatal", errors=errors)

    with pytest.raises(JobFailed) as caught:
        await open_home(app).task(send).handle(ID).result()

    failed = caught.value
    assert (ID, "fatal", "shop.CardRefused", "no money", {"code": 5}) == (
        failed.id,
        failed.reason,
        failed.error_class,
        failed.message,
        failed.data,
    )


async def test_a_job_that_never_ran_can_be_dead_too() -> None:
    """A dead job without any attempt, such as an expired one, still gives its reason."""
    app = Recorder()
    app.end(ID, JobState.DEAD, reason="expired")

    with pytest.raises(JobFailed, match="expired"):
        await open_home(app).task(send).handle(ID).result()


async def test_cancelled_and_missing_jobs_raise_so() -> None:
    """A cancelled job raises JobCancelled with its reason, an unknown one JobNotFound."""
    app = Recorder()
    app.end(ID, JobState.CANCELLED, reason="no longer wanted")
    task = open_home(app).task(send)

    with pytest.raises(JobCancelled, match="no longer wanted"):
        await task.handle(ID).result()
    with pytest.raises(JobNotFound):
        await task.handle(UUID(int=1)).status()
    with pytest.raises(InvalidOption, match="id: must be a UUID"):
        task.handle("none of them")


async def test_a_stored_result_that_does_not_fit_any_more_is_refused() -> None:
    """After the annotation changed, the old result raises InvalidPayload, without a value in its text."""
    app = Recorder()
    app.end(ID, result='{"lines": ["hunter2", 5]}')

    with pytest.raises(InvalidPayload, match=r"resize result: lines\[1\]") as caught:
        await open_home(app).task(resize).handle(ID).result()
    assert "hunter2" not in str(caught.value)


def test_handles_of_different_jobs_differ() -> None:
    """Handles are equal by id alone, and to nothing else."""
    task = open_home(Recorder()).task(send)

    assert task.handle(ID) != task.handle(UUID(int=1))
    assert task.handle(ID) != ID


def test_handles_are_typed_values() -> None:
    """A handle shows task and id, nothing of the payload."""
    handle = open_home(Recorder()).task(send).handle(ID)

    assert isinstance(handle, JobHandle)
    assert f"<JobHandle send {ID}>" == repr(handle)
