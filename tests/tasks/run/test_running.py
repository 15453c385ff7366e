"""One run of one job, without a database: what the handler returns or raises becomes exactly one outcome."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, field_serializer

from jobqueue.base.outcome import (
    Cancel,
    Cancelled,
    Dead,
    Done,
    Fatal,
    Outcome,
    Retried,
    Retry,
    Snooze,
    Snoozed,
)
from jobqueue.base.retry import steps
from jobqueue.tasks.router import TaskHome
from tests.tasks.run.attempts import error_of, run


async def test_a_result_is_stored_as_json() -> None:
    """A handler that returns is done, its result as JSON by the return annotation."""

    async def add(a: int, b: int) -> int:
        return a + b

    assert Done("3") == await run(add, 1, 2)


async def test_none_is_told_from_an_empty_object() -> None:
    """S4-36: a result of None is stored as null, an empty dict as {}."""

    async def nothing() -> None: ...

    async def empty() -> dict[str, int]:
        return {}

    assert [Done("null"), Done("{}")] == [await run(nothing), await run(empty)]


@pytest.mark.parametrize("value", [float("nan"), "a\x00b", 10**30, {"deep": object()}, "x" * 2000])
async def test_a_result_that_cannot_be_stored_is_never_retried(value: object) -> None:
    """A result that JSON or the limit refuses makes the job dead at once: its effect has happened."""

    async def give() -> Any:
        return value

    outcome = await run(give)

    assert isinstance(outcome, Dead)
    assert ("result", "jobqueue.base.errors.InvalidPayload") == (
        outcome.reason,
        outcome.error and outcome.error.error_class,
    )


async def test_a_serializer_that_ends_the_process_only_ends_the_job() -> None:
    """S0-15: SystemExit out of the user's own serializer is contained like any other error."""

    class Report(BaseModel):
        pages: int

        @field_serializer("pages")
        def refuse(self, value: int) -> int:
            raise SystemExit(3)

    async def give() -> Report:
        return Report(pages=1)

    outcome = await run(give)

    assert isinstance(outcome, Dead)
    assert "result" == outcome.reason


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (Snooze(5), Snoozed(5.0)),
        (Snooze(), Snoozed(60.0)),
        (Cancel("not needed"), Cancelled("not needed")),
        (Cancel(), Cancelled(None)),
    ],
)
async def test_a_handler_chooses_its_outcome(raised: Exception, outcome: Outcome) -> None:
    """Snooze and Cancel are outcomes, not failures."""

    async def choose() -> None:
        raise raised

    assert outcome == await run(choose, number=20, max_attempts=20)


async def test_snooze_until_a_time() -> None:
    """`Snooze(at=...)` keeps the time."""
    at = datetime.now(UTC) + timedelta(hours=1)

    async def later() -> None:
        raise Snooze(at=at)

    assert Snoozed(None, at) == await run(later)


async def test_retry_says_when_and_where() -> None:
    """`Retry` with a delay overrides the policy and moves the job."""

    async def again() -> None:
        raise Retry(delay=7, queue="slow", priority=3)

    outcome = await run(again, retry=lambda job, error: None)

    assert isinstance(outcome, Retried)
    assert (7, None, "slow", 3) == (outcome.delay, outcome.at, outcome.queue, outcome.priority)


async def test_retry_at_a_time() -> None:
    """`Retry(at=...)` keeps the time."""
    at = datetime.now(UTC) + timedelta(hours=1)

    async def again() -> None:
        raise Retry(at=at)

    outcome = await run(again)

    assert isinstance(outcome, Retried)
    assert (None, at) == (outcome.delay, outcome.at)


async def test_retry_without_a_time_asks_the_policy() -> None:
    """`Retry()` waits as long as the task's policy says, and still moves the job."""

    async def again() -> None:
        raise Retry(priority=9)

    outcome = await run(again, retry=steps(11))

    assert isinstance(outcome, Retried)
    assert (11.0, 9) == (outcome.delay, outcome.priority)


@pytest.mark.parametrize("wrong", [{"queue": "x" * 101}, {"queue": "*"}, {"queue": "a\x00b"}, {"priority": 10**9}])
async def test_a_retry_to_nowhere_shows_both_errors(wrong: dict[str, Any]) -> None:
    """A `Retry` into a queue or priority that cannot be is a failure like any other, and tells why it is not met."""

    async def again() -> None:
        raise Retry(delay=1, **wrong)

    outcome = await run(again)

    assert isinstance(outcome, Retried)
    assert (None, None, "jobqueue.base.outcome.Retry") == (outcome.queue, outcome.priority, outcome.error.error_class)
    assert "retry asked for by the task\n(then its retry policy failed: jobqueue.base.errors." in outcome.error.message


async def test_retry_does_not_give_more_attempts() -> None:
    """`Retry` on the last attempt ends the job as dead, like any failure."""

    async def again() -> None:
        raise Retry(delay=0)

    outcome = await run(again, number=3, max_attempts=3)

    assert isinstance(outcome, Dead)
    assert "attempts" == outcome.reason


async def test_fatal_ends_the_job_whatever_attempts_are_left() -> None:
    """S3-15: `Fatal` is dead at once and keeps its message and data."""

    async def refuse() -> None:
        raise Fatal("card refused", {"code": 51})

    outcome = await run(refuse)

    assert isinstance(outcome, Dead)
    assert outcome.error is not None
    assert ("fatal", "card refused", {"code": 51}) == (outcome.reason, outcome.error.message, outcome.error.data)


@pytest.mark.parametrize("data", [object(), "a\x00b", float("nan"), {1: 2}, "x" * 100_000])
async def test_data_that_cannot_be_stored_is_left_out(data: Any) -> None:
    """S4-37: An exception's data that the database could not hold costs neither the error nor the job."""

    async def refuse() -> None:
        raise Fatal("message", data)

    error = await error_of(refuse)

    assert ("message", None) == (error.message, error.data)


async def test_run_here_raises_what_the_handler_raised() -> None:
    """`task.run` gives the handler's own exception; a retry that it asks for is not followed."""
    home = TaskHome()

    @home.task
    async def fail() -> None:
        raise Retry(delay=5)

    @home.task
    async def wait() -> None:
        await anyio.sleep_forever()

    with pytest.raises(Retry):
        await fail.run()
    with pytest.raises(TimeoutError, match=r"timeout after 0\.02 s"):
        await wait.options(timeout=0.02).run()


async def test_results_are_json_of_the_annotated_type() -> None:
    """What is stored is what the annotation says, and reads back as such."""

    class Report(BaseModel):
        pages: int
        made: datetime

    made = datetime(2026, 1, 2, tzinfo=UTC)

    async def report() -> Report:
        return Report(pages=3, made=made)

    outcome = await run(report)

    assert isinstance(outcome, Done)
    assert {"pages": 3, "made": "2026-01-02T00:00:00Z"} == json.loads(outcome.result)
