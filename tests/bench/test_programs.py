"""What is built on the bench: the smoke of the build, and the page about speed."""

from collections.abc import Mapping

import pytest

from jobqueue.bench.workloads import WORKLOADS
from tests.support.programs import speed
from tests.support.programs.bench_smoke import LEAST, TRIES, best_of, too_slow


def test_one_good_run_is_enough() -> None:
    """The best of the tries counts, and what was good is not measured again."""
    asked: list[list[str]] = []

    def measure(names: list[str]) -> Mapping[str, float]:
        asked.append(names)
        found = {"drain": 0.9, "bulk": 0.2 if len(asked) == 3 else 0.01}
        return {name: found[name] for name in names}

    assert {"drain": 0.9, "bulk": 0.2} == best_of(measure)
    assert [["drain", "bulk"], ["bulk"], ["bulk"]] == asked


def test_what_is_always_slow_fails() -> None:
    """After so many tries that are all far below, the verdict stands."""
    tries = 0

    def measure(names: list[str]) -> Mapping[str, float]:
        nonlocal tries
        tries += 1
        return {name: LEAST[name] - 0.01 for name in names}

    assert ["drain", "bulk"] == too_slow(best_of(measure))
    assert TRIES == tries


def test_only_what_was_measured_is_replaced() -> None:
    """The words by hand around the marks stay as they are, run after run."""
    page = f"# Words\n\n{speed.BEGIN}\n\n| old |\n\n{speed.END}\n\n| peers |\n"

    once = speed.spliced(page, "| new |\n")

    assert page.replace("old", "new") == once
    assert once == speed.spliced(once, "| new |")


@pytest.mark.parametrize("page", ["", speed.BEGIN, f"{speed.END}{speed.BEGIN}", f"{speed.BEGIN}{speed.END}" * 2])
def test_a_page_without_its_marks_is_left_alone(page: str) -> None:
    """Where nothing says what was measured, nothing is replaced."""
    with pytest.raises(ValueError, match="must stand there once"):
        speed.spliced(page, "| new |")


def test_the_page_shows_every_measurement() -> None:
    """docs/speed.md was written by this bench: each line of each measurement stands in its tables."""
    page = speed.SPEED.read_text(encoding="utf-8")
    measured = page.partition(speed.BEGIN)[2].partition(speed.END)[0]

    assert [] == [line for workload in WORKLOADS for line in workload.lines if f"| {line} |" not in measured]
