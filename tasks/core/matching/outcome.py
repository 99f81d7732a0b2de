"""What is matched, and what comes of it: columns of ground truths and detections, checked and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities import Detections
from tasks.core.errors import DataError, LabelsInvalid

if TYPE_CHECKING:
    from typing_extensions import Self  # the devices' Python 3.10 has none of its own

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
