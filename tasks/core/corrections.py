"""How much people corrected of what a model had shown them: the price of a pre-annotation, and what it was worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.boxes import iou_matrix
from tasks.core.entities import LabelBox
from tasks.core.matching import LOCALISATION_IOU, MATCHING_IOU

SAME_PIXELS = 1.0  # programs round coordinates: a corner that went less far was not moved by a person


@dataclass(frozen=True, slots=True)
class Corrections:
    """What a person did to the boxes that they were shown, in boxes. shown: how many these were."""

    shown: int = 0
    added: int = 0
    removed: int = 0
    moved: int = 0
    renamed: int = 0

    @property
    def total(self) -> int:
        return self.added + self.removed + self.moved + self.renamed

    def __add__(self, other: Corrections) -> Corrections:
        return Corrections(
            self.shown + other.shown,
            self.added + other.added,
            self.removed + other.removed,
            self.moved + other.moved,
            self.renamed + other.renamed,
        )


def count_corrections(seed: Sequence[LabelBox], boxes: Sequence[LabelBox]) -> int:
    """How many boxes of `seed` a person removed, moved or renamed, and how many they added, until it became `boxes`."""
    return corrections_of(seed, boxes).total


def corrections_of(seed: Sequence[LabelBox], boxes: Sequence[LabelBox]) -> Corrections:
    """The same by kind.

    A box was left alone when it has its class and no corner went a pixel or more. Of the others, one was moved when it
    still overlaps a box of its class (IoU >= 0.1), and renamed when it lies on one of another class (IoU >= 0.5): the
    limits by which an evaluation tells bad localisation and classification from an object that was not seen. What has
    no counterpart was removed or added. Each of these is one correction; no box is the counterpart of two.
    """
    if not seed or not boxes:
        return Corrections(shown=len(seed), added=len(boxes), removed=len(seed))
    before, after = (np.array([box.xyxy for box in side], np.float64) for side in (seed, boxes))
    names_before, names_after = (np.array([box.class_name for box in side]) for side in (seed, boxes))
    same_class = names_before[:, None] == names_after
    shift = np.abs(before[:, None] - after[None]).max(axis=2)
    iou = iou_matrix(before, after)

    free = np.ones(iou.shape, np.bool_)
    left_alone = _pair_off(np.where(same_class & (shift < SAME_PIXELS), 1 - shift, -1.0), 0.0, free)
    moved = _pair_off(np.where(same_class, iou, -1.0), LOCALISATION_IOU, free)
    renamed = _pair_off(np.where(~same_class, iou, -1.0), MATCHING_IOU, free)
    removed, added = (len(side) - left_alone - moved - renamed for side in (seed, boxes))
    return Corrections(len(seed), added, removed, moved, renamed)


def _pair_off(likeness: NDArray[np.float64], least: float, free: NDArray[np.bool_]) -> int:
    """Pairs of `least` likeness or more, the most alike first, one a row and column; `free` loses what they take."""
    pairs = 0
    while True:
        best = np.unravel_index(np.where(free, likeness, -1.0).argmax(), likeness.shape)
        if not free[best] or likeness[best] < least:
            return pairs
        free[best[0], :] = False
        free[:, best[1]] = False
        pairs += 1
