"""Intervals from a bootstrap over clusters, never over boxes.

Images of the same camera and hour resemble each other, and boxes of the same image even more: drawing boxes would
pretend to more evidence than there is. So whole clusters are drawn, with replacement, and every figure is computed anew
from the sums over the drawn clusters. Where there are fewer than 20 clusters, images are drawn instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

REPLICATES = 1000
MINIMUM_CLUSTERS = 20
COVERAGE = (2.5, 97.5)  # percentiles of a 95% interval

DIGITS = 9  # beyond them, a sum depends on the order of its summands

UNKNOWN = (0.0, 1.0)  # the interval of a share of which nothing is known

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Which unit each image belongs to, and how often each replicate draws each unit.

    unit_of_image: (images,) from 0 to units - 1. draws: (replicates, units) float32 whole numbers, each row sums to
    `units`.
    """

    unit: Literal["cluster", "image"]
    clusters: int
    unit_of_image: NDArray[np.int64]
    draws: NDArray[np.float32]

    @property
    def units(self) -> int:
        return int(self.draws.shape[1])

    def sums(self, *columns: NDArray[Any]) -> Floats:
        """Columns of one figure an image, (images,) each, summed by unit: (units, columns)."""
        return np.stack([np.bincount(self.unit_of_image, column, self.units) for column in columns], axis=1)

    def replicates(self, sums: Floats) -> Floats:
        """(units, columns) sums by unit to (replicates, columns): their totals over the units that were drawn.

        Units with equal figures are interchangeable, so the draws are dealt to the units in the order of their
        figures. Then the order in which images came in changes nothing. Units of zeros add nothing and are left out.
        """
        order = np.lexsort(np.round(sums, DIGITS).T)
        order = order[sums[order].any(axis=1)]
        return np.asarray(self.draws[:, : len(order)] @ sums[order].astype(np.float32), np.float64)


def cluster_bootstrap(clusters: Sequence[str], *, replicates: int = REPLICATES, seed: int = 0) -> Bootstrap:
    """A bootstrap of images whose clusters are given, one name an image."""
    names, unit_of_image = np.unique(np.asarray(clusters, np.str_), return_inverse=True)
    if len(names) >= MINIMUM_CLUSTERS:
        return Bootstrap("cluster", len(names), unit_of_image, _draws(len(names), replicates, seed))
    return Bootstrap("image", len(names), np.arange(len(clusters)), _draws(len(clusters), replicates, seed))


def percentile_interval(values: Floats) -> tuple[float, float] | None:
    """The 95% interval of replicates; those that are nan do not count, and None when none is left."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, COVERAGE)
    return float(low), float(high)


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Elementwise; nan where the denominator is 0."""
    result = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


def _draws(units: int, replicates: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    draws = np.zeros((replicates, units), np.float32)
    for replicate in draws:
        replicate[:] = np.bincount(random.integers(0, units, units), minlength=units) if units else 0
    return draws
