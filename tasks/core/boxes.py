"""Boxes: IoU, class-wise non-maximum suppression, clipping, and the geometry of letterboxing.

Boxes are `xyxy` in pixels: x to the right, y down, (x1, y1) the upper left corner, (x2, y2) the lower right one, both
continuous coordinates (a box that covers one pixel has x2 - x1 = 1). All functions are pure and deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# NMS compares candidates in blocks of this many: large enough that numpy's overhead is paid rarely, small enough that
# the matrix of a block stays in the cache.
NMS_BLOCK = 128


def areas(xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Areas of boxes (..., 4) in square pixels; 0 where a box is empty or turned inside out."""
    sides = np.maximum(xyxy[..., 2:] - xyxy[..., :2], 0.0, dtype=np.float64)
    return np.asarray(sides[..., 0] * sides[..., 1], np.float64)


def iou_matrix(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every box of `a` (n, 4) with every box of `b` (m, 4), as (n, m).

    A pair without any area has IoU 0, never NaN.
    """
    first = np.asarray(a, np.float64).reshape(-1, 4)
    second = np.asarray(b, np.float64).reshape(-1, 4)
    # Coordinate by coordinate: four (n, m) planes are about twice as fast as one (n, m, 4) cube.
    width = np.minimum(first[:, None, 2], second[:, 2]) - np.maximum(first[:, None, 0], second[:, 0])
    height = np.minimum(first[:, None, 3], second[:, 3]) - np.maximum(first[:, None, 1], second[:, 1])
    intersection = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = areas(first)[:, None] + areas(second) - intersection
    iou: NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    return iou


def confidence_order(xyxy: NDArray[Any], confidence: NDArray[Any], class_id: NDArray[Any]) -> NDArray[np.int64]:
    """Row indices in descending confidence; ties go by x1, y1, x2, y2, then class."""
    return np.lexsort((class_id, xyxy[:, 3], xyxy[:, 2], xyxy[:, 1], xyxy[:, 0], -confidence)).astype(np.int64)


def nms(
    xyxy: NDArray[Any], confidence: NDArray[Any], class_id: NDArray[Any], iou: float, limit: int | None = None
) -> NDArray[np.int64]:
    """Greedy class-wise non-maximum suppression.

    A box is suppressed by a kept box of the same class that comes before it (see `confidence_order`) and overlaps it by
    more than `iou`. xyxy: (n, 4). confidence, class_id: (n,). Returns the indices of the kept rows in that order, at
    most `limit` of them.
    """
    if len(confidence) < 2:
        return np.arange(len(confidence))[:limit]
    order = confidence_order(xyxy, confidence, class_id)
    boxes, classes = np.asarray(xyxy, np.float64)[order], np.asarray(class_id)[order]
    kept = np.zeros(0, np.int64)
    for start in range(0, len(order), NMS_BLOCK):
        block = np.arange(start, min(start + NMS_BLOCK, len(order)))
        if start:
            block = block[~_overlaps(boxes[kept], classes[kept], boxes[block], classes[block], iou).any(axis=0)]
        survivors = block[_survivors(_overlaps(boxes[block], classes[block], boxes[block], classes[block], iou))]
        kept = np.concatenate([kept, survivors]) if start else survivors
        if limit is not None and len(kept) >= limit:
            break
    return order[kept[:limit]]


def _overlaps(
    boxes: NDArray[np.float64],
    classes: NDArray[Any],
    others: NDArray[np.float64],
    other_classes: NDArray[Any],
    iou: float,
) -> NDArray[np.bool_]:
    """Which boxes (n) would suppress which others (m), were they kept: (n, m)."""
    overlaps = iou_matrix(boxes, others) > iou
    overlaps &= classes[:, None] == other_classes
    return overlaps


def _survivors(overlaps: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Greedy choice within a block, from its symmetric (n, n) matrix of who would suppress whom, best first."""
    alive = np.ones(len(overlaps), np.bool_)
    # Only rows that overlap another one than themselves can change anything; in most frames these are few.
    for row in np.flatnonzero(np.count_nonzero(overlaps, axis=1) > 1):
        if alive[row]:
            alive[row + 1 :] &= ~overlaps[row, row + 1 :]
    return np.flatnonzero(alive)


def clip_boxes(xyxy: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Boxes (n, 4) cut to an image of `width` x `height` pixels; a copy, with the dtype kept."""
    clipped: NDArray[Any] = np.clip(xyxy, 0, np.array([width, height, width, height], xyxy.dtype))
    return clipped


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image lies in a model's input: scaled with its aspect kept, the rest padded.

    image_size, input_size, resized: (height, width) in pixels of the image, the model's input, and the scaled image in
    it. scale: input pixels an image pixel, (x, y). pad: of the left and the top edge, (x, y), input pixels.
    """

    image_size: tuple[int, int]
    input_size: tuple[int, int]
    resized: tuple[int, int]
    scale: tuple[float, float]
    pad: tuple[int, int]

    @classmethod
    def top_left(cls, image_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        """YOLOX: the image in the upper left corner, sides rounded down, one scale for both axes.

        After `preproc` of YOLOX's data_augment.py; boxes go back through the scale before rounding, as there.
        """
        scale = _largest_scale(image_size, input_size)
        resized = (max(int(image_size[0] * scale), 1), max(int(image_size[1] * scale), 1))
        return cls(image_size, input_size, resized, (scale, scale), (0, 0))

    @classmethod
    def centred(cls, image_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        """Ultralytics: the image in the middle, sides rounded to the nearest, an odd padding pixel right and below.

        After `LetterBox` (auto=False, scaleup=True) and `ops.scale_boxes` of ultralytics 8.4: boxes go back through the
        rounded sides, so the two axes may differ in scale.
        """
        scale = _largest_scale(image_size, input_size)
        resized = (max(round(image_size[0] * scale), 1), max(round(image_size[1] * scale), 1))
        pad = (round((input_size[1] - resized[1]) / 2 - 0.1), round((input_size[0] - resized[0]) / 2 - 0.1))
        return cls(image_size, input_size, resized, (resized[1] / image_size[1], resized[0] / image_size[0]), pad)

    @classmethod
    def middle(cls, image_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        """Ultralytics' classifiers: nothing is padded, but the longer sides are cut off; `pad` is negative there.

        After `classify_transforms` of ultralytics 8.4 (Resize and CenterCrop of torchvision): a square input is the
        middle of the image scaled to fill it; for any other the image is stretched.
        """
        _largest_scale(image_size, input_size)  # refuses what has no pixels
        resized = input_size
        if input_size[0] == input_size[1]:
            side, (height, width) = input_size[0], image_size
            resized = (side, int(side * width / height)) if height <= width else (int(side * height / width), side)
        scale = (resized[1] / image_size[1], resized[0] / image_size[0])
        pad = (-round((resized[1] - input_size[1]) / 2), -round((resized[0] - input_size[0]) / 2))
        return cls(image_size, input_size, resized, scale, pad)

    def to_image(self, xyxy: NDArray[Any]) -> NDArray[np.float32]:
        """Boxes (n, 4) of the model's input in pixels of the image, clipped to it; float32."""
        offset = np.array([*self.pad, *self.pad], np.float32)
        scale = np.array([*self.scale, *self.scale], np.float32)
        height, width = self.image_size
        return clip_boxes((xyxy.astype(np.float32) - offset) / scale, width, height)

    def to_input(self, xyxy: NDArray[Any]) -> NDArray[np.float32]:
        """Boxes (n, 4) of the image in pixels of the model's input; float32."""
        offset = np.array([*self.pad, *self.pad], np.float32)
        scale = np.array([*self.scale, *self.scale], np.float32)
        return xyxy.astype(np.float32) * scale + offset


def _largest_scale(image_size: tuple[int, int], input_size: tuple[int, int]) -> float:
    if min(*image_size, *input_size) < 1:
        raise ValueError(f"an image of {image_size} pixels (height, width) does not fit an input of {input_size}")
    return min(input_size[0] / image_size[0], input_size[1] / image_size[1])
