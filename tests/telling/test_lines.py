"""`jobs show`: what is said of a job in the line of a limit."""

from dataclasses import replace

import pytest

from jobqueue.store.looking.overview import InLine
from jobqueue.telling.lines import said_of_line, waits_at
from tests.cli.jobs.test_story import JOB

LINE = InLine("smtp\nacme", 12, "smtp", 3, 3, None)


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        (LINE, ["waits for limit smtp of acme, 12 before it", "3 of 3 places held"]),
        (replace(LINE, gate="smtp", before=0), ["waits for limit smtp, nobody before it", "3 of 3 places held"]),
        (replace(LINE, before=10_000, held=None), ["waits for limit smtp of acme, ~10000 before it"]),
        (
            replace(LINE, gate="~api", concurrency=None, held=0, next_in=2.5),
            ["waits for limit api, 12 before it", "the rate lets the next one start in 2 s"],
        ),
        (replace(LINE, gate="~api", concurrency=None, next_in=-1.0), ["waits for limit api, 12 before it"]),
        (
            replace(LINE, declared=None, concurrency=None, held=None),
            [
                "waits for limit smtp of acme, 12 before it",
                "no worker has declared this limit since it was deferred: start one with the code that has it",
            ],
        ),
        (
            replace(LINE, concurrency=0, held=1),
            [
                "waits for limit smtp of acme, 12 before it",
                "this limit is 0 now, so nothing begins: `limits set smtp --concurrency N` or `limits reset`",
            ],
        ),
        (
            InLine("~fair:mail\nacme", 3, None, None, None, None),
            ["waits for its turn in queue mail, as one of acme, 3 before it"],
        ),
    ],
)
def test_a_line_says_why_it_does_not_move(line: InLine, sentences: list[str]) -> None:
    """Which limit and key, how many are before, and what would have to happen."""
    assert sentences == list(said_of_line(line))


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        (None, ""),
        ("smtp", "waits for limit smtp"),
        ("~api\nacme", "waits for limit api of acme"),
        ("~fair:mail\nacme", "waits for its turn in queue mail, as one of acme"),
        ("schedule:\nnightly", "waits for its turn in schedule nightly"),
    ],
)
def test_a_list_says_it_in_a_few_words(gate: str | None, told: str) -> None:
    """Empty for a job that waits at no gate."""
    assert told == waits_at(replace(JOB, waits_for=gate))
