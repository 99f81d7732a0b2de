"""What suggested settings will bring, with 95% intervals.

Rules that are scored on the images that they were chosen on look better than they are. So the labelled images are cut
into five folds by cluster; rules and probability are fitted on four of them and score the images of the fifth. The
scores q, each image's probability to be kept by the rules, carry the figures:

    share with a miss    sum(q * has a miss) / sum(q)
    misses an image      sum(q * misses) / sum(q)
    misses a box         sum(q * misses) / sum(q * ground truths)

Their intervals come from a cluster bootstrap of these sums. What is forecast is a day to come, so each replicate also
lets that day's images scatter around what it expects of them, by their standard error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from tasks.core.bootstrap import Bootstrap, percentile_interval, ratio
from tasks.core.entities import Estimate, Forecast
from tasks.core.matching import Booleans, Floats, Integers
from tasks.core.suggestion.evidence import Labelled, Traffic


@dataclass(frozen=True, slots=True)
class Scores:
    """(images,) each, of the calibration images: does any rule match it, and how likely do the rules keep it?"""

    matched: Booleans
    kept: Floats


def cross_fit(fit: Callable[[Booleans], tuple[list[int], float]], labelled: Labelled) -> Scores:
    """Score every image by rules that were fitted without its fold.

    fit: from a mask of the images to fit on, to the rows of the chosen rules and the probability of their draws.
    """
    any_rule = np.zeros(labelled.images, np.bool_)
    kept = np.zeros(labelled.images)
    for fold in np.unique(labelled.fold):
        held_out = labelled.fold == fold
        chosen, probability = fit(~held_out)
        matching = labelled.matched[chosen][:, held_out].sum(axis=0)
        any_rule[held_out] = matching > 0
        kept[held_out] = 1 - (1 - probability) ** matching
    return Scores(any_rule, kept)


def random_scores(labelled: Labelled) -> Scores:
    """The scores of settings without rules: every image is equally likely, and no rule matches."""
    return Scores(np.zeros(labelled.images, np.bool_), np.ones(labelled.images))


def forecast(
    labelled: Labelled,
    traffic: Traffic,
    scores: Scores,
    *,
    kept_by_rules: Floats,
    random_share: float,
    frames_a_day: float,
    seed: int,
) -> Forecast:
    """All figures of a day under the suggested settings.

    kept_by_rules: (frames,) of the traffic, the probability that the rules keep it. random_share: of the exploration.
    The base rate is that of as many images drawn at random as the settings collect.
    """
    images_of = partial(_expected_images, traffic, frames_a_day=frames_a_day, seed=seed)
    images_a_day = images_of(1 - (1 - random_share) * (1 - kept_by_rules))
    of_a_day = partial(_expected_ratio, labelled.bootstrap, images=images_a_day.value, seed=seed)
    of_all = partial(_expected_ratio, labelled.bootstrap, np.ones(labelled.images), images=np.inf, seed=seed)
    each = np.ones(labelled.images, np.int64)
    return Forecast(
        images_a_day=images_a_day,
        images_a_day_random=images_of(np.full(len(kept_by_rules), random_share)),
        share_with_miss=of_a_day(scores.kept, labelled.has_miss, each),
        share_with_miss_random=of_a_day(np.ones(labelled.images), labelled.has_miss, each),
        misses_an_image=of_a_day(scores.kept, labelled.misses, each),
        misses_a_box=of_a_day(scores.kept, labelled.misses, labelled.ground_truths),
        misses_reached=of_all(labelled.misses * scores.matched, labelled.misses),
        misses_blind=of_all(labelled.out_of_reach, labelled.misses),
    )


def _expected_ratio(
    bootstrap: Bootstrap,
    kept: Floats,
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
        return Estimate(value=value, low=0.0, high=float(np.nanmax(ratio(a, c), initial=1.0)))

    sums = bootstrap.sums(kept, kept * a, kept * c, kept * a * a, kept * a * c, kept * c * c)
    n, by_a, by_c, by_aa, by_ac, by_cc = bootstrap.replicates(sums).T
    ratios = ratio(by_a, by_c)
    # The variance of a ratio of two means over `images` images (delta method).
    residuals = ratio(by_aa - 2 * ratios * by_ac + ratios**2 * by_cc, n).clip(min=0)
    standard_errors = np.sqrt(residuals / images) * ratio(n, by_c)
    days = ratios + standard_errors * np.random.default_rng(seed).standard_normal(len(ratios))
    highest = 1.0 if (a <= c).all() else np.inf
    low, high = percentile_interval(days.clip(0.0, highest)) or (0.0, highest)
    return Estimate(value=value, low=low, high=high)


def _expected_images(traffic: Traffic, kept: Floats, *, frames_a_day: float, seed: int) -> Estimate:
    """Images a day, from the probability that each frame of the traffic is kept; draws scatter as Poisson counts do."""
    expected = frames_a_day * float(kept @ traffic.weight / traffic.weight.sum())
    sums = traffic.bootstrap.sums(kept * traffic.weight, traffic.weight)
    means = frames_a_day * ratio(*traffic.bootstrap.replicates(sums).T)
    days = means + np.sqrt(means) * np.random.default_rng(seed).standard_normal(len(means))
    low, high = percentile_interval(days.clip(0.0, frames_a_day)) or (0.0, frames_a_day)
    return Estimate(value=expected, low=low, high=high)
