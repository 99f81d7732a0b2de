"""What suggested settings will bring, with 95% intervals.

Rules that are scored on the images that they were chosen on look better than they are. So the calibration images are
cut into five folds by cluster; rules and probability are fitted on four of them and score the images of the fifth. The
scores q, each image's probability to be kept by the rules, carry the figures:

    share with a miss    sum(q * has a miss) / sum(q)
    misses an image      sum(q * misses) / sum(q)
    misses a box         sum(q * misses) / sum(q * ground truths)

Their intervals come from a cluster bootstrap of these sums. What is forecast is a day to come, so each replicate also
lets that day's images scatter around what it expects of them, by their standard error. The operating thresholds are
held fixed: fitted anew in every fold, they made the intervals wider and held the truth less often.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from tasks.core.bootstrap import Bootstrap, percentile_interval, ratio
from tasks.core.entities import Estimate, Forecast
from tasks.core.matching import Booleans, Floats, Integers
from tasks.core.suggestion.evidence import Calibration, Traffic
from tasks.core.suggestion.rules import RuleSet


@dataclass(frozen=True, slots=True)
class Scores:
    """(images,) each, of the calibration images, by rules that were fitted without them."""

    matched: Booleans  # by any rule
    kept: Floats  # how likely


def cross_fit(calibration: Calibration, fit: Callable[[Booleans], RuleSet]) -> Scores:
    """Score every image by the rules that `fit` finds on the images, a mask, outside its fold."""
    matched, kept = np.zeros(calibration.images, np.bool_), np.zeros(calibration.images)
    for fold in np.unique(calibration.fold):
        held_out = calibration.fold == fold
        rules = fit(~held_out)
        matched[held_out] = rules.matching(calibration.candidates)[held_out] > 0
        kept[held_out] = rules.keeps(calibration.candidates)[held_out]
    return Scores(matched, kept)


def random_scores(calibration: Calibration) -> Scores:
    """The scores of settings without rules: no rule matches, and every image is equally likely."""
    return Scores(np.zeros(calibration.images, np.bool_), np.ones(calibration.images))


def forecast(
    calibration: Calibration,
    traffic: Traffic,
    scores: Scores,
    rules: RuleSet,
    *,
    random_share: float,
    frames_a_day: float,
    seed: int,
) -> Forecast:
    """All figures of a day under settings of `rules` and a random draw of `random_share`.

    Without rules, the figures of the images that the rules collect are those of random ones. The base rate is that of
    as many images drawn at random as the settings collect.
    """
    kept_at_random = np.full(traffic.candidates.images, random_share)
    kept = 1 - (1 - kept_at_random) * (1 - rules.keeps(traffic.candidates))
    images_a_day = _expected_images(traffic, kept, frames_a_day, seed)

    each = np.ones(calibration.images, np.int64)
    misses, has_miss = calibration.misses, calibration.misses > 0
    collected = frames_a_day * traffic.candidates.share(rules.keeps(traffic.candidates) if rules.rules else kept)
    of_a_day = partial(_expected_ratio, calibration.bootstrap, images=collected, seed=seed)
    of_all = partial(_expected_ratio, calibration.bootstrap, each, images=np.inf, seed=seed)
    return Forecast(
        images_a_day=images_a_day,
        images_a_day_random=_expected_images(traffic, kept_at_random, frames_a_day, seed),
        share_with_miss=of_a_day(scores.kept, has_miss, each),
        share_with_miss_random=of_a_day(each, has_miss, each),
        misses_an_image=of_a_day(scores.kept, misses, each),
        misses_a_box=of_a_day(scores.kept, misses, calibration.ground_truths),
        misses_reached=of_all(misses * scores.matched, misses),
        misses_blind=of_all(calibration.misses_out_of_reach, misses),
    )


def _expected_ratio(
    bootstrap: Bootstrap,
    kept: Floats | Integers,
    numerator: Integers | Booleans,
    denominator: Integers,
    *,
    images: float,
    seed: int,
) -> Estimate:
    """`sum(kept * numerator) / sum(kept * denominator)`, (images,) columns, as a day's `images` will show it.

    Where there is nothing to go by, no denominator or a single unit, the value is that of the sums or else 0, and the
    interval reaches from 0 to the highest ratio of any image, at least 1.
    """
    a, c = numerator.astype(np.float64), denominator.astype(np.float64)
    known = bool(kept @ c > 0)
    value = float(kept @ a / (kept @ c)) if known else 0.0
    if not known or bootstrap.units < 2:
        return _estimate(value, 0.0, float(np.nanmax(ratio(a, c), initial=1.0)))

    sums = bootstrap.sums(kept, kept * a, kept * c, kept * a * a, kept * a * c, kept * c * c)
    n, by_a, by_c, by_aa, by_ac, by_cc = bootstrap.replicates(sums).T
    ratios = ratio(by_a, by_c)
    # The variance of a ratio of two means over `images` images (delta method).
    residuals = ratio(by_aa - 2 * ratios * by_ac + ratios**2 * by_cc, n).clip(min=0)
    standard_errors = np.sqrt(residuals / images) * ratio(n, by_c)
    expanded = value + (ratios - value) * _small_sample_factor(sums[:, 0])
    days = expanded + standard_errors * np.random.default_rng(seed).standard_normal(len(ratios))
    highest = 1.0 if (a <= c).all() else np.inf
    return _estimate(value, *(percentile_interval(days.clip(0.0, highest)) or (0.0, highest)))


def _small_sample_factor(kept: Floats) -> float:
    """By how much a bootstrap of few units is too narrow: `sqrt(n / (n - 1))` and Student's t in place of 1.96.

    kept: (units,). n: the number of units that carry the figure, `sum(kept)^2 / sum(kept^2)`. After Hesterberg (2015),
    "What teachers should know about the bootstrap", section 3.2; the quantile of t by Cornish-Fisher.
    """
    n = max(2.0, float(kept.sum() ** 2 / (kept**2).sum()))
    t = 1.96 + 2.372 / (n - 1) + 2.823 / (n - 1) ** 2
    return float(np.sqrt(n / (n - 1)) * t / 1.96)


def _expected_images(traffic: Traffic, kept: Floats, frames_a_day: float, seed: int) -> Estimate:
    """Images a day, from the probability that each frame of the traffic is kept; draws scatter as Poisson counts do."""
    weight = traffic.candidates.weight
    replicates = traffic.bootstrap.replicates(traffic.bootstrap.sums(kept * weight, weight))
    means = frames_a_day * ratio(replicates[:, 0], replicates[:, 1])
    days = means + np.sqrt(means) * np.random.default_rng(seed).standard_normal(len(means))
    expected = frames_a_day * traffic.candidates.share(kept)
    return _estimate(expected, *(percentile_interval(days.clip(0.0, frames_a_day)) or (0.0, frames_a_day)))


def _estimate(value: float, low: float, high: float) -> Estimate:
    """Six digits are more than the figure is worth, and the last ones depend on the order of summation."""
    value, low, high = (float(f"{figure:.6g}") for figure in (value, low, high))
    return Estimate(value=value, low=low, high=high)
