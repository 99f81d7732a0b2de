"""What suggested settings will bring, with 95% intervals.

Rules that are scored on the images that they were chosen on look better than they are. So the labelled images are cut
into five folds by cluster, rules and probability are fitted on four of them, and score the images of the fifth. The
resulting scores q, each image's probability to be kept by the rules, carry all figures:

    share with a miss    sum(q * has a miss) / sum(q)
    misses an image      sum(q * misses) / sum(q)
    misses a box         sum(q * misses) / sum(q * ground truths)

Intervals are those of a cluster bootstrap of these sums. What is forecast is one day, so each replicate also draws that
day's images: their figure scatters around its expectation by its standard error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.core.bootstrap import Bootstrap, percentile_interval, ratio
from tasks.core.entities import Estimate
from tasks.core.matching import Booleans, Floats, Integers

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Scores:
    """Cross-fitted, (images,) each: is it matched by any rule, and with which probability do the rules keep it?"""

    matched: Booleans
    kept: Floats


def cross_fit(
    fit: Callable[[Booleans], tuple[list[int], float]], matched: Booleans, folds: Integers
) -> Scores:
    """Score every image by rules that were fitted without its fold.

    fit: from the mask of images to fit on to the rows of the chosen rules and their probability. matched: (rules,
    images). folds: (images,).
    """
    any_rule = np.zeros(len(folds), np.bool_)
    kept = np.zeros(len(folds))
    for fold in np.unique(folds):
        held_out = folds == fold
        chosen, probability = fit(~held_out)
        matching = matched[chosen][:, held_out].sum(axis=0)
        any_rule[held_out] = matching > 0
        kept[held_out] = 1 - (1 - probability) ** matching
    return Scores(any_rule, kept)


def folds_by_unit(bootstrap: Bootstrap, figures: Integers, seed: int) -> Integers:
    """(images,) a fold from 0 to 4 for each image; the images of a cluster share it.

    figures: (images, columns). Units are dealt out in the order of their figures, shuffled: then the order in which
    images came in changes nothing.
    """
    sums = bootstrap.sums(*figures.T)
    fold_of_unit = np.empty(bootstrap.units, np.int64)
    shuffled = np.random.default_rng(seed).permutation(bootstrap.units)
    fold_of_unit[np.lexsort(sums.T)] = shuffled % FOLDS
    return fold_of_unit[bootstrap.unit_of_image]


def expected_ratio(
    bootstrap: Bootstrap,
    kept: Floats,
    numerator: Integers | Booleans,
    denominator: Integers | Booleans,
    *,
    images_a_day: float = np.inf,
    seed: int = 0,
) -> Estimate:
    """`sum(kept * numerator) / sum(kept * denominator)` over (images,) columns, as a day's images will show it.

    images_a_day: how many images the day's figure is made of; infinite for a figure of the whole traffic. Where there
    is nothing to go by (the denominator is 0, or a single unit) the interval is from 0 to the highest ratio of any
    image, at least 1; the value is 0 where the denominator is.
    """
    a, c = numerator.astype(np.float64), denominator.astype(np.float64)
    sums = bootstrap.sums(kept, kept * a, kept * c, kept * a * a, kept * a * c, kept * c * c)
    value = ratio(*sums.sum(axis=0)[[1, 2], None])[0]
    if np.isnan(value) or bootstrap.units < 2:
        highest = np.nanmax(ratio(a, c), initial=1.0)
        return Estimate(value=float(np.nan_to_num(value)), low=0.0, high=float(highest))

    images, by_a, by_c, by_aa, by_ac, by_cc = bootstrap.replicates(sums).T
    ratios = ratio(by_a, by_c)
    residuals = ratio(by_aa - 2 * ratios * by_ac + ratios**2 * by_cc, images).clip(min=0)
    standard_errors = np.sqrt(residuals / images_a_day) / ratio(by_c, images)
    days = ratios + standard_errors * np.random.default_rng(seed).standard_normal(len(ratios))
    highest = 1.0 if (a <= c).all() else np.inf
    low, high = percentile_interval(days.clip(0.0, highest)) or (0.0, highest)
    return Estimate(value=float(value), low=low, high=high)


def expected_images(
    bootstrap: Bootstrap, kept: Floats, weight: Floats, frames_a_day: float, *, seed: int = 0
) -> Estimate:
    """Images a day, from each traffic frame's probability `kept` and its `weight`, (frames,) both.

    A day's draws scatter like a Poisson count around what the traffic lets expect.
    """
    expected = frames_a_day * float(kept @ weight / weight.sum())
    replicates = bootstrap.replicates(bootstrap.sums(kept * weight, weight))
    means = frames_a_day * ratio(replicates[:, 0], replicates[:, 1])
    days = means + np.sqrt(means) * np.random.default_rng(seed).standard_normal(len(means))
    low, high = percentile_interval(days.clip(0.0, frames_a_day)) or (0.0, frames_a_day)
    return Estimate(value=expected, low=low, high=high)
