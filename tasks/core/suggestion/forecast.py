"""What a way to spend the budget will bring, with 95% intervals.

The scores q of the calibration images, how likely each is to be chosen by what was fitted without it (scores.py), carry
the figures:

    share with a miss    sum(q * has a miss) / sum(q)
    misses an image      sum(q * misses) / sum(q)
    misses a box         sum(q * misses) / sum(q * ground truths)

Crowded images flatter the second, and not the third. Their intervals come from a cluster bootstrap of these sums. What
is forecast is a day to come, so each replicate also lets that day's images scatter around what it expects of them, by
their standard error. The operating thresholds are held fixed: fitted anew in every fold, they made the intervals wider
and held the truth less often.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.bootstrap import Bootstrap, percentile_interval, ratio
from tasks.core.entities import Estimate, Forecast
from tasks.core.intervals import Z, wilson
from tasks.core.matching import Floats, Integers
from tasks.core.suggestion.evidence import Budget, Calibration, Traffic
from tasks.core.suggestion.ways import Way

SPEND_TOLERANCE = 0.1  # of the budget, that the device's rate control keeps a day within


def forecast(calibration: Calibration, traffic: Traffic, way: Way, plan: Budget, *, seed: int) -> Forecast:
    """All figures of a day.

    Where nothing is chosen, the figures of the chosen images are those of random ones. The base rate is that of as many
    images drawn at random as are chosen.
    """
    frames_a_day = plan.frames_a_day
    kept_at_random = np.full(traffic.candidates.images, way.random_share)
    kept = 1 - (1 - kept_at_random) * (1 - way.chosen)
    each = np.ones(calibration.images, np.int64)
    misses, has_miss = calibration.misses, calibration.misses > 0
    chooses = way.strategy != "random"
    images = frames_a_day * traffic.candidates.share(way.chosen if chooses else kept)
    q = way.scores.kept
    of_a_day = partial(_expected_ratio, calibration.bootstrap, images=images, seed=seed)
    of_all = partial(_expected_ratio, calibration.bootstrap, each, images=np.inf, seed=seed)
    return Forecast(
        images_a_day=_budgeted_images(traffic, way, plan, seed)
        if way.keeps_the_budget
        else _expected_images(traffic, kept, frames_a_day, seed),
        images_a_day_random=_expected_images(traffic, kept_at_random, frames_a_day, seed),
        share_with_miss=_lifted(of_a_day(q, has_miss, each), way.scores.lift),
        share_with_miss_random=of_a_day(each, has_miss, each),
        misses_an_image=of_a_day(q, misses * way.scores.lift, each),
        misses_a_box=_richer(of_a_day(q, misses, calibration.ground_truths), way.scores.lift),
        misses_reached=of_all(misses * way.scores.matched, misses),
        misses_blind=of_all(calibration.misses_out_of_reach, misses),
        misses_collected=of_all(misses * way.scores.collected(way.random_share), misses),
    )


def _expected_ratio(
    bootstrap: Bootstrap,
    kept: Floats | Integers,
    numerator: NDArray[Any],
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
    carrying = _units_that_carry(sums[:, 0])
    expanded = value + (ratios - value) * _small_sample_factor(carrying)
    days = expanded + standard_errors * np.random.default_rng(seed).standard_normal(len(ratios))
    highest = 1.0 if (a <= c).all() else np.inf
    low, high = percentile_interval(days.clip(0.0, highest)) or (0.0, highest)
    if np.isin(a, (0, 1)).all() and (c == 1).all():  # a share of images: where all of them agree, draws cannot differ
        least_low, least_high = wilson(value, carrying)  # of a finer share there is no evidence
        low, high = min(low, least_low), max(high, least_high)
    return _estimate(value, low, high)


def _lifted(share: Estimate, lift: float) -> Estimate:
    """The share with a miss of images that hold `lift` times as many: `1 - (1 - share)^lift`, as of Poisson counts."""
    if lift == 1:
        return share
    return _estimate(*(1 - (1 - figure) ** lift for figure in (share.value, share.low, share.high)))


def _richer(share: Estimate, lift: float) -> Estimate:
    """The share of boxes that are missed in images with `lift` times as many misses and as many found: odds * lift."""
    if lift == 1:
        return share
    return _estimate(*(lift * figure / (1 + (lift - 1) * figure) for figure in (share.value, share.low, share.high)))


def _units_that_carry(kept: Floats) -> float:
    """How many units, (units,) by what each contributes, carry a figure: `sum(kept)^2 / sum(kept^2)` (Kish 1965)."""
    return max(2.0, float(kept.sum() ** 2 / (kept**2).sum()))


def _small_sample_factor(n: float) -> float:
    """By how much a bootstrap of n units is too narrow: `sqrt(n / (n - 1))` and Student's t in place of 1.96.

    After Hesterberg (2015), "What teachers should know about the bootstrap", section 3.2; the quantile of t by
    Cornish-Fisher.
    """
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


def _budgeted_images(traffic: Traffic, way: Way, plan: Budget, seed: int) -> Estimate:
    """Images a day of a device that follows its traffic until the budget is spent, as far as there are such frames.

    It ends within 10% of the budget, and its exploration scatters as Poisson counts do.
    """
    weight = traffic.candidates.weight
    possible = 1 - (1 - way.random_share) * (1 - way.may_be_chosen)
    replicates = traffic.bootstrap.replicates(traffic.bootstrap.sums(possible * weight, weight))
    means = np.minimum(plan.spendable, plan.frames_a_day * ratio(replicates[:, 0], replicates[:, 1]))
    scatter = np.sqrt((SPEND_TOLERANCE * means / Z) ** 2 + plan.exploration * means)
    days = means + scatter * np.random.default_rng(seed).standard_normal(len(means))
    expected = min(plan.spendable, plan.frames_a_day * traffic.candidates.share(possible))
    interval = percentile_interval(days.clip(0.0, plan.frames_a_day)) or (0.0, plan.frames_a_day)
    return _estimate(expected, *interval)


def _estimate(value: float, low: float, high: float) -> Estimate:
    """Six digits are more than the figure is worth, and the last ones depend on the order of summation."""
    value, low, high = (float(f"{figure:.6g}") for figure in (value, low, high))
    return Estimate(value=value, low=low, high=high)
