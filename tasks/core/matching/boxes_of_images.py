"""Boxes of all images as columns: stacked, ranked, and who overlaps whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.matching.outcome import Floats, ImageResult, Integers

MATCHING_FLOOR = 0.005  # the lowest confidence that takes part
MAX_DETECTIONS = 300  # of an image, the most confident ones

PAIRS_AT_ONCE = 1_000_000  # bounds the memory of the IoU computation to about 200 MB


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of all images. `confidence` is nan for ground truths."""

    image: Integers
    row: Integers
    class_id: Integers
    xyxy: Floats
    confidence: Floats

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows: NDArray[Any]) -> Boxes:
        return Boxes(self.image[rows], self.row[rows], self.class_id[rows], self.xyxy[rows], self.confidence[rows])


def stack_detections(results: Sequence[ImageResult]) -> Boxes:
    counts = np.array([len(result.detections) for result in results], np.int64)
    return Boxes(
        image=np.repeat(np.arange(len(results)), counts),
        row=_positions_within(counts),
        class_id=_stack([result.detections.class_id for result in results], np.int64),
        xyxy=_stack([result.detections.xyxy for result in results], np.float64).reshape(-1, 4),
        confidence=_stack([result.detections.confidence for result in results], np.float64),
    )


def stack_truths(results: Sequence[ImageResult]) -> tuple[Boxes, Boxes]:
    """Ordinary ground truths, and crowd regions."""
    counts = np.array([len(result.truths) for result in results], np.int64)
    boxes = Boxes(
        image=np.repeat(np.arange(len(results)), counts),
        row=_positions_within(counts),
        class_id=_stack([result.truths.class_id for result in results], np.int64),
        xyxy=_stack([result.truths.xyxy for result in results], np.float64).reshape(-1, 4),
        confidence=np.full(int(counts.sum()), np.nan),
    )
    crowd = _stack([result.truths.crowd for result in results], np.bool_)
    return boxes[~crowd], boxes[crowd]


def _stack(columns: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros_like(columns[0][:0]), *columns]).astype(dtype) if columns else np.zeros(0, dtype)


def rank_detections(boxes: Boxes) -> Boxes:
    """From the floor up, by image and descending confidence, the first 300 of each image."""
    rows = np.flatnonzero(boxes.confidence >= MATCHING_FLOOR)
    # Image and confidence as one integer, for numbers above 0 are ordered as their bits are: seven columns are sorted
    # ten times as slowly, and only ties need them.
    keys = (boxes.image[rows] << 32) - boxes.confidence[rows].astype(np.float32).view(np.int32)
    order = np.argsort(keys)
    rows, keys = rows[order], keys[order]
    tied = np.zeros(len(keys), np.bool_)
    tied[1:] = keys[1:] == keys[:-1]
    tied[:-1] |= tied[1:]
    rows[tied] = _rank_ties(boxes, np.sort(rows[tied]))
    return boxes[rows[_positions_within(np.bincount(boxes.image[rows])) < MAX_DETECTIONS]]


def _rank_ties(boxes: Boxes, rows: Integers) -> Integers:
    """`rows` by image and descending confidence, and then by their coordinates and class."""
    some = boxes[rows]
    x1, y1, x2, y2 = some.xyxy.T
    return rows[np.lexsort((some.class_id, y2, x2, y1, x1, -some.confidence, some.image))]


def _positions_within(counts: Integers) -> Integers:
    """0, 1, 2, ... anew for each group: counts [2, 3] give 0 1 0 1 2."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


# --- who overlaps whom -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs of a ground truth and a detection that overlap: their rows, and their IoU."""

    truth: Integers
    detection: Integers
    iou: Floats


def same_class_overlaps(truths: Boxes, detections: Boxes) -> Overlaps:
    pairs = [
        (truth[iou > 0], detection[iou > 0], iou[iou > 0])
        for same_class in equal_pairs(*image_and_class(truths, detections))
        for truth, detection in [_side_by_side(truths.xyxy, detections.xyxy, *same_class)]
        for iou in [iou_by_row(truths.xyxy[truth], detections.xyxy[detection])]
    ]
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Overlaps(*(np.concatenate(column) for column in zip(nothing, *pairs)))


def _side_by_side(a: Floats, b: Floats, of_a: Integers, of_b: Integers) -> tuple[Integers, Integers]:
    """The pairs of rows that could overlap: most do not in x or in y, which costs less to see than their IoU."""
    for low, high in ((0, 2), (1, 3)):
        near = (a[of_a, low] < b[of_b, high]) & (b[of_b, low] < a[of_a, high])
        of_a, of_b = of_a[near], of_b[near]
    return of_a, of_b


def image_and_class(left: Boxes, right: Boxes) -> tuple[Integers, Integers]:
    """One number for each combination of image and class, for the boxes of both sides."""
    classes = 1 + max(left.class_id.max(initial=0), right.class_id.max(initial=0))
    return left.image * classes + left.class_id, right.image * classes + right.class_id


def equal_pairs(left: Integers, right: Integers) -> Iterator[tuple[Integers, Integers]]:
    """All pairs of rows whose keys are equal, some of them at a time so that memory stays bounded."""
    order = np.argsort(right, kind="stable")
    first = np.searchsorted(right, left, "left", sorter=order)
    counts = np.searchsorted(right, left, "right", sorter=order) - first
    rows = np.flatnonzero(counts)
    shares = np.cumsum(counts[rows]) // PAIRS_AT_ONCE
    for some in np.split(rows, np.flatnonzero(np.diff(shares)) + 1):
        of_right = np.repeat(first[some], counts[some]) + _positions_within(counts[some])
        yield np.repeat(some, counts[some]), order[of_right]


def areas(xyxy: Floats) -> Floats:
    return np.asarray((xyxy[:, 2] - xyxy[:, 0]).clip(min=0) * (xyxy[:, 3] - xyxy[:, 1]).clip(min=0))


def intersection(a: Floats, b: Floats) -> Floats:
    """(n, 4) and (n, 4), row by row, to (n,) square pixels."""
    return areas(np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1))


def iou_by_row(a: Floats, b: Floats) -> Floats:
    """Row by row; 0 where a box has no area."""
    both = intersection(a, b)
    return np.asarray(both / np.maximum(areas(a) + areas(b) - both, np.finfo(np.float64).tiny))
