"""How `bench` puts figures into lines."""

import pytest

from jobqueue.bench.figures import Cost, Row, Sample, Series
from jobqueue.bench.workloads import WORKLOADS
from jobqueue.cli.bench.documents import Findings, as_markdown, durability, figure
from jobqueue.cli.bench.table import cost_line, line

SETTINGS = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "cores": "2"}


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [(None, "/s", "..."), (1234567.8, "/s", "1 234 568 /s"), (99.994, "ms", "99.99 ms"), (0.004, "ms", "0.00 ms"),
     (100.0, "ms", "100 ms")],
)  # fmt: skip
def test_figures_are_short(value: float | None, unit: str, said: str) -> None:
    """Large ones are whole, with their thousands apart, small ones have two places."""
    assert said == figure(value, unit)


def test_every_row_fits() -> None:
    """With the largest figures that there may be, no row of any measurement is wider than 80 columns."""
    rows = [Row(what, "/s", 12_345_678.0, 12_345_678.0) for workload in WORKLOADS for what in workload.lines]
    costs = Cost(9.876, 12_345.0, 99.99)

    assert max(len(line(row)) for row in rows) <= 80
    assert max(len(cost_line(row.what, costs, costs)) for row in rows) <= 80
    assert ["drain", "2", "000", "/s", "..."] == line(Row("drain", "/s", 2000.0, None)).split()
    assert ["drain", "0.050", "0.010", "60", "30", "-", "0.25"] == cost_line(
        "drain", Cost(0.05, 60, None), Cost(0.01, 30, 0.25)
    ).split()


@pytest.mark.parametrize(
    ("changed", "said"),
    [({}, "Durable, on both sides"), ({"synchronous_commit": "local"}, "Durable, on both sides"),
     ({"fsync": "off"}, "Not durable"), ({"synchronous_commit": "off"}, "Not durable"),
     ({"full_page_writes": "off"}, "Not durable")],
)  # fmt: skip
def test_it_says_what_a_commit_is_worth(changed: dict[str, str], said: str) -> None:
    """Figures of a server that may lose what was committed are marked as such."""
    assert said in durability(SETTINGS | changed)


def test_markdown_has_a_table_for_each_comparison() -> None:
    """What stands beside the raw limit and what beside our own drain are two tables; settings follow."""
    sample = [Sample((2.0,))]
    series = [
        Series("drain", ("drain",), "/s", "raw limit", sample, [Sample((4.0,))]),
        Series("history", ("history",), "/s", "empty table", sample, sample),
    ]

    text = as_markdown(Findings("postgresql://h/d", 5000, 3, SETTINGS, series))

    assert [
        "| what | ours | raw limit | ratio |", "|---|---:|---:|---:|", "| drain | 2.00 /s | 4.00 /s | 0.50 |", "",
        "| what | ours | empty table | ratio |", "|---|---:|---:|---:|", "| history | 2.00 /s | 2.00 /s | 1.00 |", "",
    ] == text.splitlines()[:8]  # fmt: skip
    assert "5 000 jobs, median of 3." in text
    assert "postgresql://" not in text
