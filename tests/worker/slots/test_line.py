"""The line of jobs that are claimed ahead: how many are worth it, and when the next claim is due."""

from typing import Any

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


def any_hold(place: int) -> Any:
    return place
