"""`task.run`: the way of a job, without a database."""

import asyncio

import pytest
from pydantic import BaseModel

from jobqueue.base.errors import (
    InvalidPayload,
    JobCancelled,
)
from jobqueue.base.outcome import Cancel, Fatal, Snooze
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.router import Router


class Mail(BaseModel):
    to: str


class Report(BaseModel):
    lines: list[str] = []


async def send(mail: Mail, /, copies: int = 1) -> str:
    """Send a mail."""
    return f"{mail.to} x{copies}"


async def resize(ctx: JobContext, path: str, *, width: int = 800) -> Report:
    return Report(lines=[path, str(width), ctx.job.task, str(ctx.attempt)])


def count(ctx: JobContext, words: list[str]) -> dict[str, int]:
    return {word: len(word) for word in words}


async def test_run_takes_the_way_of_a_job_without_a_database() -> None:
    """`run` gives the handler a context and its arguments through JSON, and its result through JSON. (S4-20, S4-112)"""
    router = Router("shop.")

    assert Report(lines=["a", "200", "shop.resize", "1"]) == await router.task(resize).run("a", width=200)
    assert "a x1" == await router.task(send).run(Mail(to="a"))
    assert {"ab": 2} == await router.task(count).run(["ab"])


async def test_run_makes_copies() -> None:
    """What the handler gets and what comes back are never the caller's own objects."""
    seen: list[object] = []

    async def keep(words: list[str]) -> list[str]:
        seen.append(words)
        words.append("more")
        return words

    given_words = ["a"]
    answer = await Router().task(keep).run(given_words)

    assert (["a"], ["a", "more"]) == (given_words, answer)
    assert answer is not seen[0]


@pytest.mark.parametrize("error", [ValueError("boom"), Fatal("no"), Snooze(delay=5), TimeoutError()])
async def test_run_raises_what_the_handler_raised(error: Exception) -> None:
    """Errors of the handler reach the caller as they are, whatever they would mean to a worker."""

    async def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await Router().task(fail).run()
    assert error is caught.value


async def test_run_of_a_cancelled_job_raises_job_cancelled() -> None:
    """`raise Cancel(reason)` ends the run as it would end the job."""

    async def give_up() -> None:
        raise Cancel("no longer wanted")

    with pytest.raises(JobCancelled, match="no longer wanted"):
        await Router().task(give_up).run()


async def test_run_refuses_a_result_that_could_not_be_stored() -> None:
    """A result that does not fit its annotation is found here, before any worker finds it."""

    async def wrong() -> int:
        return "hunter2"  # type: ignore[return-value]

    with pytest.raises(InvalidPayload, match="wrong result"):
        await Router().task(wrong).run()


async def test_the_callers_cancellation_is_the_jobs() -> None:
    """Cancelling `run` cancels the handler, and waits until it has cleaned up."""
    started, cleaned = asyncio.Event(), asyncio.Event()

    async def wait_long() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    running = asyncio.create_task(Router().task(wait_long).run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert cleaned.is_set()


async def test_the_timeout_holds_when_run_here() -> None:
    """The task's timeout, or the call's, ends the run with TimeoutError."""

    async def wait_long() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await Router().task(wait_long).options(timeout=0.01).run()
