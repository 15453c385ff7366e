"""How many rows go into one statement."""

import pytest

from jobqueue.store.connection.joined import chunks


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1], [(0, 1)]),
        ([1, 1, 1], [(0, 3)]),
        ([1, 1, 1, 1], [(0, 3), (3, 4)]),
        ([6, 5, 5, 1], [(0, 1), (1, 3), (3, 4)]),
        ([99, 1, 99], [(0, 1), (1, 2), (2, 3)]),
        ([0, 0, 0, 0], [(0, 3), (3, 4)]),
    ],
)
def test_chunks_are_bounded_in_rows_and_bytes(sizes: list[int], expected: list[tuple[int, int]]) -> None:
    """At most three rows and ten bytes a chunk here; a row that is too large alone goes alone."""
    assert expected == [(cut.start, cut.stop) for cut in chunks(sizes, 3, 10)]
