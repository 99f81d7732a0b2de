"""The interval of a share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.intervals import Z, wilson


def test_the_interval_of_a_share_is_wilsons():
    """The values of Wilson's interval for 18 of 24, 0 of 5, 5 of 5 and 95 of 100, and the unknown for 0 of 0."""
    assert wilson(18 / 24, 24) == pytest.approx((0.5510, 0.8800), abs=1e-4)
    assert wilson(0, 5) == pytest.approx((0.0, 0.4345), abs=1e-4)
    assert wilson(1, 5) == pytest.approx((0.5655, 1.0), abs=1e-4)
    assert wilson(0.95, 100) == pytest.approx((0.888, 0.978), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_its_ends_are_the_shares_that_the_count_is_just_compatible_with(counted):
    """Each end is 0, 1 or a share whose own standard error reaches exactly to what was counted."""
    hits, n = counted
    share = hits / n
    for end in wilson(share, n):
        assert end in (0.0, 1.0) or abs(share - end) == pytest.approx(Z * (end * (1 - end) / n) ** 0.5, abs=1e-7)
    low, high = wilson(share, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert low < high
