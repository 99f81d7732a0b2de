"""cv2: boxes of named classes are hidden in a picture before it is written anywhere.

    hidden = Privacy(device.privacy).hidden(frame.pixels, detections)

What is blurred follows from at most 16 colours, the means of a grid of 4 x 4 cells, and cells are never smaller than 8
pixels: everything finer is not weakened but gone, and no sharpening brings it back.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.core.entities import Detections
from tasks.core.settings.device import PrivacySettings

MOST_CELLS = 4  # along each side of a hidden box
SMALLEST_CELL = 8  # pixels; a box of less than two of them becomes one colour


class Privacy:
    """What a device hides. Local: no release switches it off."""

    def __init__(self, settings: PrivacySettings) -> None:
        self._classes = tuple(dict.fromkeys(settings.classes))
        self._is_black = settings.method == "black"
        self._margin = settings.margin

    @property
    def is_needed(self) -> bool:
        return bool(self._classes)

    def check(self, class_names: Sequence[str]) -> list[str]:
        """The classes that are to be hidden and that a model cannot see, in their order.

        class_names: those that the model itself gives to boxes, so without a detector's `missing_classes`: a stub sees
        none. A device refuses a release, and keeps no picture, for as long as there is one.
        """
        known = set(class_names)
        return [name for name in self._classes if name not in known]

    def hidden(self, pixels: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """A copy of `pixels`, (height, width, 3), with all boxes of the classes hidden; `pixels` where there are none.

        detections: from the confidence floor up. Boxes may reach over the picture's edge or lie outside. Where the
        detections do not know one of the classes, nobody can say where it is, and all of the picture is hidden.
        """
        if not self._classes:
            return pixels
        if self.check(detections.class_names):
            return self._with_hidden(pixels, [(0, 0, pixels.shape[1], pixels.shape[0])])
        wanted = np.array([name in self._classes for name in detections.class_names], bool)
        rows = wanted[detections.class_id] if len(detections) else np.zeros(0, bool)
        boxes = _widened(detections.xyxy[rows], self._margin, pixels.shape[1], pixels.shape[0])
        return self._with_hidden(pixels, boxes) if boxes else pixels

    def _with_hidden(self, pixels: NDArray[np.uint8], boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
        copy = pixels.copy()
        for left, top, right, bottom in boxes:
            region = copy[top:bottom, left:right]
            region[:] = 0 if self._is_black else _blurred(region)
        return copy


def _widened(xyxy: NDArray[np.float32], margin: float, width: int, height: int) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) in whole pixels inside the picture, rounded outwards; those outside are left out.

    margin: of each box's width and height, added on all four sides. A side that is not finite is the picture's edge,
    and a box whose sides are swapped is the box between them.
    """
    edges = np.array([0, 0, width, height], np.float64)
    sides = np.where(np.isfinite(xyxy), xyxy, edges)
    low, high = np.minimum(sides[:, :2], sides[:, 2:]), np.maximum(sides[:, :2], sides[:, 2:])
    added = margin * (high - low)
    outwards = np.concatenate([np.floor(low - added), np.ceil(high + added)], axis=1)
    whole = np.clip(outwards, 0, edges[[2, 3, 2, 3]]).astype(int)
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in whole.tolist() if x1 < x2 and y1 < y2]


def _blurred(region: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The means of a coarse grid of cells, with smooth transitions between them, in the region's size."""
    height, width = region.shape[:2]
    cells = tuple(max(1, min(MOST_CELLS, side // SMALLEST_CELL)) for side in (width, height))
    means = cv2.resize(region, cells, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(means, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
