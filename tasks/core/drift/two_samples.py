"""Two samples of a figure: are they of one distribution? Kolmogorov-Smirnov and PSI, for frames that are independent.

Frames may carry weights, as those of a traffic log do (1 / rate). What counts as n is then Kish's effective size,
(sum w)^2 / sum w^2. Frames of a video are not independent: `permutation.py` is for those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_BINS = 10  # of PSI
FRAMES_A_BIN = 5  # at least, expected in the smaller sample: the rule of thumb for chi-square tests (Cochran 1954)
ROUNDING = 1e-12  # of cumulative shares
SMOOTHING = 0.5  # frames added to every bin, so that an empty one has a logarithm

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov:
    """statistic: the largest difference of the two cumulative shares. at: the value where it is found."""

    statistic: float
    p_value: float
    at: float


@dataclass(frozen=True, slots=True)
class StabilityIndex:
    """PSI, and the value that it exceeds with probability alpha when nothing changed."""

    statistic: float
    p_value: float
    critical: float
    bins: int


def kolmogorov_smirnov(
    reference: Floats, now: Floats, reference_weights: Floats | None = None, now_weights: Floats | None = None
) -> KolmogorovSmirnov:
    """The two-sided test of two samples of independent frames, (n,) and (m,) finite values.

    The p-value is Kolmogorov's limit with the correction of Stephens (1970, J. R. Stat. Soc. B 32) for finite samples;
    with ties it is too large rather than too small. Raises ValueError for an empty sample.
    """
    if not len(reference) or not len(now):
        raise ValueError("a sample is empty: two samples are needed")
    grid = np.unique(np.concatenate([reference, now]))
    gaps = cumulative(reference, reference_weights, grid) - cumulative(now, now_weights, grid)
    place = int(np.abs(gaps).argmax())
    statistic = float(abs(gaps[place]))
    n, m = effective_size(reference, reference_weights), effective_size(now, now_weights)
    root = math.sqrt(n * m / (n + m))
    return KolmogorovSmirnov(statistic, kolmogorov_tail((root + 0.12 + 0.11 / root) * statistic), float(grid[place]))


def stability_index(
    reference: Floats,
    now: Floats,
    reference_weights: Floats | None = None,
    now_weights: Floats | None = None,
    *,
    alpha: float = 0.01,
    bins: int | None = None,
) -> StabilityIndex:
    """The population stability index, sum (q - p) ln(q / p) over bins between the reference's quantiles.

    Where nothing changed it is distributed as chi2(bins - 1) * (1/n + 1/m) (Yurdakul and Naranjo 2020, J. Risk Model
    Validation 14(4)); the folklore that 0.1 is a shift knows no n. bins: at most so many, fewer where values are tied;
    none: as many as the smaller sample fills. Raises ValueError for an empty sample.
    """
    if not len(reference) or not len(now):
        raise ValueError("a sample is empty: two samples are needed")
    n, m = effective_size(reference, reference_weights), effective_size(now, now_weights)
    bins = bins or bins_for(min(n, m))
    grid = np.unique(np.concatenate([reference, now]))
    before = cumulative(reference, reference_weights, grid)
    edges = np.unique([int((before >= level - ROUNDING).argmax()) for level in np.arange(1, bins) / bins])
    edges = edges[edges < len(grid) - 1]
    p = np.diff(np.concatenate([[0.0], before[edges], [1.0]]))
    q = np.diff(np.concatenate([[0.0], cumulative(now, now_weights, grid)[edges], [1.0]]))
    p, q = smoothed(p, min(n, m), len(p)), smoothed(q, min(n, m), len(q))
    statistic, scale = float(((q - p) * np.log(q / p)).sum()), 1 / n + 1 / m
    freedom = len(p) - 1
    if not freedom:  # one value only, in both
        return StabilityIndex(0.0, 1.0, 0.0, 1)
    return StabilityIndex(
        statistic, chi2_tail(statistic / scale, freedom), chi2_quantile(1 - alpha, freedom) * scale, len(p)
    )


def bins_for(frames: float) -> int:
    """PSI's bins for the smaller sample's size."""
    return int(min(MOST_BINS, max(2, frames // FRAMES_A_BIN)))


def smoothed(shares: Floats, frames: float, bins: int) -> Floats:
    """Shares of bins as if each held SMOOTHING frames more; a bin that is empty in both makes no difference."""
    return np.asarray((np.maximum(shares, 0) * frames + SMOOTHING) / (frames + SMOOTHING * bins), np.float64)


def effective_size(values: Floats, weights: Floats | None) -> float:
    """Kish's: how many equally weighted frames say as much."""
    if weights is None:
        return float(len(values))
    return float(weights.sum() ** 2 / (weights**2).sum())


def cumulative(values: Floats, weights: Floats | None, grid: Floats) -> Floats:
    """The weighted share of `values` at or below each of the ascending `grid`."""
    order = np.argsort(values, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(np.ones(len(values)) if weights is None else weights[order])])
    return np.asarray(sums[np.searchsorted(values[order], grid, side="right")] / sums[-1], np.float64)


# --- distributions ---------------------------------------------------------------------------------------------------


def kolmogorov_tail(x: float) -> float:
    """P(K > x) of Kolmogorov's distribution.

    2 sum (-1)^(j-1) exp(-2 j^2 x^2), and for small x the same as a theta function, which converges there:
    1 - sqrt(2 pi) / x sum exp(-(2j - 1)^2 pi^2 / (8 x^2)) (Marsaglia, Tsang and Wang 2003, J. Stat. Software 8(18)).
    """
    if x <= 0:
        return 1.0
    j = np.arange(1, 21)
    if x < 1:
        return float(1 - math.sqrt(2 * math.pi) / x * np.exp(-((2 * j - 1) ** 2) * math.pi**2 / (8 * x * x)).sum())
    return float(2 * ((-1.0) ** (j - 1) * np.exp(-2 * j**2 * x * x)).sum())


def chi2_tail(x: float, freedom: int) -> float:
    """P(X > x) of chi-square: the regularised incomplete gamma function Q(freedom / 2, x / 2).

    By its series below freedom + 2 and by the continued fraction of Lentz above (Abramowitz and Stegun 6.5.29 and
    6.5.31, as in Numerical Recipes 6.2).
    """
    a, x = freedom / 2, x / 2
    if x <= 0:
        return 1.0
    scale = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, 1000):
            term *= x / (a + n)
            total += term
            if term < total * 1e-16:
                break
        return 1 - scale * total
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    fraction = d
    for n in range(1, 1000):
        an = -n * (n - a)
        b += 2
        d = 1 / (an * d + b or tiny)
        c = b + an / c or tiny
        fraction *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return scale * fraction


def chi2_quantile(probability: float, freedom: int) -> float:
    """The value that chi-square stays below with `probability`, in (0, 1).

    The tail falls steadily, so halving an interval that holds the value finds it to the last digits.
    """
    tail = 1 - probability
    high = 10.0 * freedom + 10.0
    while chi2_tail(high, freedom) > tail:
        high *= 2
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if chi2_tail(middle, freedom) > tail else (low, middle)
        if high - low <= 1e-13 * high:
            break
    return (low + high) / 2
