"""From yields to shares, and from shares to whole labels.

Both are the same step: the amounts that are proportional to weights, each within its own limits, with a given sum,

    amount = clip(z * weight, low, high)        z such that the amounts sum to the total

so that what one cell cannot use goes to the others in proportion. Shares keep a floor and may swing only so far from
those of an earlier week; labels keep at least one and at most what the cell can deliver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, fsum

import numpy as np

from tasks.core.errors import SettingsError
from tasks.core.matching import Floats, Integers

ROUNDING = 1e-9  # of a label: what lies so near to the next whole one is that one
LEAST_WEIGHT = 1e-9  # of the largest: a cell without any yield is the last that is given more than its floor


@dataclass(frozen=True, slots=True)
class Rules:
    """What every allocation keeps to.

    exploration: least share of all labels for the random slice. floor: of an equal share, for every cell. swing: times
    its share of an earlier week that a cell's share may grow or shrink by. half_life_weeks: of a label's evidence.

    Raises SettingsError for rules that contradict each other.
    """

    exploration: float
    floor: float = 0.25
    swing: float = 1.5
    half_life_weeks: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.exploration <= 1:
            raise SettingsError(f"allocation: exploration {self.exploration:g}: give a share above 0 and up to 1")
        if not 0 < self.floor < 1:
            raise SettingsError(f"allocation: floor {self.floor:g}: give a part of an equal share, between 0 and 1")
        if not self.swing > 1 or 1 / self.swing + self.floor > 1:
            raise SettingsError(
                f"allocation: swing {self.swing:g} leaves no room above a floor of {self.floor:g}: give at least "
                f"{1 / (1 - self.floor):.2f}"
            )
        if not self.half_life_weeks > 0:
            raise SettingsError(f"allocation: half-life of {self.half_life_weeks:g} weeks: give more than 0")


def shares_of(yields: Floats, before: Floats, rules: Rules) -> Floats:
    """(cells,) shares that follow the yields and sum to 1.

    before: (cells,) the shares of an earlier week; nan for a cell that had none, which counts as an equal share.
    Without any before, nothing limits the swing.
    """
    cells = len(yields)
    if not cells:
        return np.zeros(0)
    low, high = np.full(cells, rules.floor / cells), np.ones(cells)
    if not np.isnan(before).all():
        reference = np.nan_to_num(before, nan=1 / cells)
        reference = reference / fsum(reference)  # other cells came or went: what is left is all there is
        low = np.maximum(low, reference / rules.swing)
        high = np.maximum(low, reference * rules.swing)
    return within(yields, low, high, 1.0)


def labels_of(
    shares: Floats, supply: Floats, exploration_supply: float, labels: int, rules: Rules
) -> tuple[Integers, int]:
    """(cells,) whole labels, and those of exploration; together `labels`, or all that can be delivered.

    supply: (cells,) images; inf where it is not known. The random slice comes first and whole, and is cut only where
    the cells would lose their floors.
    """
    least = exploration_labels(labels, rules) if exploration_supply else 0
    reach = fsum(supply)
    floors = min(reach, max(float(np.count_nonzero(supply)), ceil(rules.floor * (labels - least) - ROUNDING)))
    whole_slice = max(least, labels - floors) if np.isfinite(exploration_supply) else least
    explored = int(min(exploration_supply, whole_slice))
    for_cells = min(labels - explored, reach)
    explored += int(min(exploration_supply - explored, labels - explored - for_cells))

    alive = supply > 0
    given = np.zeros(len(shares), np.int64)
    if alive.any():
        floor = np.maximum(1.0, rules.floor * for_cells / np.count_nonzero(alive))
        low = np.minimum(floor, supply[alive])
        amounts = within(shares[alive], low, supply[alive], for_cells)
        given[alive] = rounded(amounts, supply[alive], int(for_cells))
    return given, explored


def exploration_labels(labels: int, rules: Rules) -> int:
    """The least number of labels for the random slice: never below its share."""
    return ceil(rules.exploration * labels - ROUNDING)


def within(weights: Floats, low: Floats, high: Floats, total: float) -> Floats:
    """Amounts proportional to `weights` where their limits allow, with the sum `total`.

    Where the limits cannot hold it, all lower limits are scaled down to it, or all upper ones are given.
    """
    if total <= fsum(low):
        return np.asarray(low * (total / fsum(low))) if fsum(low) else low
    if total >= fsum(high):
        return high
    most = weights.max(initial=0.0)
    weights = np.maximum(weights / most, LEAST_WEIGHT) if most > 0 else np.ones(len(weights))
    turns = np.unique(np.concatenate([low / weights, high / weights]))
    turns = turns[np.isfinite(turns)]
    first, last = 0, len(turns)  # the sum at turns[first] is at most the total, that at turns[last] above it
    while last - first > 1:
        middle = (first + last) // 2
        if fsum(np.clip(turns[middle] * weights, low, high)) <= total:
            first = middle
        else:
            last = middle
    at_low = low / weights > turns[first]
    at_high = high / weights <= turns[first]
    free = ~at_low & ~at_high
    fixed = fsum(low[at_low]) + fsum(high[at_high])
    z = (total - fixed) / fsum(weights[free]) if free.any() else turns[first]
    return np.clip(z * weights, low, high)


def rounded(amounts: Floats, most: Floats, total: int) -> Integers:
    """Whole numbers with the sum `total` that differ from `amounts` by less than 1 (largest remainder; Hamilton).

    Of equal remainders the first come first. None goes above `most`.
    """
    whole = np.floor(amounts + ROUNDING)
    remainder = np.round(amounts - whole, 9)
    for place in np.argsort(-remainder, kind="stable"):
        if whole.sum() >= total:
            break
        if whole[place] < most[place]:
            whole[place] += 1
    return whole.astype(np.int64)


def needed(cells: int, rules: Rules) -> int:
    """The labels from which on every one of so many cells has a floor of a whole label."""
    return ceil(cells / rules.floor - ROUNDING)


def level_of(cells_by_level: Sequence[int], labels: int, rules: Rules) -> int:
    """The finest level whose cells all have a floor of a whole label; the coarsest where none has."""
    fits = [level for level, cells in enumerate(cells_by_level) if needed(cells, rules) <= labels]
    return fits[0] if fits else len(cells_by_level) - 1
