"""Which samples are offered for labelling, and how likely each was to be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

from tasks.core.allocation.cells import TOGETHER, Cell, cell_of, merged
from tasks.core.allocation.shares import Rules, labels_of
from tasks.core.entities import Allocation, Sample


def choose(
    samples: Iterable[Sample],
    allocation: Allocation,
    seed: int,
    cell: Callable[[Sample], Cell] | None = None,
) -> dict[str, float]:
    """The samples to offer, sample id -> the probability with which it was.

    The random slice is taken first, and whole where the other cells keep their floors. Within a cell every sample is
    as likely as another: L of K samples are each offered with probability L / K, by the lowest hashes of seed,
    allocation and sample. So the same samples give the same choice in any order, and 1 / probability sums to the
    number of samples in every cell that was given a label.

    Where the samples are others than the allocation knew of, its shares are handed out anew over what there is; a cell
    that it did not know has the mean share. cell: the finest cell of a sample; None: at
    the default thresholds.
    """
    by_cell: dict[Cell, list[str]] = {}
    level = TOGETHER.index(allocation.together)
    finest = {s.sample_id: cell(s) if cell else cell_of(s, {}) for s in samples}
    for sample_id, found in sorted((sample_id, merged(of_sample, level)) for sample_id, of_sample in finest.items()):
        by_cell.setdefault(found, []).append(sample_id)
    offered: dict[str, float] = {}
    for found, labels in _labels(by_cell, allocation).items():
        waiting = by_cell[found]
        drawn = sorted(waiting, key=lambda sample_id: _draw(seed, allocation.number, sample_id))[:labels]
        offered |= dict.fromkeys(drawn, labels / len(waiting))
    return offered


def _labels(by_cell: dict[Cell, list[str]], allocation: Allocation) -> dict[Cell, int]:
    """The labels of the cells that there are, in the shares of the allocation; exploration first."""
    shares = {Cell(row.camera, row.strategy, row.band): row.share for row in allocation.cells if not row.exploration}
    cells = sorted(cell for cell in by_cell if not cell.is_exploration)
    known = [shares[cell] for cell in cells if shares.get(cell)]
    mean = sum(known) / len(known) if known else 1.0
    explorable = sum(len(waiting) for cell, waiting in by_cell.items() if cell.is_exploration)
    rules = Rules(allocation.exploration, allocation.floor, allocation.swing, allocation.half_life_weeks)
    given, explored = labels_of(
        np.array([shares.get(cell) or mean for cell in cells], np.float64),
        np.array([len(by_cell[cell]) for cell in cells], np.float64),
        explorable,
        allocation.labels,
        rules,
    )
    found = {cell: explored for cell in by_cell if cell.is_exploration}
    return found | {cell: int(labels) for cell, labels in zip(cells, given)}


def _draw(seed: int, number: int, sample_id: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{number}/{sample_id}".encode(), digest_size=16).digest()
