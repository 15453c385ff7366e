"""The line of jobs that are claimed ahead: how many are worth it, and when the next claim is due."""

import asyncio
from typing import Any

import pytest

from jobqueue.worker.slots.line import AHEAD, Line
from tests.support.waiting import wait_until


async def test_a_long_line_of_slow_jobs_is_no_reason_to_wait() -> None:
    """A line that is long for the seats of a batch, in a worker of slow jobs, puts no claim off for long."""
    line = Line(None, give_back=lambda hold: None, held_up=lambda: None)
    for place in range(99):
        line.join(any_hold(place))
    line.one_ended()

    def has_pace() -> bool:
        line.measure()
        return line.lasts > 0

    await wait_until(has_pace, "a pace was measured")
    assert line.lasts <= AHEAD / 4


async def test_what_is_claimed_ahead_follows_the_pace() -> None:
    """Quick jobs are claimed ahead, none of slow ones is; as many as the settings say, if they do."""
    line = Line(None, give_back=lambda hold: None, held_up=lambda: None)

    def quick() -> bool:
        for _ in range(1_000):
            line.one_ended()
        line.measure()
        return line.ahead > 0

    def slow() -> bool:
        line.measure()
        return line.ahead == 0

    await wait_until(quick, "quick jobs are claimed ahead")
    await wait_until(slow, "none is any more")
    assert 7 == Line(7, give_back=lambda hold: None, held_up=lambda: None).ahead


async def test_jobs_that_end_together_are_no_faster_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred jobs of 50 ms that began at once end at once: no more is claimed ahead than is soon begun."""
    line, clock = Line(None, give_back=lambda hold: None, held_up=lambda: None), 1_000.0
    loop = asyncio.get_running_loop()
    most = 0
    for step in range(400):
        clock += 0.005
        monkeypatch.setattr(loop, "time", lambda: clock)  # noqa: B023 - read at once
        for _ in range(100 if step % 10 == 0 else 0):
            line.one_ended()
        line.measure()
        most = max(most, line.ahead)
    monkeypatch.undo()

    assert 0 < most <= 2 * AHEAD * 2_000


def any_hold(place: int) -> Any:
    return place
