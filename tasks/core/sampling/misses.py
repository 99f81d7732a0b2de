"""How many objects has the model missed in a frame, as far as its own detections tell?

    m(x) = sum over detections with confidence_floor <= s < threshold[c] of w[c, bin(s)]

The weights are the share of detections of a class and confidence bin that turned out to be real objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.settings import DEFAULT_THRESHOLD, ExpectedMisses, SamplingSettings

DIGITS = 6  # of m(x): sums in another order differ by less, and must not miss a tie


class MissWeights:
    """The weights of a strategy, laid out for one list of class names."""

    def __init__(self, strategy: ExpectedMisses, settings: SamplingSettings, class_names: Sequence[str]) -> None:
        self._floor = settings.confidence_floor
        self._bins = np.array(strategy.bins)
        self._thresholds = np.array([settings.thresholds.get(name, DEFAULT_THRESHOLD) for name in class_names])
        # The first column is for what lies below the first bin, and a class without weights has 0 in all of them.
        self._weights = np.zeros((len(class_names), len(strategy.bins) + 1))
        for class_id, name in enumerate(class_names):
            self._weights[class_id, 1:] = strategy.weights.get(name, 0.0)

    def of(self, confidence: NDArray[np.float64], class_id: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) what each detection adds to the expected misses of its frame; 0 for one that counts as a detection."""
        weights = self._weights[class_id, np.searchsorted(self._bins, confidence, side="right")]
        weights[(confidence >= self._thresholds[class_id]) | (confidence < self._floor)] = 0.0
        return weights


def total(weights: NDArray[np.float64]) -> float:
    return round(float(weights.sum()), DIGITS)
