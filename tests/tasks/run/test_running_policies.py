"""One run of one job that fails: its retry policy, and how its error is stored."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from structlog.testing import capture_logs

from jobqueue.base.job import Job
from jobqueue.base.outcome import (
    Dead,
    Retried,
)
from jobqueue.base.retry import RetryPolicy, exponential, linear, steps
from tests.tasks.run.attempts import Shock, error_of, run


@pytest.mark.parametrize(
    ("policy", "attempt", "least", "most"),
    [
        (exponential(first=2, factor=3, jitter=0), 3, 18, 18),
        (exponential(first=2, factor=3, cap=10, jitter=0), 3, 10, 10),
        (exponential(first=10, jitter=0.2), 1, 8, 12),
        (linear(first=2, step=5, jitter=0), 3, 12, 12),
        (steps(1, 30, 300), 2, 30, 30),
        (steps(1, 30, 300), 9, 300, 300),
        (None, 1, 1.6, 2.4),
    ],
)
async def test_backoff(policy: RetryPolicy | None, attempt: int, least: float, most: float) -> None:
    """S1-14, S2-20, S3-09, S4-51: A failed attempt runs again after what its policy says for that attempt."""

    async def fail() -> None:
        raise OSError("no route")

    outcome = await run(fail, number=attempt, retry=policy)

    assert isinstance(outcome, Retried)
    assert outcome.delay is not None
    assert least <= outcome.delay <= most


async def test_a_policy_sees_the_job_and_the_error() -> None:
    """S4-50: a policy is called with the job as claimed and the exception itself; sync or async, seconds and times."""
    at = datetime.now(UTC) + timedelta(days=1)
    seen: list[tuple[int, str]] = []

    def seconds(job: Job, error: BaseException) -> float:
        seen.append((job.attempt, str(error)))
        return 4

    async def moment(job: Job, error: BaseException) -> datetime:
        await asyncio.sleep(0)
        seen.append((job.attempt, str(error)))
        return at

    async def fail() -> None:
        raise OSError("no route")

    first, second = await run(fail, number=2, retry=seconds), await run(fail, number=3, retry=moment)

    assert isinstance(first, Retried)
    assert isinstance(second, Retried)
    assert [(4, None), (None, at)] == [(first.delay, first.at), (second.delay, second.at)]
    assert [(2, "no route"), (3, "no route")] == seen


async def test_a_policy_may_give_up() -> None:
    """S4-50: A policy that returns None ends the job as dead, with the handler's error."""

    async def fail() -> None:
        raise OSError("no route")

    outcome = await run(fail, retry=lambda job, error: None)

    assert isinstance(outcome, Dead)
    assert outcome.error is not None
    assert ("policy", "no route") == (outcome.reason, outcome.error.message)


def _raises(job: Job, error: BaseException) -> float:
    raise KeyError("no such policy")


def _raises_from_another(job: Job, error: BaseException) -> float:
    try:
        raise KeyError("no such policy")
    except KeyError as cause:
        raise ValueError("policy is broken") from cause


async def _exits(job: Job, error: BaseException) -> float:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (_raises, "no such policy"),
        (_raises_from_another, "policy is broken"),
        (_exits, "SystemExit"),
        (lambda job: 1, "TypeError"),
        (lambda job, error: "soon", "not str"),
        (lambda job, error: True, "not bool"),
        (lambda job, error: float("nan"), "delay: must be between"),
        (lambda job, error: float("inf"), "delay: must be between"),
        (lambda job, error: float("-inf"), "delay: must be between"),
        (lambda job, error: 10**400, "delay: must be between"),
        (lambda job, error: timedelta.max, "delay: must be between"),
        (lambda job, error: datetime(2030, 1, 1), "timezone-aware"),
        (lambda job, error: datetime.max.replace(tzinfo=UTC), "at: must be between the years"),
        (lambda job, error: datetime.min.replace(tzinfo=ZoneInfo("Europe/Vienna")), "at: must be between the years"),
    ],
)
async def test_a_slip_in_a_policy_leaves_the_attempts_that_are_left(policy: Any, named: str) -> None:
    """S4-52: a policy that raises or answers nonsense gives way to the default one; the handler's error comes first."""

    async def fail() -> None:
        raise OSError("no route")

    with capture_logs() as events:
        outcome = await run(fail, retry=policy)

    assert isinstance(outcome, Retried)
    assert outcome.delay is not None
    assert 1.6 <= outcome.delay <= 2.4
    assert ("OSError", "no route") == (outcome.error.error_class, outcome.error.message.splitlines()[0])
    assert named in outcome.error.message
    assert outcome.error.traceback.index("no route") < outcome.error.traceback.index("its retry policy failed")
    assert [("job.policy_failed", "error")] == [(event["event"], event["log_level"]) for event in events]


async def test_a_policy_may_answer_with_a_timedelta() -> None:
    """S4-50: as everywhere, a timedelta is as good as seconds."""

    async def fail() -> None:
        raise OSError("no route")

    outcome = await run(fail, retry=lambda job, error: timedelta(minutes=2))

    assert isinstance(outcome, Retried)
    assert 120.0 == outcome.delay


async def test_a_slip_in_a_policy_on_the_last_attempt_changes_nothing() -> None:
    """No policy is asked about a job without attempts: it is dead by its own error."""

    async def fail() -> None:
        raise OSError("no route")

    outcome = await run(fail, retry=_raises, max_attempts=1)

    assert isinstance(outcome, Dead)
    assert outcome.error is not None
    assert ("attempts", "no route") == (outcome.reason, outcome.error.message)


async def test_a_slip_in_a_policy_after_a_timeout_shows_both_errors() -> None:
    """Also the library's own TimeoutError is kept beside the policy's error."""
    error = await error_of(anyio.sleep_forever, timeout=0.01, retry=_raises)

    assert "no such policy" in error.traceback
    assert "timeout after 0.01 s" in error.traceback


async def test_a_slow_policy_does_not_count_against_the_timeout() -> None:
    """The time limit ends with the handler: a policy that takes its time is not cut off by it."""
    asked = asyncio.Event()

    async def slow(job: Job, error: BaseException) -> float:
        asked.set()
        with anyio.move_on_after(0.1):
            await anyio.sleep_forever()
        return 5

    async def fail() -> None:
        raise OSError("no route")

    outcome = await run(fail, retry=slow, timeout=0.03)

    assert asked.is_set()
    assert isinstance(outcome, Retried)
    assert 5 == outcome.delay


async def test_a_negative_delay_means_at_once() -> None:
    """A policy that computes a time in the past means now."""

    async def fail() -> None:
        raise OSError

    outcome = await run(fail, retry=lambda job, error: -5)

    assert isinstance(outcome, Retried)
    assert 0 == outcome.delay


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("plain"),
        SystemExit(2),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError("mine"),
        StopIteration(1),
        StopAsyncIteration(),
        RecursionError(),
        MemoryError(),
        Shock("own"),
        BaseExceptionGroup("several", [ValueError(), Shock()]),
    ],
    ids=lambda raised: type(raised).__name__,
)
async def test_whatever_a_handler_raises_is_a_failed_attempt(raised: BaseException) -> None:
    """S0-15: exceptions of any class cost the attempt and nothing else, in tasks and in threads."""

    async def fail() -> None:
        raise raised

    def fail_in_thread() -> None:
        raise raised

    first, second = await error_of(fail), await error_of(fail_in_thread)

    # A StopIteration cannot leave a coroutine as such: Python wraps it.
    assert type(raised).__name__ in first.traceback
    assert type(raised).__name__ in second.traceback


async def test_the_last_attempt_is_dead() -> None:
    """S4-09: a job has as many attempts as it was given; with one, the first failure is final."""

    async def fail() -> None:
        raise OSError

    kinds = [type(await run(fail, number=n, max_attempts=limit)) for n, limit in [(1, 1), (1, 2), (2, 2)]]

    assert [Dead, Retried, Dead] == kinds
