"""Blocks of frames that may be exchanged for each other, because neighbouring blocks no longer resemble each other.

Times count from wherever the caller lets them begin, so that blocks and hours of the day do, too: a day has 24 hours
from there on.

Neighbouring frames of a video show the same things, so that a thousand of them say as little as ten. What may be
shuffled is therefore not frames but stretches of time, long enough that the means of two stretches in a row are hardly
correlated. Day and night are different worlds: where the reference has enough days, stretches are only exchanged with
those of the same hours of other days.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY, HOUR = 86400.0, 3600.0
LENGTHS = (
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0),
    *(7200.0, 10800.0, 14400.0, 21600.0, 28800.0, 43200.0, 86400.0),
)  # s; from a second on they divide a day
MOST_BLOCKS = 200  # of a window: more cost time and say nothing more
RESEMBLANCE = 0.1  # correlation of neighbouring blocks from which on they are too short
CERTAIN = 2.0  # standard errors, by which longer blocks must resemble each other to speak against shorter ones
MOST_ALIKE = 0.9  # beyond which no correlation is reckoned with
PHASES = 4  # of a length: blocks are laid from as many places, as where they fall is chance
FRAMES_A_BLOCK = 2  # of the shortest blocks whose resemblance is asked for
FEWEST_PAIRS = 8  # of neighbouring blocks, to say how much they resemble each other
MATCHED_DAYS = 2  # of the reference, for an hour of the day to be matched
MATCHED_SHARE = 0.9  # of the frames of now, whose hours are matched; else none are

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Series:
    """A figure of a camera's frames in a window.

    seconds (n,): since 1970, or any other moment; values (n,); weights (n,), above 0.
    """

    seconds: Floats
    values: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.values)

    def usable(self) -> Series:
        """The frames whose time, value and weight are numbers."""
        good = np.isfinite(self.seconds) & np.isfinite(self.values) & np.isfinite(self.weights) & (self.weights > 0)
        return self[good]

    def __getitem__(self, rows: Booleans | Integers) -> Series:
        return Series(self.seconds[rows], self.values[rows], self.weights[rows])


@dataclass(frozen=True, slots=True)
class Blocks:
    """How the frames of both windows fall into blocks, and which blocks may be exchanged for which.

    length: s. kept (n,): frames that take part, reference first. of_frame (kept,): block. stratum (blocks,): 0 ... for
    hours of the day, all 0 where hours are not matched. is_now (blocks,).
    """

    length: float
    kept: Booleans
    of_frame: Integers
    stratum: Integers
    is_now: Booleans
    by_hour: bool

    def of_strata(self) -> list[tuple[int, int]]:
        """Of each stratum the number of blocks, and how many of them are now."""
        blocks = np.bincount(self.stratum).tolist()
        now = np.bincount(self.stratum, self.is_now).astype(int).tolist()
        return list(zip(blocks, now))

    def arrangements(self) -> int:
        """In how many ways can the blocks be dealt to the two windows?"""
        return math.prod(math.comb(n, k) for n, k in self.of_strata())

    def smallest_p_value(self) -> float:
        """Of a statistic that is largest as the blocks really lie.

        Where both windows have as many blocks, the dealing the other way round has the same statistic.
        """
        both_ways = all(2 * k == n for n, k in self.of_strata())
        return min(1.0, (2 if both_ways else 1) / self.arrangements())


def log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def slot_length(block: float) -> float:
    """Of the hours of the day that are matched, for blocks of a length; s."""
    return max(HOUR, block)


def can_match_hours(reference: Floats, now: Floats, block: float = HOUR) -> bool:
    """Does the reference have enough days of nearly all the hours that now has? Both are frames' times, s."""
    slot = slot_length(block)
    days = np.unique(np.stack([reference // DAY, reference % DAY // slot]), axis=1)
    hours, number = np.unique(days[1], return_counts=True)
    matched = np.isin(now % DAY // slot, hours[number >= MATCHED_DAYS])
    return len(now) > 0 and float(matched.mean()) >= MATCHED_SHARE


def lay_blocks(reference: Floats, now: Floats, length: float, by_hour: bool) -> Blocks:
    """Blocks of `length` seconds over the times of two windows.

    Matched by hour, frames of hours that only one of the windows has do not take part.
    """
    seconds = np.concatenate([reference, now])
    is_now = np.arange(len(seconds)) >= len(reference)
    slot = (seconds // length * length % DAY // slot_length(length)).astype(np.int64) * by_hour
    both = np.intersect1d(slot[is_now], slot[~is_now])
    kept = np.isin(slot, both)
    names = np.stack([seconds[kept] // length, is_now[kept]])
    _, first, of_frame = np.unique(names, axis=1, return_index=True, return_inverse=True)
    _, stratum = np.unique(slot[kept][first], return_inverse=True)
    return Blocks(length, kept, of_frame.reshape(-1), stratum.reshape(-1), is_now[kept][first], by_hour)


def shortest_length(windows: Iterable[Floats]) -> float:
    """The shortest of LENGTHS that cuts no window into more than MOST_BLOCKS, and in which frames have neighbours."""
    times = [window for window in windows if len(window) > 1]
    gap = max((usual_gap(window) for window in times), default=0.0)
    for length in LENGTHS:
        if length >= gap and all(len(np.unique(window // length)) <= MOST_BLOCKS for window in times):
            return length
    return LENGTHS[-1]


def usual_gap(seconds: Floats) -> float:
    """The median time from a frame to the next, s; of two frames or more."""
    return float(np.median(np.diff(np.sort(seconds))))


def length_by_resemblance(reference: Series, now: Series, by_hour: bool) -> float | None:
    """How long blocks must be, so that neighbours hardly resemble each other; None when the reference is too short.

    The shortest length at which the means of neighbouring blocks have a correlation below RESEMBLANCE (or within its
    error), while at no longer one it is certainly above. The shortest blocks are the most, so that they say it best;
    longer ones tell of what changes slowly below the noise of single frames. The answer is one step longer, as the
    estimate errs, too. Only the reference is looked at, as a drift that begins within now would count as resemblance
    and hide itself; matched hours are without their own means, so that neither does the time of the day.
    """
    found = None
    for length in reversed(LENGTHS):
        if length < FRAMES_A_BLOCK * usual_gap(reference.seconds):
            break
        alike, pairs = resemblance(reference, length, by_hour)
        if pairs < FEWEST_PAIRS:
            continue
        error = 1 / math.sqrt(pairs)
        if alike > RESEMBLANCE + CERTAIN * error:
            break
        if alike <= max(RESEMBLANCE, error):
            found = length
    if found is None:
        return None
    longer = LENGTHS[min(LENGTHS.index(found) + 1, len(LENGTHS) - 1)]
    return max(longer, shortest_length((reference.seconds, now.seconds)))


def ranked(series: Series) -> Series:
    """Values as mean ranks from 0 to 1: correlations that no outlier makes or breaks."""
    order = np.sort(series.values)
    ranks = np.searchsorted(order, series.values, "left") + np.searchsorted(order, series.values, "right")
    return Series(series.seconds, ranks / (2 * max(1, len(order))), series.weights)


def inflation_of(reference: Series, length: float, by_hour: bool) -> float:
    """By how much the means of windows may vary more than dealings of blocks of `length` show; at least 1.

    (1 + r) / (1 - r), as of block means that are an autoregression of first order; r is what neighbours may still have
    in common: their correlation and its standard error, which few blocks make large.
    """
    alike, pairs = resemblance(reference, length, by_hour)
    alike = min(MOST_ALIKE, max(0.0, alike + 1 / math.sqrt(max(pairs, 1))))
    return (1 + alike) / (1 - alike)


def resemblance(series: Series, length: float, by_hour: bool) -> tuple[float, int]:
    """Correlation of the mean ranks of neighbouring blocks, and of how many pairs; over PHASES places to begin."""
    ranks = ranked(series)
    found = [
        neighbours(Series(ranks.seconds + phase * length / PHASES, ranks.values, ranks.weights), length, by_hour)
        for phase in range(PHASES)
    ]
    return float(np.mean([alike for alike, _ in found])), min(pairs for _, pairs in found)


def neighbours(series: Series, length: float, by_hour: bool) -> tuple[float, int]:
    """Correlation of the means of neighbouring blocks, and of how many pairs."""
    block, of_frame = np.unique(series.seconds // length, return_inverse=True)
    frames = np.bincount(of_frame, series.weights).astype(np.float64)
    mean = np.bincount(of_frame, series.weights * series.values) / frames
    mean -= expected_means(block * length, mean, frames, slot_length(length) if by_hour else DAY)
    follows = np.diff(block) == 1
    first, second = mean[:-1][follows], mean[1:][follows]
    weight = np.minimum(frames[:-1], frames[1:])[follows]
    squares = float((weight * (first**2 + second**2)).sum()) / 2
    return (float((weight * first * second).sum()) / squares if squares > 0 else 0.0), len(first)


def expected_means(starts: Floats, mean: Floats, frames: Floats, slot: float) -> Floats:
    """For each block the mean over all blocks of its hours of the day; `slot` of a day: over all blocks."""
    _, hour = np.unique(starts % DAY // slot, return_inverse=True)
    hour = hour.reshape(-1)
    totals = np.bincount(hour, frames)
    return np.asarray((np.bincount(hour, frames * mean) / np.maximum(totals, 1e-300))[hour], np.float64)
