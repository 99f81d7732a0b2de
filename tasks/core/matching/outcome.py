"""What is matched, and what comes of it: columns of ground truths and detections, checked and frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities import Detections
from tasks.core.errors import DataError, LabelsInvalid
from tasks.core.masks import Mask

if TYPE_CHECKING:
    from typing_extensions import Self  # the devices' Python 3.10 has none of its own

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class GroundTruths:
    """The labelled boxes of one image, as columns.

    xyxy: (n, 4) absolute pixels. class_id: (n,) index into the project's class list. crowd: (n,) a region of many
    objects that are not labelled one by one. Where the labels say so: masks, None for one that has none; keypoints:
    (n, k, 3) x, y and visibility (0 not labelled, 1 hidden, 2 visible); area: (n,) of the objects in square pixels, of
    which keypoints need it, without it that of mask or box.

    Raises LabelsInvalid for a box without area or with coordinates that are not finite, for a negative class, and for
    shapes that are not one of each box.
    """

    xyxy: NDArray[Any]
    class_id: NDArray[Any]
    crowd: Booleans
    masks: tuple[Mask | None, ...] | None = None
    keypoints: NDArray[Any] | None = None
    area: NDArray[Any] | None = None

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
        check_shapes("ground truths", len(self), self.masks, self.keypoints, LabelsInvalid)
        if self.area is not None and not (len(self.area) == len(self) and (self.area >= 0).all()):
            raise LabelsInvalid(f"ground truths: areas {self.area.tolist()}: give one of at least 0 for every box")

    def area_of(self, row: int) -> float:
        """Square pixels of an object, as far as it is known."""
        if self.area is not None:
            return float(self.area[row])
        mask = None if self.masks is None else self.masks[row]
        if mask is not None:
            return float(mask.area)
        x1, y1, x2, y2 = self.xyxy[row].tolist()
        return float((x2 - x1) * (y2 - y1))

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
        check_shapes("detections", len(confidence), self.detections.masks, self.detections.keypoints, DataError)


def check_shapes(
    what: str, rows: int, masks: Sequence[Mask | None] | None, keypoints: NDArray[Any] | None, error: type[DataError]
) -> None:
    """One mask and one set of finite keypoints (k, 3) for every row; else `error`."""
    if masks is not None and len(masks) != rows:
        raise error(f"{what}: {len(masks)} masks for {rows} boxes: give one for every box")
    if keypoints is not None:
        if keypoints.ndim != 3 or keypoints.shape[0] != rows or keypoints.shape[2] != 3:
            raise error(f"{what}: keypoints are {keypoints.shape}; give (boxes, keypoints, 3) for {rows} boxes")
        if not np.isfinite(keypoints).all():
            raise error(f"{what}: keypoints must be finite numbers")


class _Columns:
    """Columns of equal length: rows are picked from all of them at once."""

    __slots__ = ()

    def __getitem__(self, rows: NDArray[Any]) -> Self:
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))  # type: ignore[arg-type]

    @classmethod
    def stacked(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one part after another."""
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

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


def _moved(rows: Integers, by: int) -> Integers:
    """Row numbers behind so many other rows; -1, none, stays."""
    return np.where(rows >= 0, rows + by, rows)


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
    """The matching's outcome for `images` images, those without any box included.

    top_only: images have one label, and what counts is the top class, at no threshold (classes_of_images.py).
    """

    images: int
    truths: MatchedTruths
    detections: MatchedDetections
    top_only: bool = False

    def columns(self) -> dict[str, dict[str, NDArray[Any]]]:
        """`{"truths": {name: (n,) array}, "detections": {name: (m,) array}}`, ready to be written as two tables."""
        return {"truths": self.truths.columns(), "detections": self.detections.columns()}

    @classmethod
    def from_columns(
        cls, images: int, tables: Mapping[str, Mapping[str, NDArray[Any]]], top_only: bool = False
    ) -> Matches:
        """The inverse of `columns`; what a table cannot know, as images without boxes, comes beside it."""
        return cls(
            images,
            MatchedTruths.from_columns(tables["truths"]),
            MatchedDetections.from_columns(tables["detections"]),
            top_only,
        )

    @classmethod
    def joined(cls, parts: Sequence[Matches]) -> Matches:
        """Images matched apart, of one kind, as if they had been matched together; at least one part."""
        before = np.cumsum([[0, 0, 0], *([p.images, len(p.truths), len(p.detections)] for p in parts)], axis=0)
        truths = [
            replace(p.truths, image=p.truths.image + images, detection=_moved(p.truths.detection, detections))
            for p, (images, _, detections) in zip(parts, before.tolist())
        ]
        detected = [
            replace(p.detections, image=p.detections.image + images, truth=_moved(p.detections.truth, truths_before))
            for p, (images, truths_before, _) in zip(parts, before.tolist())
        ]
        columns = MatchedTruths.stacked(truths), MatchedDetections.stacked(detected)
        return cls(int(before[-1, 0]), *columns, top_only=parts[0].top_only)

    @property
    def is_top(self) -> Booleans:
        """(detections,) whether it is the most confident one of its image."""
        return np.asarray(np.append(True, np.diff(self.detections.image) != 0)[: len(self.detections)], np.bool_)
