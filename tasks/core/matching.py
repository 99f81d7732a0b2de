"""Predictions <-> labels, matched once for every threshold.

Per image and class, in descending confidence, each detection takes the unmatched ground truth of its class with the
highest IoU >= 0.5. What a threshold cuts away comes after everything that it keeps and so cannot have changed it:
one pass from 0.005 up serves every threshold. With s(g) the confidence of the detection that took ground truth g,

    g is missed at threshold t    exactly when    s(g) < t, or nothing took g

Match first, cut afterwards: a matcher that drops low confidences first destroys the evidence of where the misses are.

A ground truth that nothing took is blind, of the first kind that applies, judged against all detections from 0.005 up
(in the spirit of TIDE, Bolya et al. 2020):

    localisation      a detection of its class with 0.1 <= IoU < 0.5
    classification    a detection of another class with IoU >= 0.5
    unseen            neither

Crowd regions follow COCO. They are neither hit nor missed and have no row in the result. A detection that took no
ground truth and has at least half of its area inside a crowd region of its class is ignored: neither true nor false.

Nothing depends on the order of the input. Detections of equal confidence go by their coordinates, then their class;
ground truths of equal IoU go by their coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities import Detections
from tasks.core.errors import DataError, LabelsInvalid

if TYPE_CHECKING:
    from typing_extensions import Self  # the devices' Python 3.10 has none of its own

MATCHING_FLOOR = 0.005  # the lowest confidence that takes part
MATCHING_IOU = 0.5
LOCALISATION_IOU = 0.1
MAX_DETECTIONS = 300  # of an image, the most confident ones

PAIRS_AT_ONCE = 1_000_000  # bounds the memory of the IoU computation to about 200 MB

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class GroundTruths:
    """The labelled boxes of one image, as columns.

    xyxy: (n, 4) absolute pixels. class_id: (n,) index into the project's class list. crowd: (n,) a region of many
    objects that are not labelled one by one.

    Raises LabelsInvalid for a box without area or with coordinates that are not finite, and for a negative class.
    """

    xyxy: NDArray[Any]
    class_id: NDArray[Any]
    crowd: Booleans

    def __post_init__(self) -> None:
        if self.xyxy.shape != (len(self.class_id), 4) or len(self.crowd) != len(self.class_id):
            raise LabelsInvalid(
                f"ground truths: {self.xyxy.shape} boxes for {len(self.class_id)} classes and {len(self.crowd)} crowd "
                f"flags: give one row of each for every box"
            )
        sides = self.xyxy[:, 2:] - self.xyxy[:, :2]
        bad = ~(np.isfinite(self.xyxy).all(axis=1) & (sides > 0).all(axis=1))
        if bad.any():
            row = int(bad.argmax())
            raise LabelsInvalid(f"ground truth {row}: box {self.xyxy[row].tolist()} has no area: correct or remove it")
        if (self.class_id < 0).any():
            row = int((self.class_id < 0).argmax())
            raise LabelsInvalid(f"ground truth {row}: class {self.class_id[row]} is not in the project's class list")

    def __len__(self) -> int:
        return len(self.class_id)

    @classmethod
    def empty(cls) -> GroundTruths:
        """An image that was reviewed and found empty."""
        return cls(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.bool_))


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One labelled image and what a model saw in it, NMS-clean, at 0.005 or below.

    Raises DataError for a confidence outside 0..1 or a coordinate that is not finite. A detection without area is
    legal: it overlaps nothing, so it is false.
    """

    detections: Detections
    truths: GroundTruths

    def __post_init__(self) -> None:
        confidence = self.detections.confidence
        bad = ~((confidence >= 0) & (confidence <= 1) & np.isfinite(self.detections.xyxy).all(axis=1))
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"detection {row}: confidence {confidence[row]}, box {self.detections.xyxy[row].tolist()}: both must "
                f"be finite and the confidence within 0..1; check the model's output"
            )


class _Columns:
    """Columns of equal length: rows are picked from all of them at once."""

    __slots__ = ()

    def __getitem__(self, rows: NDArray[Any]) -> Self:
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))  # type: ignore[arg-type]

    def columns(self) -> dict[str, NDArray[Any]]:
        """One-dimensional arrays by name, as a table wants them; `xyxy` becomes x1, y1, x2, y2."""
        table: dict[str, NDArray[Any]] = {}
        for field in fields(self):  # type: ignore[arg-type]
            column = getattr(self, field.name)
            table |= dict(zip(("x1", "y1", "x2", "y2"), column.T)) if field.name == "xyxy" else {field.name: column}
        return table

    @classmethod
    def from_columns(cls, table: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of `columns`."""
        boxes = np.stack([np.asarray(table[side], np.float64) for side in ("x1", "y1", "x2", "y2")], axis=1)
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: boxes if name == "xyxy" else np.asarray(table[name]) for name in names})


@dataclass(frozen=True, slots=True)
class MatchedTruths(_Columns):
    """Every ground truth but crowd regions, one row each, in the order of the input."""

    image: Integers  # position of its image in the input
    row: Integers  # position in its image's GroundTruths
    class_id: Integers
    xyxy: Floats  # (n, 4) absolute pixels
    area: Floats  # square pixels
    confidence: Floats  # s: of the detection that took it; nan where none did
    detection: Integers  # row in the detections' columns that took it; -1 where none did
    blind: NDArray[np.str_]  # "localisation", "classification" or "unseen"; "" where a detection took it
    best_iou: Floats  # the highest with any detection of its class; 0 without any

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, slots=True)
class MatchedDetections(_Columns):
    """Every detection that took part, by image, then in descending confidence."""

    image: Integers  # position of its image in the input
    row: Integers  # position in its image's Detections
    class_id: Integers
    xyxy: Floats  # (n, 4) absolute pixels
    confidence: Floats
    is_true: Booleans  # it took a ground truth
    is_ignored: Booleans  # it lies in a crowd region: neither true nor false
    truth: Integers  # row in the truths' columns that it took; -1 where it took none

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, slots=True)
class Matches:
    """The matching's outcome for `images` images, those without any box included."""

    images: int
    truths: MatchedTruths
    detections: MatchedDetections

    def columns(self) -> dict[str, dict[str, NDArray[Any]]]:
        """`{"truths": {name: (n,) array}, "detections": {name: (m,) array}}`, ready to be written as two tables."""
        return {"truths": self.truths.columns(), "detections": self.detections.columns()}

    @classmethod
    def from_columns(cls, images: int, tables: Mapping[str, Mapping[str, NDArray[Any]]]) -> Matches:
        """The inverse of `columns`; a table cannot know of images without boxes, so `images` comes beside it."""
        return cls(
            images,
            MatchedTruths.from_columns(tables["truths"]),
            MatchedDetections.from_columns(tables["detections"]),
        )


def match(results: Sequence[ImageResult]) -> Matches:
    """Match all images at once. Linear in the number of boxes: 5,000 images x 100 detections in about a second."""
    detections = _rank_detections(_stack_detections(results))
    truths, crowds = _stack_truths(results)

    same_class = _same_class_overlaps(truths, detections)
    taker, taken = _take_greedily(same_class, truths, detections)

    best_iou = np.zeros(len(truths))
    np.maximum.at(best_iou, same_class.truth, same_class.iou)
    return Matches(
        images=len(results),
        truths=MatchedTruths(
            image=truths.image,
            row=truths.row,
            class_id=truths.class_id,
            xyxy=truths.xyxy,
            area=_area(truths.xyxy),
            confidence=np.append(detections.confidence, np.nan)[taker],  # -1 picks the nan
            detection=taker,
            blind=_blind_kinds(taker, same_class, truths, detections),
            best_iou=best_iou,
        ),
        detections=MatchedDetections(
            image=detections.image,
            row=detections.row,
            class_id=detections.class_id,
            xyxy=detections.xyxy,
            confidence=detections.confidence,
            is_true=taken >= 0,
            is_ignored=(taken < 0) & _in_crowd(crowds, detections),
            truth=taken,
        ),
    )


def match_image(detections: Detections, truths: GroundTruths) -> Matches:
    """Match a single image."""
    return match([ImageResult(detections, truths)])


# --- columns over all images -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Boxes:
    """Boxes of all images. `confidence` is nan for ground truths."""

    image: Integers
    row: Integers
    class_id: Integers
    xyxy: Floats
    confidence: Floats

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows: NDArray[Any]) -> _Boxes:
        return _Boxes(self.image[rows], self.row[rows], self.class_id[rows], self.xyxy[rows], self.confidence[rows])


def _stack_detections(results: Sequence[ImageResult]) -> _Boxes:
    counts = np.array([len(result.detections) for result in results], np.int64)
    return _Boxes(
        image=np.repeat(np.arange(len(results)), counts),
        row=_positions_within(counts),
        class_id=_stack([result.detections.class_id for result in results], np.int64),
        xyxy=_stack([result.detections.xyxy for result in results], np.float64).reshape(-1, 4),
        confidence=_stack([result.detections.confidence for result in results], np.float64),
    )


def _stack_truths(results: Sequence[ImageResult]) -> tuple[_Boxes, _Boxes]:
    """Ordinary ground truths, and crowd regions."""
    counts = np.array([len(result.truths) for result in results], np.int64)
    boxes = _Boxes(
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


def _rank_detections(boxes: _Boxes) -> _Boxes:
    """From the floor up, by image and descending confidence, the first 300 of each image."""
    boxes = boxes[boxes.confidence >= MATCHING_FLOOR]
    x1, y1, x2, y2 = boxes.xyxy.T
    boxes = boxes[np.lexsort((boxes.class_id, y2, x2, y1, x1, -boxes.confidence, boxes.image))]
    return boxes[_positions_within(np.bincount(boxes.image)) < MAX_DETECTIONS]


def _positions_within(counts: Integers) -> Integers:
    """0, 1, 2, ... anew for each group: counts [2, 3] give 0 1 0 1 2."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


# --- who overlaps whom -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Overlaps:
    """Pairs of a ground truth and a detection that overlap: their rows, and their IoU."""

    truth: Integers
    detection: Integers
    iou: Floats


def _same_class_overlaps(truths: _Boxes, detections: _Boxes) -> _Overlaps:
    pairs = [
        (truth[iou > 0], detection[iou > 0], iou[iou > 0])
        for truth, detection in _pairs(*_image_and_class(truths, detections))
        for iou in [_iou(truths.xyxy[truth], detections.xyxy[detection])]
    ]
    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return _Overlaps(*(np.concatenate(column) for column in zip(nothing, *pairs)))


def _image_and_class(left: _Boxes, right: _Boxes) -> tuple[Integers, Integers]:
    """One number for each combination of image and class, for the boxes of both sides."""
    classes = 1 + max(left.class_id.max(initial=0), right.class_id.max(initial=0))
    return left.image * classes + left.class_id, right.image * classes + right.class_id


def _pairs(left: Integers, right: Integers) -> Iterator[tuple[Integers, Integers]]:
    """All pairs of rows whose keys are equal, some of them at a time so that memory stays bounded."""
    order = np.argsort(right, kind="stable")
    first = np.searchsorted(right, left, "left", sorter=order)
    counts = np.searchsorted(right, left, "right", sorter=order) - first
    rows = np.flatnonzero(counts)
    shares = np.cumsum(counts[rows]) // PAIRS_AT_ONCE
    for some in np.split(rows, np.flatnonzero(np.diff(shares)) + 1):
        of_right = np.repeat(first[some], counts[some]) + _positions_within(counts[some])
        yield np.repeat(some, counts[some]), order[of_right]


def _area(xyxy: Floats) -> Floats:
    return np.asarray((xyxy[:, 2] - xyxy[:, 0]).clip(min=0) * (xyxy[:, 3] - xyxy[:, 1]).clip(min=0))


def _intersection(a: Floats, b: Floats) -> Floats:
    """(n, 4) and (n, 4), row by row, to (n,) square pixels."""
    return _area(np.concatenate([np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])], axis=1))


def _iou(a: Floats, b: Floats) -> Floats:
    """Row by row; 0 where a box has no area."""
    both = _intersection(a, b)
    return np.asarray(both / np.maximum(_area(a) + _area(b) - both, np.finfo(np.float64).tiny))


# --- decisions -------------------------------------------------------------------------------------------------------


def _take_greedily(overlaps: _Overlaps, truths: _Boxes, detections: _Boxes) -> tuple[Integers, Integers]:
    """For each ground truth the detection that took it, for each detection the ground truth it took; -1 for none."""
    x1, y1, x2, y2 = truths.xyxy.T
    place = np.empty(len(truths), np.int64)
    place[np.lexsort((y2, x2, y1, x1))] = np.arange(len(truths))

    pairs = np.flatnonzero(overlaps.iou >= MATCHING_IOU)
    # Detections lie in descending confidence, so their row numbers are their turns.
    keys = (place[overlaps.truth[pairs]], -overlaps.iou[pairs], overlaps.detection[pairs])
    pairs = pairs[np.lexsort(keys)]

    taker, taken = [-1] * len(truths), [-1] * len(detections)
    for truth, detection in zip(overlaps.truth[pairs].tolist(), overlaps.detection[pairs].tolist()):
        if taker[truth] < 0 and taken[detection] < 0:
            taker[truth], taken[detection] = detection, truth
    return np.array(taker, np.int64), np.array(taken, np.int64)


def _blind_kinds(taker: Integers, same_class: _Overlaps, truths: _Boxes, detections: _Boxes) -> NDArray[np.str_]:
    badly_placed = np.zeros(len(truths), np.bool_)
    near = (same_class.iou >= LOCALISATION_IOU) & (same_class.iou < MATCHING_IOU)
    badly_placed[same_class.truth[near]] = True

    misnamed = np.zeros(len(truths), np.bool_)
    blind = np.flatnonzero(taker < 0)
    for some, detection in _pairs(truths.image[blind], detections.image):
        truth = blind[some]
        other_class = truths.class_id[truth] != detections.class_id[detection]
        truth, detection = truth[other_class], detection[other_class]
        misnamed[truth[_iou(truths.xyxy[truth], detections.xyxy[detection]) >= MATCHING_IOU]] = True

    return np.select([taker >= 0, badly_placed, misnamed], ["", "localisation", "classification"], "unseen")


def _in_crowd(crowds: _Boxes, detections: _Boxes) -> Booleans:
    """Detections with at least half of their area in a crowd region of their class."""
    inside = np.zeros(len(detections), np.bool_)
    for crowd, detection in _pairs(*_image_and_class(crowds, detections)):
        boxes = detections.xyxy[detection]
        both = _intersection(crowds.xyxy[crowd], boxes)
        inside[detection[(both > 0) & (both >= MATCHING_IOU * _area(boxes))]] = True
    return inside
