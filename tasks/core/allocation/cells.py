"""Which cell an image belongs to: its camera, the strategy that was charged for it, and its confidence band."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tasks.core.entities import Detection, Sample
from tasks.core.settings import DEFAULT_THRESHOLD, Thresholds
from tasks.core.settings.sampling import MISS_BINS
from tasks.core.splits import camera_of

NOTHING_IN_DOUBT = "nothing in doubt"  # the band of an image without a detection below its threshold


class Cell(NamedTuple):
    """A camera ('device/camera'), a strategy and a band; an empty name stands for all of them taken together."""

    camera: str = ""
    strategy: str = ""
    band: str = ""
    is_exploration: bool = False

    @property
    def text(self) -> str:
        """As a person says it: 'edge-1/gate, rule-1, 0.2 to 0.3'."""
        if self.is_exploration:
            return "exploration (the random slice)"
        return ", ".join(part for part in (self.camera, self.strategy, self.band) if part) or "all cells"


EXPLORATION = Cell(is_exploration=True)

# From fine to coarse: where labels are few, cells are taken together until every one of them has its floor.
TOGETHER = ("", "bands", "bands and strategies", "bands, strategies and cameras")


def merged(cell: Cell, level: int) -> Cell:
    """The cell that `cell` is part of, once everything in `TOGETHER[level]` is taken together."""
    if cell.is_exploration:
        return cell
    camera, strategy, band = (name if part < 3 - level else "" for part, name in enumerate(cell[:3]))
    return Cell(camera, strategy, band)


def cell_of(sample: Sample, thresholds: Thresholds, edges: Sequence[float] = MISS_BINS) -> Cell:
    """The cell of a sample at the operating thresholds that its device had; the random slice is one cell.

    edges: lower edges of the bands, ascending.
    """
    if sample.random_slice:
        return EXPLORATION
    return Cell(camera_of(sample), sample.strategy, band_of(sample.detections, thresholds, edges))


def band_of(detections: Sequence[Detection], thresholds: Thresholds, edges: Sequence[float] = MISS_BINS) -> str:
    """The band of the most confident detection below its class's threshold: where a miss is likeliest to lie."""
    doubtful = [
        found.confidence
        for found in detections
        if found.confidence < thresholds.get(found.class_name, DEFAULT_THRESHOLD)
    ]
    if not doubtful:
        return NOTHING_IN_DOUBT
    return band_names(edges)[int(np.searchsorted(np.asarray(edges), max(doubtful), side="right"))]


def band_names(edges: Sequence[float] = MISS_BINS) -> list[str]:
    """Of all bands, the least confident first, and of images without any doubt."""
    between = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}", *between, f"{edges[-1]:g} and up", NOTHING_IN_DOUBT]
