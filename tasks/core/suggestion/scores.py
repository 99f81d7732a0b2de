"""How likely is each calibration image to be chosen, judged without it?

A choice that is scored on the images that it was fitted to looks better than it is. So the calibration images are cut
into five folds by cluster: rules, weights, minimum and probabilities are fitted on four of them and score the images of
the fifth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.core.matching import Booleans, Floats
from tasks.core.suggestion.evidence import Calibration, Traffic
from tasks.core.suggestion.misses import MissModel, cross_fitted_keeps, cross_fitted_misses, minimum_for
from tasks.core.suggestion.rules import RuleSet

LEAST_SCORED = 10  # images: of fewer, nothing can be told


@dataclass(frozen=True, slots=True)
class Scores:
    """(images,) each, of the calibration images, by a choice that was fitted without them.

    matched: may be chosen. kept: how likely. Where the budget pays for so few images that the calibration set would
    hold none of them, more are scored: `thinned` times as many, and those that the budget pays for are expected to hold
    `lift` times as many misses each.
    """

    matched: Booleans
    kept: Floats
    thinned: float = 1.0
    lift: float = 1.0

    def collected(self, random_share: float) -> Floats:
        """(images,) the share of each image's misses that is collected, at random or by choice."""
        chosen = np.minimum(1.0, self.kept / self.thinned * self.lift)
        return np.asarray(1 - (1 - random_share) * (1 - chosen))


def cross_fit(calibration: Calibration, fit: Callable[[Booleans], RuleSet]) -> Scores:
    """Score every image by the rules that `fit` finds on the images, a mask, outside its fold."""
    matched, kept = np.zeros(calibration.images, np.bool_), np.zeros(calibration.images)
    for fold in np.unique(calibration.fold):
        held_out = calibration.fold == fold
        rules = fit(~held_out)
        matched[held_out] = rules.matching(calibration.candidates)[held_out] > 0
        kept[held_out] = rules.keeps(calibration.candidates)[held_out]
    return Scores(matched, kept)


def miss_scores(calibration: Calibration, traffic: Traffic, model: MissModel, share: float) -> Scores:
    """Score every image by its expected misses, where `share` of all frames is chosen by them.

    At least 10 images are scored. A smaller share chooses frames that expect more misses than those do, by a factor
    that the traffic knows without a label. model: fitted to all calibration images.
    """
    scored = max(share, min(1.0, LEAST_SCORED / calibration.images))
    misses = cross_fitted_misses(calibration)
    of_traffic = misses if traffic.is_calibration else model.expected(traffic.candidates)
    means = [_mean_of_chosen(of_traffic, traffic.candidates.weight, each) for each in (share, scored)]
    return Scores(
        matched=misses > 0,
        kept=cross_fitted_keeps(calibration, traffic, scored),
        thinned=scored / share,
        lift=means[0] / means[1] if means[1] else 1.0,
    )


def _mean_of_chosen(misses: Floats, weight: Floats, share: float) -> float:
    """The mean expected misses of the `share` of frames that expect most."""
    kept = minimum_for(misses, weight, share).keeps(misses) * weight
    return float(misses @ kept / kept.sum()) if kept.any() else 0.0


def random_scores(calibration: Calibration) -> Scores:
    """The scores where nothing is chosen: no image more likely than another, and none beyond the random draw."""
    return Scores(np.zeros(calibration.images, np.bool_), np.ones(calibration.images), np.inf)
