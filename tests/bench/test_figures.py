"""Medians, ratios and percentiles of what was measured."""

import pytest

from jobqueue.bench.figures import Cost, Row, Sample, Series, percentile
from jobqueue.bench.side import Load


def test_a_row_has_medians_and_their_ratio() -> None:
    """One slow run of three changes nothing; the ratio is that of the medians."""
    series = Series("drain", ("drain",), "/s", "raw limit")
    series.ours += [Sample((200.0,)), Sample((10.0,)), Sample((250.0,))]
    series.beside += [Sample((400.0,)), Sample((900.0,)), Sample((100.0,))]

    assert [Row("drain", "/s", 200.0, 400.0)] == series.rows
    assert 0.5 == series.rows[0].ratio


def test_each_line_has_its_own_value() -> None:
    """A measurement of three lines gives three rows, in their order."""
    series = Series("latency", ("p50", "p90"), "ms", "raw limit", [Sample((1.0, 2.0))], [Sample((4.0, 5.0))])

    assert [("p50", 0.25), ("p90", 0.4)] == [(row.what, row.ratio) for row in series.rows]


@pytest.mark.parametrize(("ours", "beside"), [(None, 1.0), (1.0, None), (1.0, 0.0)])
def test_what_was_not_measured_has_no_ratio(ours: float | None, beside: float | None) -> None:
    """As long as one side is missing there is no ratio, and no error either."""
    assert None is Row("drain", "/s", ours, beside).ratio


@pytest.mark.parametrize(("share", "value"), [(0.5, 5), (0.9, 9), (0.99, 10), (0.0, 1), (1.0, 10)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    """Of ten values the ninetieth percentile is the ninth."""
    assert value == percentile([3, 1, 2, 10, 9, 8, 7, 6, 5, 4], share)


def test_nothing_has_no_percentile() -> None:
    """No values are an error, and no zero."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_costs_are_medians_too() -> None:
    """A start counts only where jobs were waiting for it; without any cost there is none."""
    costs = [Cost(0.1, 50.0, None), Cost(0.3, 70.0, 0.5), Cost(0.2, 60.0, None)]

    assert Cost(0.2, 60.0, 0.5) == Cost.middle(costs)
    assert None is Cost.middle([])


def test_the_last_job_has_the_lowest_priority() -> None:
    """Whoever waits for the job that was stored last has waited for all, and each priority has its share."""
    load = Load(12, priorities=5)

    priorities = [load.priority(number) for number in range(12)]

    assert 0 == priorities[-1] == min(priorities)
    assert {0: 3, 1: 3, 2: 2, 3: 2, 4: 2} == {number: priorities.count(number) for number in range(5)}
