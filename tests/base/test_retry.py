"""When a failed job runs again."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import Job, JobState
from jobqueue.base.retry import DEFAULT_RETRY, Backoff, RetryPolicy, exponential, linear, steps

ERROR = ValueError("boom")


def failed(attempt: int) -> Job:
    """A job whose given attempt has just failed."""
    now = datetime.now(UTC)
    return Job(
        id=UUID(int=1),
        task="t",
        queue="q",
        state=JobState.RUNNING,
        priority=0,
        attempt=attempt,
        max_attempts=20,
        crashes=0,
        lost=0,
        due_at=now,
        created_at=now,
    )


def delays(policy: RetryPolicy, attempts: int) -> list[object]:
    return [policy(failed(attempt), ERROR) for attempt in range(1, attempts + 1)]


def test_exponential_doubles_up_to_its_cap() -> None:
    """S1-14, S2-20: Each delay is the one before times the factor, until the cap."""
    assert [2, 4, 8, 16, 20, 20] == delays(exponential(first=2, factor=2, cap=20, jitter=0), 6)


def test_linear_adds_a_step() -> None:
    """S1-14: Each delay is one step longer, until the cap."""
    assert [1, 6, 11, 15, 15] == delays(linear(first=1, step=5, cap=15, jitter=0), 5)


def test_steps_repeat_the_last() -> None:
    """S3-09: The given delays in turn, then the last one for ever."""
    assert [0, 30, 300, 300] == delays(steps(0, 30, 300), 4)


def test_the_default_takes_about_nine_hours() -> None:
    """Twenty attempts of the default policy spread over eight to ten hours."""
    assert isinstance(DEFAULT_RETRY, Backoff)
    without_jitter = Backoff(DEFAULT_RETRY.first, DEFAULT_RETRY.factor, DEFAULT_RETRY.step, DEFAULT_RETRY.cap, 0)

    assert 8 * 3600 < sum(without_jitter(failed(attempt), ERROR) for attempt in range(1, 20)) < 10 * 3600


@given(
    st.integers(1, 32_767),
    st.floats(0, 1e6),
    st.floats(1, 1e300),
    st.floats(0, 1e6),
    st.floats(0, 0.99),
)
def test_a_delay_stays_within_cap_and_jitter(
    attempt: int, first: float, factor: float, cap: float, jitter: float
) -> None:
    """Whatever the numbers, a delay is between 0 and the cap plus its jitter: no overflow, no negative delay."""
    delay = exponential(first, factor, cap, jitter)(failed(attempt), ERROR)

    assert 0 <= delay <= cap * (1 + jitter) * 1.000001


def test_jitter_spreads() -> None:
    """Jobs that failed together do not come back together."""
    policy = exponential(first=100, jitter=0.2)
    found = {policy(failed(1), ERROR) for _ in range(50)}

    assert len(found) > 40
    assert all(80 <= delay <= 120 for delay in found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: exponential(first=-1),
        lambda: exponential(first=float("nan")),
        lambda: exponential(factor=0.5),
        lambda: exponential(factor=float("inf")),
        lambda: exponential(factor="2"),  # type: ignore[arg-type]
        lambda: exponential(jitter=None),  # type: ignore[arg-type]
        lambda: exponential(cap=-1),
        lambda: exponential(jitter=1),
        lambda: exponential(jitter=-0.1),
        lambda: linear(step=-1),
        lambda: steps(),
        lambda: steps(1, -1),
        lambda: steps(float("nan")),
    ],
)
def test_policies_without_sense_are_refused(make: RetryPolicy) -> None:
    """A policy that could go back in time, or nowhere, is refused when it is made."""
    with pytest.raises(ConfigurationError, match="retry"):
        make()  # type: ignore[call-arg]
