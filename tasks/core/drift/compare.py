"""Has a figure of a camera changed between two windows? By how much, where, and since when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.core.drift.blocks import (
    DAY,
    Blocks,
    Series,
    can_match_hours,
    inflation_of,
    lay_blocks,
    length_by_resemblance,
    log_choose,
    slot_length,
)
from tasks.core.drift.permutation import SPARE, Permutation, permutation_test

ALPHA = 0.01  # false alarms a look, over all cameras and figures
TESTS = 2  # of each figure: Kolmogorov-Smirnov and PSI
MINIMUM_CHANGE = 0.1  # of the frames, that must lie elsewhere than before
FEWEST_FRAMES = 50  # of a window
MOST_BLOCKS_LOOKED_FOR = 10_000
SHARES = (0.01, 0.99)  # of frames, beyond which a single frame would decide when a change began

Answer = Literal["same", "changed", "too few"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure now against its reference.

    frames, blocks: that took part, of the reference and of now. reference_mean, now_mean: weighted, at the same mix of
    hours. since: seconds since 1970, an estimate. needed: frames of now that an answer takes. reason: why there is
    none.
    """

    answer: Answer
    frames: tuple[int, int]
    blocks: tuple[int, int] = (0, 0)
    block_seconds: float = 0.0
    by_hour: bool = False
    reference_mean: float = math.nan
    now_mean: float = math.nan
    test: Permutation | None = None
    since: float | None = None
    needed: int = 0
    reason: str = ""


def corrected(alpha: float, figures: int) -> float:
    """Bonferroni: what each p-value is held against, for `figures` figures of all cameras together."""
    return alpha / (TESTS * max(1, figures))


def compare(
    reference: Series,
    now: Series,
    *,
    alpha: float,
    between: Series | None = None,
    block_seconds: float | None = None,
    minimum_change: float = MINIMUM_CHANGE,
    seed: int = 0,
) -> Comparison:
    """Compare by block permutation. Frames with a time, value or weight that is no number do not take part.

    alpha: corrected. between: frames between the windows, for the estimate of when it began. block_seconds: instead of
    the length that the frames themselves ask for. A figure has changed when a p-value is at most `alpha` and at least
    `minimum_change` of the frames lie elsewhere: with enough frames, any difference is certain and most do not matter.
    """
    reference, now = reference.usable(), now.usable()
    between = between.usable() if between else None
    counts = (len(reference), len(now))
    if min(counts) < FEWEST_FRAMES:
        return Comparison("too few", counts, needed=FEWEST_FRAMES, reason=fewer_than_needed(counts))
    origin = float(now.seconds.min())
    reference, now = since_origin(reference, origin), since_origin(now, origin)
    between = since_origin(between, origin) if between else None
    by_hour = can_match_hours(reference.seconds, now.seconds, block_seconds or 0)
    length = block_seconds or length_by_resemblance(reference, now, by_hour)
    if length is None:
        reason = "stretches in a row resemble each other, however long: more days are needed"
        return Comparison("too few", counts, by_hour=by_hour, needed=2 * counts[1], reason=reason)
    by_hour = by_hour and can_match_hours(reference.seconds, now.seconds, length)
    blocks = lay_blocks(reference.seconds, now.seconds, length, by_hour)
    numbers = (int((~blocks.is_now).sum()), int(blocks.is_now.sum()))
    needed = blocks_needed(numbers, alpha)
    unsure = Comparison(
        "too few",
        counts,
        numbers,
        length,
        by_hour,
        needed=needed * math.ceil(counts[1] / max(1, numbers[1])),
        reason=f"too few to tell: {numbers[1]} blocks of {length:g} s against {numbers[0]}, needs {needed}",
    )
    if blocks.smallest_p_value() > alpha:
        return unsure
    pooled = joined(reference, now)[blocks.kept]
    inflation = 1.0 if block_seconds else inflation_of(reference, length, by_hour)
    test = permutation_test(pooled, blocks, alpha=alpha, inflation=inflation, seed=seed)
    changed = min(test.p_value, test.psi_p_value) <= alpha and test.statistic >= minimum_change
    if not changed and blocks.smallest_p_value() > alpha / SPARE:
        return unsure
    before, after = means(pooled, blocks)
    return Comparison(
        "changed" if changed else "same",
        tuple(np.bincount(blocks.is_now[blocks.of_frame], minlength=2).tolist()),
        numbers,
        length,
        by_hour,
        before,
        after,
        test,
        origin + began(reference, between, now, test, slot_length(length) if by_hour else DAY) if changed else None,
    )


def fewer_than_needed(counts: tuple[int, int]) -> str:
    where = "now" if counts[1] < FEWEST_FRAMES else "the reference"
    return f"{min(counts)} frames in {where}, {FEWEST_FRAMES} are needed"


def blocks_needed(numbers: tuple[int, int], alpha: float) -> int:
    """Blocks of now from which on chance could deal them in enough ways, at the windows' present proportion.

    More than there are: those of matched hours are dealt in fewer ways than these.
    """
    ratio = numbers[0] / max(1, numbers[1])
    for blocks in range(max(2, numbers[1] + 1), MOST_BLOCKS_LOOKED_FOR):
        if log_choose(blocks + max(1, round(blocks * ratio)), blocks) >= math.log(SPARE / alpha):
            return blocks
    return MOST_BLOCKS_LOOKED_FOR


def since_origin(series: Series, origin: float) -> Series:
    """Times counted from `origin`, so that nothing depends on where the clock's minutes and hours fall; whole us."""
    return Series(np.round(series.seconds - origin, 6), series.values, series.weights)


def joined(*windows: Series) -> Series:
    return Series(
        np.concatenate([window.seconds for window in windows]),
        np.concatenate([window.values for window in windows]),
        np.concatenate([window.weights for window in windows]),
    )


def means(pooled: Series, blocks: Blocks) -> tuple[float, float]:
    """Weighted means of reference and now, each hour of the day counted as in both together."""
    stratum, is_now = blocks.stratum[blocks.of_frame], blocks.is_now[blocks.of_frame]
    share = np.bincount(stratum, pooled.weights) / pooled.weights.sum()
    found = []
    for window in (~is_now, is_now):
        weights = np.bincount(stratum, pooled.weights * window, len(share))
        sums = np.bincount(stratum, pooled.weights * pooled.values * window, len(share))
        found.append(float((share * sums / weights).sum()))
    return found[0], found[1]


def began(reference: Series, between: Series | None, now: Series, test: Permutation, slot: float) -> float:
    """When the share of frames up to `test.at` changed, s, as the frames' times are: the most likely time of a step.

    Frames before it follow the reference's share of their hour of the day, those after it the share of now (Hinkley
    1971, Biometrika 58(3)): the cumulative log-likelihood ratio of the two is lowest where the change began.
    """
    frames = joined(*(window for window in (reference, between, now) if window))
    frames = frames[np.argsort(frames.seconds, kind="stable").astype(np.int64)]
    hour = (frames.seconds % DAY // slot).astype(np.int64)
    of_reference = (reference.seconds % DAY // slot).astype(np.int64)
    size = int(max(hour.max(), of_reference.max())) + 1
    weights = np.bincount(of_reference, reference.weights, size)
    below = np.bincount(of_reference, reference.weights * (reference.values <= test.at), size)
    usual = np.divide(below, weights, out=np.full(size, below.sum() / weights.sum()), where=weights > 0)
    before = np.clip(usual, *SHARES)[hour]
    after = np.clip(usual + test.now_share - test.reference_share, *SHARES)[hour]
    ratio = np.where(frames.values <= test.at, np.log(after / before), np.log((1 - after) / (1 - before)))
    place = int(np.cumsum(ratio).argmin())
    return float(frames.seconds[min(place + 1, len(frames) - 1)])
