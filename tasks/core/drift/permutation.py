"""The same two statistics for video: how often are they as large when blocks of frames are dealt out by chance?

Nothing is assumed but that, where nothing changed, a block of now could as well be one of the reference at the same
hours. Distributions are standardised to one mix of hours, so that a window with more night in it is no drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, pairwise, product

import numpy as np

from tasks.core.drift.blocks import Blocks, Booleans, Floats, Series
from tasks.core.drift.two_samples import ROUNDING, bins_for, smoothed

GRID = 128  # values at which two distributions are compared, quantiles of both together
SPARE = 4  # dealings that may be as extreme where there is just a change; more only sharpen the p-value
AT_ONCE = 256  # dealings


@dataclass(frozen=True, slots=True)
class Permutation:
    """What the blocks say. p-values are (1 + as extreme) / (1 + dealings), and exact for exchangeable blocks.

    Where there are no more ways to deal them than dealings are needed, all are tried: as extreme / dealings.

    at: the value where the cumulative shares differ most; reference_share and now_share: of frames up to it.
    """

    statistic: float
    p_value: float
    at: float
    reference_share: float
    now_share: float
    psi: float
    psi_p_value: float
    bins: int
    dealings: int


def fewest_dealings(alpha: float) -> int:
    """How many dealings a p-value needs that is to be held against `alpha`."""
    return math.ceil(SPARE / alpha)


def permutation_test(
    pooled: Series, blocks: Blocks, *, alpha: float, inflation: float = 1.0, seed: int = 0
) -> Permutation:
    """Are reference and now of one distribution? pooled: the frames that `blocks` keeps.

    inflation: of the variance, for which both statistics are made smaller before dealings are held against them (PSI
    is a square). Dealing ends as soon as neither p-value can fall to `alpha` any more: the verdict is the same, and
    only then is a p-value from few dealings. The same series, blocks and seed give the same answer.
    """
    grid, curves = block_curves(pooled, blocks)
    fewer = min(np.bincount(blocks.is_now[blocks.of_frame], minlength=2))
    bins = bins_for(fewer)
    standard = Standard.of(curves[:, -1], blocks)

    before, after = standard.distributions(blocks.is_now[None], curves)
    gaps = np.abs(before - after)[0]
    place = int(gaps.argmax())
    index = float(psi_of(before, after, bins, fewer)[0])

    farthest, highest = gaps[place] / math.sqrt(inflation), index / inflation
    dealings, ways = fewest_dealings(alpha), blocks.arrangements()
    observed = 1 if ways > dealings else 0  # among all dealings it is counted as it comes
    dealings = min(dealings, ways)
    done = farther = higher = 0
    for dealt in dealt_at_once(blocks, dealings, np.random.default_rng(seed)):
        first, second = standard.distributions(dealt, curves)
        farther += int((np.abs(first - second).max(axis=1) >= farthest - ROUNDING).sum())
        higher += int((psi_of(first, second, bins, fewer) >= highest - ROUNDING).sum())
        done += len(dealt)
        if min(farther, higher) + observed > alpha * (dealings + observed):
            break
    return Permutation(
        statistic=float(gaps[place]),
        p_value=(farther + observed) / (done + observed),
        at=float(grid[place]),
        reference_share=float(before[0, place]),
        now_share=float(after[0, place]),
        psi=index,
        psi_p_value=(higher + observed) / (done + observed),
        bins=bins,
        dealings=done,
    )


def block_curves(pooled: Series, blocks: Blocks) -> tuple[Floats, Floats]:
    """Ascending values (GRID at most), and (blocks, values): each block's weight at or below each value."""
    grid = np.unique(pooled.values)
    if len(grid) > GRID:
        grid = np.unique(np.quantile(pooled.values, np.linspace(0, 1, GRID), method="inverted_cdf"))
    column = np.searchsorted(grid, pooled.values)
    size = len(blocks.stratum) * len(grid)
    cells = np.bincount(blocks.of_frame * len(grid) + column, pooled.weights, size)
    return grid, np.cumsum(cells.reshape(len(blocks.stratum), len(grid)), axis=1)


@dataclass(frozen=True, slots=True)
class Standard:
    """Weights of blocks and of strata, by which both windows are brought to the strata's mix of both together."""

    weight: Floats  # (blocks,)
    member: Floats  # (blocks, strata), 1 where a block is of a stratum
    share: Floats  # (strata,)

    @classmethod
    def of(cls, weight: Floats, blocks: Blocks) -> Standard:
        member = np.eye(int(blocks.stratum.max()) + 1)[blocks.stratum]
        return cls(weight, member, weight @ member / weight.sum())

    def distributions(self, is_now: Booleans, curves: Floats) -> tuple[Floats, Floats]:
        """Cumulative shares of reference and now, (dealings, values) each, for (dealings, blocks) of `is_now`."""
        return self._distribution(~is_now, curves), self._distribution(is_now, curves)

    def _distribution(self, chosen: Booleans, curves: Floats) -> Floats:
        totals = (chosen * self.weight) @ self.member
        factor = np.divide(self.share, totals, out=np.zeros_like(totals), where=totals > 0)
        return np.asarray((chosen * (factor @ self.member.T)) @ curves, np.float64)


def dealt_at_once(blocks: Blocks, dealings: int, random: np.random.Generator) -> Iterator[Booleans]:
    """So many dealings, AT_ONCE or fewer at a time; where no more are possible, each once, in random order."""
    if blocks.arrangements() > dealings:
        for first in range(0, dealings, AT_ONCE):
            yield deal(blocks, min(AT_ONCE, dealings - first), random)
        return
    every = random.permutation(all_dealings(blocks))
    for first in range(0, len(every), AT_ONCE):
        yield every[first : first + AT_ONCE]


def all_dealings(blocks: Blocks) -> Booleans:
    """(arrangements, blocks): every way in which as many blocks of each stratum are now as there really are."""
    members = [np.flatnonzero(blocks.stratum == stratum).tolist() for stratum in range(len(blocks.of_strata()))]
    chosen = product(*(combinations(m, now) for m, (_, now) in zip(members, blocks.of_strata())))
    columns = np.array([list(chain.from_iterable(way)) for way in chosen], np.int64)
    dealt = np.zeros((len(columns), len(blocks.stratum)), np.bool_)
    np.put_along_axis(dealt, columns, True, axis=1)
    return dealt


def deal(blocks: Blocks, dealings: int, random: np.random.Generator) -> Booleans:
    """(dealings, blocks): as many blocks of each stratum are now as there really are, others each time."""
    by_stratum = np.argsort(blocks.stratum, kind="stable")
    labels = blocks.is_now[by_stratum]
    order = np.argsort(blocks.stratum + random.random((dealings, len(labels))), axis=1)
    dealt = np.zeros(order.shape, np.bool_)
    np.put_along_axis(dealt, order, np.broadcast_to(labels, order.shape), axis=1)
    return dealt


def psi_of(before: Floats, after: Floats, bins: int, frames: float) -> Floats:
    """PSI of each row of cumulative shares, over bins between the quantiles of that row's reference.

    Quantiles that fall on one value leave bins without frames, which add nothing.
    """
    rows = np.arange(len(before))
    edges = [np.zeros(len(before), np.int64) - 1]
    for level in np.arange(1, bins) / bins:
        edges.append(np.asarray((before >= level - ROUNDING).argmax(axis=1), np.int64))
    edges.append(np.full(len(before), before.shape[1] - 1, np.int64))
    total = np.zeros(len(before))
    padded = [np.concatenate([curve, np.zeros((len(curve), 1))], axis=1) for curve in (before, after)]
    for low, high in pairwise(edges):
        p, q = (smoothed(curve[rows, high] - curve[rows, low], frames, bins) for curve in padded)
        total += (q - p) * np.log(q / p)
    return total
