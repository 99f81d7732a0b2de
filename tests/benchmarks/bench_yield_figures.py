"""What the rules came to over all stream orders, and how sure that is.

An image counts with the probability q that a rule keeps it, so that no luck of a draw is in the figures:

    yield           sum(q * has a miss) / sum(q)          misses an image    sum(q * misses) / sum(q)
    coverage        sum(q * misses) / sum(misses)         misses a box       sum(q * misses) / sum(q * ground truths)
    spent           sum(q) / (budget's share * images)

Sums run over all orders. Orders are drawn from one set, so they are not independent: the intervals come from drawing
the set's clusters with replacement, whatever part of an order they were in. Two rules are compared in the same draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tasks.core.bootstrap import Bootstrap, cluster_bootstrap, percentile_interval, ratio
from tasks.core.entities import Estimate
from tasks.core.matching import Floats
from tests.benchmarks.bench_yield_contenders import Keeps, Known, Part
from tests.benchmarks.bench_yield_sets import LabelledSet

# Columns of what is summed for each image.
KEPT, WITH_MISS, MISSES, BOXES = range(4)
ALL_MISSES, WANTED = range(4, 6)
COLUMNS = 6

RATIOS: Mapping[str, tuple[int, int]] = {
    "yield": (WITH_MISS, KEPT),
    "misses an image": (MISSES, KEPT),
    "misses a box": (MISSES, BOXES),
    "coverage": (MISSES, ALL_MISSES),
    "spent": (KEPT, WANTED),
}


@dataclass
class Sums:
    """What a rule kept at one budget: by image, summed over the orders, and its spend order by order."""

    by_image: Floats  # (images of the set, COLUMNS)
    spent: list[float]

    @classmethod
    def of(cls, labelled: LabelledSet) -> Sums:
        return cls(np.zeros((len(labelled.results), COLUMNS)), [])

    def add(self, known: Known, stream: Part, keeps: Keeps, share: float) -> None:
        q, misses = keeps(stream), known.misses(stream)
        each = (q, q * (misses > 0), q * misses, q * stream.boxes, misses, np.full(len(q), share))
        self.by_image[stream.rows] += np.stack(each, axis=1)
        self.spent.append(float(q.sum() / (share * len(q))))


class Figures:
    """Figures of rules at one budget, with 95% intervals, and of how they differ."""

    def __init__(self, labelled: LabelledSet, sums: Mapping[str, Sums], *, replicates: int = 1000) -> None:
        self._bootstrap: Bootstrap = cluster_bootstrap(labelled.clusters, replicates=replicates)
        self._sums = sums
        self._drawn = {name: self._replicates(one) for name, one in sums.items()}

    def of(self, rule: str, figure: str) -> Estimate:
        return _estimate(self._values(rule, figure))

    def times(self, rule: str, other: str, figure: str) -> Estimate:
        """How many times the other's figure the rule has."""
        return _estimate(self._values(rule, figure) / self._values(other, figure))

    def more(self, rule: str, other: str, figure: str) -> Estimate:
        """By how much the rule's figure is higher than the other's."""
        return _estimate(self._values(rule, figure) - self._values(other, figure))

    def spread(self, rule: str) -> tuple[float, float]:
        """Between which values 95 of 100 orders spent, as multiples of the budget."""
        low, high = np.percentile(self._sums[rule].spent, (2.5, 97.5))
        return float(low), float(high)

    def _values(self, rule: str, figure: str) -> Floats:
        """The figure itself, then its replicates."""
        above, below = RATIOS[figure]
        totals = np.vstack([self._sums[rule].by_image.sum(axis=0), self._drawn[rule]])
        return np.asarray(ratio(totals[:, above], totals[:, below]))

    def _replicates(self, sums: Sums) -> Floats:
        by_unit = self._bootstrap.sums(*sums.by_image.T)
        # In the order of the units and not of their figures: rules are compared in the same draws.
        return np.asarray(self._bootstrap.draws.astype(np.float64) @ by_unit)


def _estimate(values: Floats) -> Estimate:
    low, high = percentile_interval(values[1:]) or (np.nan, np.nan)
    return Estimate(value=float(values[0]), low=low, high=high)


# --- forecasts -------------------------------------------------------------------------------------------------------

BASE_RATE = "base rate"  # the forecast that the chosen images are like random ones
ALPHA = 0.05  # of the forecasts' 95% intervals


@dataclass
class ForecastRecord:
    """A figure's forecasts and what came true, order by order."""

    intervals: list[tuple[float, float]] = field(default_factory=list)
    truth: list[float] = field(default_factory=list)

    def add(self, forecast: Estimate, truth: float) -> None:
        self.intervals.append((forecast.low, forecast.high))
        self.truth.append(truth)

    @property
    def days(self) -> int:
        return len(self.truth)

    @property
    def held(self) -> int:
        """In how many orders the interval held what came true."""
        return sum(low <= truth <= high for (low, high), truth in zip(self.intervals, self.truth))

    @property
    def width(self) -> float:
        return float(np.mean([high - low for low, high in self.intervals]))

    def scores(self) -> Floats:
        """(days,) interval scores."""
        return interval_scores(np.array(self.intervals), np.array(self.truth))


def interval_scores(intervals: Floats, truth: Floats) -> Floats:
    """(n,) the width, and 2 / alpha for each unit that the truth lies outside (Gneiting & Raftery 2007).

    intervals: (n, 2) low and high. truth: (n,).
    """
    low, high = intervals.T
    outside = (low - truth).clip(min=0) + (truth - high).clip(min=0)
    return np.asarray(high - low + 2 / ALPHA * outside)


def mean_of_orders(values: Floats, replicates: int = 1000) -> Estimate:
    """The mean over orders, with an interval from drawing orders."""
    random = np.random.default_rng(0)
    drawn = values[random.integers(0, len(values), (replicates, len(values)))].mean(axis=1)
    return _estimate(np.append(values.mean(), drawn))
