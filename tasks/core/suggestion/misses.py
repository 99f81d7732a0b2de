"""The frames in which most objects are expected to be missed: how many misses must be expected for one to be kept?

With b the budget's share of all frames, the minimum is the (1 - b(1 - exploration)) quantile of m(x) over the traffic.
A frame is kept above the minimum, at it with the probability that makes up the rest, and never at m = 0: where fewer
frames have a doubtful detection than the budget pays for, the minimum is 0 and the budget is not spent in full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.core.matching import Booleans, Floats
from tasks.core.suggestion.evidence import Calibration, Traffic
from tasks.core.suggestion.rules import Candidates
from tasks.core.suggestion.weights import expected_misses, fit_weights

WEIGHT_DIGITS = 4  # as people read them; what is fitted, forecast and obeyed are the same numbers
FLOAT_ERROR = 1e-12  # of a sum of shares


@dataclass(frozen=True, slots=True)
class Minimum:
    """What the expected misses of a frame must exceed, and how likely one with exactly that many is to be kept."""

    expected_misses: float
    tie_probability: float

    def keeps(self, misses: Floats) -> Floats:
        """(n,) how likely each frame is to be kept, by its expected misses."""
        at_it = np.where(misses == self.expected_misses, self.tie_probability, 0.0)
        return np.where(misses > 0, np.where(misses > self.expected_misses, 1.0, at_it), 0.0)


def minimum_for(misses: Floats, weight: Floats, share: float) -> Minimum:
    """The minimum that `share` of all frames exceed.

    misses: (n,) expected misses of frames, of which each stands for `weight` (n,) frames. 0 and 1 where fewer than
    `share` have any.
    """
    values, value_of = np.unique(misses, return_inverse=True)
    mass = np.bincount(value_of, weight, len(values)) / weight.sum()
    above = np.append(np.cumsum(mass[::-1])[::-1][1:], 0.0)
    reached = np.flatnonzero(
        (above + mass >= share - FLOAT_ERROR) & (values > 0)
    )  # from each of these up there is enough
    if not len(reached):
        return Minimum(0.0, 1.0)
    row = int(reached[-1])
    tie = (share - above[row]) / mass[row]
    return Minimum(float(values[row]), float(f"{min(1.0, max(0.0, tie)):.6g}"))


@dataclass(frozen=True, slots=True)
class MissModel:
    """Fitted weights, and the thresholds and floor that they hold for.

    weights: (classes, bins). top_only: images have one label and the top class is the answer, so it is not doubtful.
    """

    weights: Floats
    thresholds: Floats
    floor: float
    top_only: bool = False

    def expected(self, candidates: Candidates) -> Floats:
        """(images,) m(x)."""
        doubtful = candidates.without_top() if self.top_only else candidates
        return expected_misses(doubtful, self.weights, self.thresholds, self.floor)


def fit_miss_model(calibration: Calibration, images: Booleans | None = None) -> MissModel:
    """From all calibration images, or some of them, given as an (images,) mask."""
    evaluation, thresholds = calibration.evaluation, calibration.thresholds
    weights = fit_weights(
        calibration.matches, images, thresholds, list(evaluation.classes), evaluation.confidence_floor
    )
    top_only = calibration.matches.top_only
    return MissModel(np.round(weights, WEIGHT_DIGITS), thresholds, evaluation.confidence_floor, top_only)


def cross_fitted_misses(calibration: Calibration) -> Floats:
    """(images,) m of each calibration image, by weights that were fitted without its fold."""
    misses = np.zeros(calibration.images)
    for held_out in _folds(calibration):
        misses[held_out] = fit_miss_model(calibration, ~held_out).expected(calibration.candidates)[held_out]
    return misses


def minimum_of_traffic(model: MissModel, calibration: Calibration, traffic: Traffic, share: float) -> Minimum:
    """The minimum that `share` of the traffic exceed.

    Where the calibration images stand for the traffic, their m is cross-fitted: that of images which the weights were
    fitted to is too high.
    """
    misses = cross_fitted_misses(calibration) if traffic.is_calibration else model.expected(traffic.candidates)
    return minimum_for(misses, traffic.candidates.weight, share)


def cross_fitted_keeps(calibration: Calibration, traffic: Traffic, share: float) -> Floats:
    """(images,) how likely each calibration image is to be kept, by weights and a minimum fitted without its fold."""
    if traffic.is_calibration:
        misses = cross_fitted_misses(calibration)
        return minimum_for(misses, traffic.candidates.weight, share).keeps(misses)
    kept = np.zeros(calibration.images)
    for held_out in _folds(calibration):
        model = fit_miss_model(calibration, ~held_out)
        minimum = minimum_for(model.expected(traffic.candidates), traffic.candidates.weight, share)
        kept[held_out] = minimum.keeps(model.expected(calibration.candidates))[held_out]
    return kept


def _folds(calibration: Calibration) -> list[Booleans]:
    """Masks of the images that are held out together."""
    return [calibration.fold == fold for fold in np.unique(calibration.fold)]
