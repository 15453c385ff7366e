"""The arithmetic of histograms: what is kept of them, what they add up to, and which percentiles they give."""

from bisect import bisect_left
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.base.looking.history import BOUNDS, added, quantile, trimmed

BUCKETS = st.lists(st.integers(0, 10**9), max_size=len(BOUNDS) + 1)
SHARES = st.floats(0, 1)


def full(buckets: list[int]) -> list[int]:
    return buckets + [0] * (len(BOUNDS) + 1 - len(buckets))


@given(BUCKETS)
def test_what_is_cut_off_is_zeros(buckets: list[int]) -> None:
    """Only zeros at the end are left out, all of them."""
    kept = trimmed(buckets)
    assert full(buckets) == full(kept)
    assert not kept or kept[-1]


@given(st.lists(BUCKETS, max_size=5))
def test_histograms_add_up_place_by_place(all_of_them: list[list[int]]) -> None:
    """However long each is."""
    sums = [sum(column) for column in zip(*map(full, all_of_them), strict=True)]
    assert full(sums) == full(added(all_of_them))


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=50), SHARES)
def test_a_percentile_lies_in_the_bucket_of_the_one_at_its_rank(seconds: list[float], share: float) -> None:
    """No worse than the width of a bucket, whatever the numbers are."""
    buckets = full([])
    for each in seconds:
        buckets[bisect_left(BOUNDS, each)] += 1
    exact = sorted(seconds)[max(1, ceil(share * len(seconds))) - 1]
    found = quantile(buckets, share)
    place = bisect_left(BOUNDS, exact)
    assert found is not None
    assert (0.0, *BOUNDS)[place] <= found <= (*BOUNDS, BOUNDS[-1])[place]


@given(BUCKETS, SHARES, SHARES)
def test_percentiles_rise_with_their_share(buckets: list[int], one: float, other: float) -> None:
    """A larger share never lies lower; an empty histogram has none at all."""
    low, high = quantile(buckets, min(one, other)), quantile(buckets, max(one, other))
    if not any(buckets):
        assert (None, None) == (low, high)
    else:
        assert low is not None
        assert high is not None
        assert 0 <= low <= high <= BOUNDS[-1]


@pytest.mark.parametrize(
    ("buckets", "share", "seconds"),
    [
        ([0, 0, 4], 0.5, 0.0175),
        ([10], 0.5, 0.0025),
        ([5, 5], 0.5, 0.005),
        ([5, 5], 0.75, 0.0075),
        ([0] * 16 + [3], 0.5, 3600.0),
        ([1] + [0] * 15 + [3], 0.95, 3600.0),
        ([-4, 2], 1.0, 0.01),
    ],
)
def test_inside_a_bucket_it_is_interpolated(buckets: list[int], share: float, seconds: float) -> None:
    """Evenly; of the last one only its lower bound is known; what cannot be there counts as nothing."""
    assert seconds == pytest.approx(quantile(buckets, share))
