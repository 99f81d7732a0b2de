"""The plain tests for independent frames: against scipy, against slow references, and against their promises."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.drift import (
    chi2_quantile,
    chi2_tail,
    kolmogorov_smirnov,
    kolmogorov_tail,
    stability_index,
)

values = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


def slow_ks(a, b, wa, wb):
    """The definition, value by value."""
    return max(
        abs(
            sum(w for x, w in zip(a, wa) if x <= value) / sum(wa)
            - sum(w for x, w in zip(b, wb) if x <= value) / sum(wb)
        )
        for value in [*a, *b]
    )


@given(values, values, st.integers(0, 2**31))
def test_the_statistic_is_the_largest_difference_of_weighted_shares(a, b, seed):
    """Weighted or not, tied or not, it is what the definition says."""
    random = np.random.default_rng(seed)
    wa, wb = random.uniform(1, 9, len(a)), random.uniform(1, 9, len(b))
    found = kolmogorov_smirnov(np.array(a), np.array(b), wa, wb)
    assert found.statistic == pytest.approx(slow_ks(a, b, wa, wb), abs=1e-12)
    assert found.at in {*a, *b}
    assert 0 <= found.p_value <= 1


@given(values, values)
def test_the_order_of_frames_and_an_increasing_scale_change_nothing(a, b):
    """The statistic knows ranks alone."""
    found = kolmogorov_smirnov(np.array(a), np.array(b))
    other = kolmogorov_smirnov(np.exp(np.array(a[::-1])), np.exp(np.array(b[::-1])))
    assert (found.statistic, found.p_value) == pytest.approx((other.statistic, other.p_value))


def test_distributions_agree_with_scipy():
    """Kolmogorov's tail to 1e-12 and chi-square's tail and quantile to 1e-10 relative, far into the tails."""
    special = pytest.importorskip("scipy.special")
    for x in np.linspace(0.05, 4, 80):
        assert kolmogorov_tail(float(x)) == pytest.approx(special.kolmogorov(x), rel=1e-9, abs=1e-12)
    for freedom in (1, 2, 3, 9, 19, 100):
        for x in (0.01, 0.5, 1, 5, 20, 80, 200):
            assert chi2_tail(x, freedom) == pytest.approx(special.chdtrc(freedom, x), rel=1e-9, abs=1e-14)
        for p in (0.001, 0.5, 0.95, 0.99, 0.9999):
            assert chi2_quantile(p, freedom) == pytest.approx(special.chdtri(freedom, 1 - p), rel=1e-9)


def exact_p_value(statistic: float, n: int, m: int) -> float:
    """The share of all orders of n and m frames whose statistic is as large, by counting paths (Hodges 1958)."""
    inside = np.zeros((n + 1, m + 1))  # share of the paths to (i, j) that never went so far
    for i in range(n + 1):
        for j in range(m + 1):
            if abs(i / n - j / m) >= statistic - 1e-9:
                continue
            come = (inside[i - 1, j] * i if i else 0.0) + (inside[i, j - 1] * j if j else 0.0)
            inside[i, j] = come / (i + j) if i + j else 1.0
    return 1 - float(inside[n, m])


def test_p_values_are_close_to_the_exact_ones():
    """Within 15% of the exact p-values wherever they are small enough to matter."""
    random = np.random.default_rng(1)
    compared = 0
    for shift in (0.0, 0.3, 0.6, 1.0):
        for n, m in ((101, 60), (150, 79), (97, 90)):
            a, b = random.standard_normal(n), random.standard_normal(m) + shift
            exact = exact_p_value(kolmogorov_smirnov(a, b).statistic, n, m)
            if 1e-6 < exact < 0.2:
                compared += 1
                assert kolmogorov_smirnov(a, b).p_value == pytest.approx(exact, rel=0.15)
    assert compared >= 4


def test_psi_is_what_its_definition_says():
    """By hand: 100 frames in 4 equal bins, now 40, 30, 20, 10; half a frame is added to each bin."""
    reference = np.repeat([1.0, 2.0, 3.0, 4.0], 25)
    now = np.repeat([1.0, 2.0, 3.0, 4.0], [40, 30, 20, 10])
    expected = sum(
        (q - p) * math.log(q / p) for p, q in zip([25.5 / 102] * 4, [c / 102 for c in (40.5, 30.5, 20.5, 10.5)])
    )
    found = stability_index(reference, now, bins=4, alpha=0.05)
    assert (found.statistic, found.bins) == (pytest.approx(expected), 4)
    assert found.critical == pytest.approx(7.814727903 * (1 / 100 + 1 / 100))


def test_one_single_value_cannot_change():
    """Frames that are all alike, as those of an empty yard, give p = 1 and no division by zero."""
    found = stability_index(np.zeros(80), np.zeros(90))
    assert (found.statistic, found.p_value, found.bins) == (0.0, 1.0, 1)
    assert kolmogorov_smirnov(np.zeros(80), np.zeros(90)).p_value == 1.0


def test_an_empty_sample_is_refused():
    """Nothing can be compared with nothing."""
    for test in (kolmogorov_smirnov, stability_index):
        with pytest.raises(ValueError, match="two samples"):
            test(np.array([]), np.array([1.0]))


def test_psi_above_a_tenth_is_no_sign_of_drift_and_its_own_critical_value_is():
    """Nothing changed, 100 frames: PSI > 0.1 alarms in 3 of 4 windows, the critical value at 1% in at most 2%."""
    random = np.random.default_rng(5)
    folklore = own = 0
    for _ in range(400):
        reference, now = random.random(100), random.random(100)
        found = stability_index(reference, now, alpha=0.01, bins=10)
        folklore += found.statistic > 0.1
        own += found.statistic > found.critical
    assert folklore > 300
    assert own <= 8


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_weights_say_how_many_frames_a_record_stands_for(seed):
    """Records thinned with a known rate and weighted by 1 / rate have the statistic of all frames, but for chance."""
    random = np.random.default_rng(seed)
    frames = random.random(4000)
    rate = np.where(frames < 0.5, 0.2, 0.8)
    logged = random.random(4000) < rate
    weighted = kolmogorov_smirnov(frames, frames[logged], None, 1 / rate[logged]).statistic
    assert weighted < 0.07
    assert kolmogorov_smirnov(frames, frames[logged]).statistic > 0.2
