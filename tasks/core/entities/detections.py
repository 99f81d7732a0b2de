"""Frames and what a model sees in them, as numpy columns in memory and as JSON records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.core.entities.base import Record, Xyxy


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
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.confidence)

    def __getitem__(self, rows: Any) -> Detections:
        """The rows of a mask, a slice or an index array."""
        return Detections(self.xyxy[rows], self.confidence[rows], self.class_id[rows], self.class_names)

    @classmethod
    def empty(cls, class_names: Sequence[str] = ()) -> Detections:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), tuple(class_names))

    @property
    def names(self) -> list[str]:
        """The class name of every row."""
        return [self.class_names[i] for i in self.class_id]


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
