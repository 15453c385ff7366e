"""Attempts on a line of time."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.web.dashboard.showing.timeline import Run, Step, timeline

START = datetime(2026, 5, 4, 3, 2, 0, tzinfo=UTC)
MOMENTS = st.floats(-1e9, 1e9).map(lambda seconds: START + timedelta(seconds=seconds))


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_an_attempt_waits_runs_and_fails() -> None:
    """In percent of the whole, and in words for who cannot see it."""
    drawn = timeline([Run("attempt 1", START, after(50), after(75), "failed")], [], START, after(100))
    (row,) = drawn.rows
    assert ["waits", "runs", "fails"] == [bar.kind for bar in row.bars]
    assert [(0, 50), (50, 25)] == [(bar.x, bar.width) for bar in row.bars[:2]]
    assert 75 == row.bars[2].x + row.bars[2].width
    assert "attempt 1: waited 50\u202fs, ran 25\u202fs, failed" == row.words


def test_what_took_no_time_can_be_seen() -> None:
    """The mark of the failure stands behind it, not upon it."""
    (row,) = timeline([Run("attempt 1", None, after(10), after(10), "failed")], [], START, after(1e6)).rows
    runs, fails = row.bars
    assert runs.width > 0
    assert fails.x >= runs.x + runs.width - 0.001


def test_a_phase_that_goes_on_reaches_to_the_end() -> None:
    """It has a row of its own."""
    (row,) = timeline([], [Step("pay", after(20), None)], START, after(100)).rows
    assert (20, 80, True) == (row.bars[0].x, row.bars[0].width, row.phase)


def test_round_moments_stand_between_the_ends() -> None:
    """A few, and none that would touch these."""
    ticks = timeline([], [], START, after(480)).ticks
    assert [START, after(120), after(240), after(360), after(480)] == [tick.at for tick in ticks]
    assert ["start", "middle", "middle", "middle", "end"] == [tick.anchor for tick in ticks]
    assert [START, after(290)] == [tick.at for tick in timeline([], [], START, after(290)).ticks if tick.x in (0, 100)]
    assert 2 == len(timeline([], [], START, after(0.5)).ticks)


@given(
    st.lists(st.tuples(st.none() | MOMENTS, st.none() | MOMENTS, st.none() | MOMENTS)),
    st.lists(st.tuples(MOMENTS, st.none() | MOMENTS)),
    MOMENTS,
    MOMENTS,
)
def test_nothing_leaves_the_picture(
    runs: list[tuple[datetime | None, datetime | None, datetime | None]],
    steps: list[tuple[datetime, datetime | None]],
    since: datetime,
    until: datetime,
) -> None:
    """Whatever clocks have said, or plain SQL has stored."""
    drawn = timeline(
        [Run("attempt", *moments, "failed") for moments in runs], [Step("step", *each) for each in steps], since, until
    )
    for row in drawn.rows:
        assert all(0 <= bar.x and bar.x + bar.width <= 100.001 for bar in row.bars)
    assert len(drawn.ticks) <= 8
    assert all(0 <= tick.x <= 100 for tick in drawn.ticks)
