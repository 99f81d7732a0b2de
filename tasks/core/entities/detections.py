"""Frames and what a model sees in them, as numpy columns in memory and as JSON records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.entities.base import Record, Xyxy
from tasks.core.masks import Mask

OBJECT_DETECTION = "object-detection"
CLASSIFICATION = "classification"


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of one camera. Never crosses a task boundary.

    pixels: (height, width, 3) uint8, BGR. index: position in its source, from 0. source: what it was read from (the
    name of a file, `clip.mp4#12` for a frame of a video, empty for a live camera).
    """

    pixels: NDArray[np.uint8]
    camera: str
    captured_at: datetime
    index: int = 0
    source: str = ""

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])


@dataclass(frozen=True, slots=True)
class Detections:
    """What a model saw in one frame, as columns, in descending confidence.

    xyxy: (n, 4) float32 absolute pixels. confidence: (n,) float32. class_id: (n,) int64, an index into `class_names`.
    task: what the model does, in the words of sampling; for "classification" there is one row a class, each with the
    whole frame as its box, and the first row is the top class. masks: one a row. keypoints: (n, k, 3) float32 x, y in
    absolute pixels, and confidence. Both only where they were asked for, and the model has them.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    class_names: tuple[str, ...]
    task: str = OBJECT_DETECTION
    masks: tuple[Mask, ...] | None = None
    keypoints: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.confidence)

    def __getitem__(self, rows: Any) -> Detections:
        """The rows of a mask, a slice or an index array."""
        return Detections(
            self.xyxy[rows],
            self.confidence[rows],
            self.class_id[rows],
            self.class_names,
            self.task,
            None if self.masks is None else tuple(self.masks[i] for i in np.arange(len(self.masks))[rows]),
            None if self.keypoints is None else self.keypoints[rows],
        )

    @classmethod
    def empty(cls, class_names: Sequence[str] = (), task: str = OBJECT_DETECTION) -> Detections:
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        return cls(*nothing, tuple(class_names), task)

    @property
    def names(self) -> list[str]:
        """The class name of every row."""
        return [self.class_names[i] for i in self.class_id]

    @property
    def top_classes(self) -> tuple[str, ...]:
        """The top class of a classification; none of any other task, and where no class reaches the floor."""
        return tuple(self.names[:1]) if self.task == CLASSIFICATION else ()

    def scaled(self, x: float, y: float) -> Detections:
        """Of the same frame, x and y times as wide and high. Masks, which are of a frame's own pixels, are left out."""
        keypoints = None if self.keypoints is None else self.keypoints * np.array([x, y, 1], np.float32)
        return replace(self, xyxy=self.xyxy * np.array([x, y, x, y], np.float32), masks=None, keypoints=keypoints)


class Detection(Record):
    """One box of a model, as JSON."""

    schema_version: int = Field(1, exclude=True)
    class_name: str
    confidence: float = Field(ge=0, le=1)
    xyxy: Xyxy


def detection_records(detections: Detections) -> tuple[Detection, ...]:
    """Columns to JSON records; confidences keep 6 digits, coordinates a hundredth of a pixel."""
    return tuple(
        Detection(class_name=name, confidence=round(float(score), 6), xyxy=tuple(round(float(v), 2) for v in box))
        for name, score, box in zip(detections.names, detections.confidence, detections.xyxy)
    )


def detections_from_records(records: Sequence[Detection], class_names: Sequence[str]) -> Detections:
    """JSON records to columns; records of classes that `class_names` lacks are left out."""
    index = {name: i for i, name in enumerate(class_names)}
    known = [r for r in records if r.class_name in index]
    if not known:
        return Detections.empty(class_names)
    return Detections(
        np.array([r.xyxy for r in known], np.float32),
        np.array([r.confidence for r in known], np.float32),
        np.array([index[r.class_name] for r in known], np.int64),
        tuple(class_names),
    )
