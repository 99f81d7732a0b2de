"""Masks: which pixels of an image an object covers, as run lengths, and their IoU.

COCO's uncompressed form: down the columns, first the number of pixels outside, then inside, then outside, and so on.
A mask of a large object has a few hundred runs, whatever its image has pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Mask:
    """size: (height, width) of the image. counts: (k,) int64 run lengths, their sum is height x width.

    Raises DataError for counts that do not fill the image.
    """

    size: tuple[int, int]
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if (self.counts < 0).any() or int(self.counts.sum()) != self.size[0] * self.size[1]:
            raise DataError(
                f"mask: its runs have {int(self.counts.sum())} pixels, its image of {self.size[0]} x {self.size[1]} "
                f"has {self.size[0] * self.size[1]}: write height and width of the image as its size"
            )

    @classmethod
    def of_pixels(cls, pixels: NDArray[np.bool_]) -> Mask:
        """pixels: (height, width), True inside."""
        column_after_column = pixels.ravel(order="F")
        changes = np.flatnonzero(column_after_column[1:] != column_after_column[:-1]) + 1
        counts = np.diff(np.concatenate([[0], changes, [pixels.size]]))
        starts_inside = bool(pixels.size) and bool(column_after_column[0])
        height, width = pixels.shape
        return cls((height, width), np.concatenate([[0], counts]) if starts_inside else counts)

    def pixels(self) -> NDArray[np.bool_]:
        """(height, width), True inside."""
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(self.size[::-1]).T

    @property
    def area(self) -> int:
        """Pixels inside."""
        return int(self.counts[1::2].sum())

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The smallest box around it, in pixels; all 0 for a mask without pixels."""
        ends = np.cumsum(self.counts)
        starts, ends = (ends - self.counts)[1::2], ends[1::2]
        starts, ends = starts[ends > starts], ends[ends > starts]
        if not len(starts):
            return 0.0, 0.0, 0.0, 0.0
        height = self.size[0]
        left, right = starts[0] // height, (ends[-1] - 1) // height
        spans_columns = starts // height != (ends - 1) // height  # such a run reaches a lower and an upper edge
        top = 0 if spans_columns.any() else int((starts % height).min())
        bottom = height if spans_columns.any() else int(((ends - 1) % height).max()) + 1
        return float(left), float(top), float(right + 1), float(bottom)


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union in pixels; 0 where both are without pixels. Raises DataError for different images."""
    if a.size != b.size:
        raise DataError(f"masks of {a.size} and {b.size} pixels: they are not of one image, or one of them was resized")
    ends_of_a, ends_of_b = np.cumsum(a.counts), np.cumsum(b.counts)
    ends = np.union1d(ends_of_a, ends_of_b)
    starts = np.concatenate([[0], ends[:-1]])
    in_both = (np.searchsorted(ends_of_a, starts, "right") % 2 == 1) & (
        np.searchsorted(ends_of_b, starts, "right") % 2 == 1
    )
    both = int((ends - starts)[in_both].sum())
    union = a.area + b.area - both
    return both / union if union else 0.0
