"""The kinds of model: how each wants its input, and what its output means.

All give candidates in pixels of the model's input, already cut at the confidence floor: boxes are computed only for
what passes it, in most frames a handful among thousands of locations. The best class of a location counts, as in both
reference implementations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector.model_file import ModelFile
from tasks.adapters.detector.tasks import Beside, beside_boxes
from tasks.core.boxes import Letterbox
from tasks.core.errors import ModelError
from tasks.core.sampling import CLASSIFICATION

YOLOX_STRIDES = (8, 16, 32)
_NMS_FREE_COLUMNS = 6  # x1, y1, x2, y2, score, class
_FAR = 1e6  # pixels: beyond every frame, so that a box clipped to it is the whole frame


@dataclass(frozen=True, slots=True)
class Candidates:
    """xyxy: (n, 4) float32, pixels of the model's input. confidence: (n,) float32. class_id: (n,), the model's ids.

    beside: (n, columns) float32, what the model says of each box besides, as `tasks.Beside` has it; None for nothing.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    beside: NDArray[np.float32] | None = None

    def __getitem__(self, rows: Any) -> Candidates:
        beside = None if self.beside is None else self.beside[rows]
        return Candidates(self.xyxy[rows], self.confidence[rows], self.class_id[rows], beside)


class ModelFormat(Protocol):
    """What a detector must know of a kind of model."""

    @property
    def name(self) -> str: ...

    @property
    def swaps_to_rgb(self) -> bool:
        """The input's planes are red, green, blue; else blue, green, red."""

    @property
    def divisor(self) -> float:
        """Pixel values 0..255 are divided by it."""

    @property
    def needs_nms(self) -> bool: ...

    @property
    def antialiases(self) -> bool:
        """Every pixel of a frame counts when it is shrunk, as with Pillow; else four make a pixel of the input."""

    def letterbox(self, image_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox: ...

    def decode(self, output: NDArray[np.float32], floor: float) -> Candidates: ...


@dataclass(frozen=True, slots=True)
class UltralyticsFormat:
    """YOLOv5u, YOLOv8, YOLO11 and the one-to-many head of YOLO26: (1, 4 + classes, n), rows cx, cy, w, h, scores.

    beside: how many rows follow the scores.
    """

    beside: int = 0
    name: str = "ultralytics"
    swaps_to_rgb: bool = True
    divisor: float = 255.0
    needs_nms: bool = True
    antialiases: bool = False

    def letterbox(self, image_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        return Letterbox.centred(image_size, input_size)

    def decode(self, output: NDArray[np.float32], floor: float) -> Candidates:
        scores = output[0, 4 : output.shape[1] - self.beside]
        best = scores.max(axis=0)
        columns = np.flatnonzero(best >= floor)
        centre, size = output[0, :2, columns], output[0, 2:4, columns]
        beside = output[0, output.shape[1] - self.beside :, columns] if self.beside else None
        return Candidates(_corners(centre, size), best[columns], scores[:, columns].argmax(axis=0), beside)


@dataclass(frozen=True, slots=True)
class NmsFreeFormat:
    """The one-to-one head of YOLO26 and YOLOv10: (1, k, 6), rows x1, y1, x2, y2, score, class; no NMS.

    beside: how many columns follow.
    """

    classes: int
    beside: int = 0
    name: str = "ultralytics-nms-free"
    swaps_to_rgb: bool = True
    divisor: float = 255.0
    needs_nms: bool = False
    antialiases: bool = False

    def letterbox(self, image_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        return Letterbox.centred(image_size, input_size)

    def decode(self, output: NDArray[np.float32], floor: float) -> Candidates:
        rows = output[0][output[0, :, 4] >= floor]
        class_id = rows[:, 5].astype(np.int64)
        if len(class_id) and (class_id.min() < 0 or class_id.max() >= self.classes):
            raise ModelError(
                f"the model's output names classes {class_id.min()} to {class_id.max()}, but it has {self.classes} "
                f"classes: go back to another model"
            )
        return Candidates(rows[:, :4], rows[:, 4], class_id, rows[:, _NMS_FREE_COLUMNS:] if self.beside else None)


@dataclass(frozen=True, slots=True)
class ClassifyFormat:
    """YOLO classifiers: (1, classes), probabilities. Every class from the floor up is a candidate: the whole frame.

    The input is the middle of the frame, as `classify_transforms` of ultralytics 8.4 cuts it out.
    """

    name: str = "ultralytics-classify"
    swaps_to_rgb: bool = True
    divisor: float = 255.0
    needs_nms: bool = False
    antialiases: bool = True

    def letterbox(self, image_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        return Letterbox.middle(image_size, input_size)

    def decode(self, output: NDArray[np.float32], floor: float) -> Candidates:
        class_id = np.flatnonzero(output[0] >= floor)
        everywhere = np.tile(np.array([-_FAR, -_FAR, _FAR, _FAR], np.float32), (len(class_id), 1))
        return Candidates(everywhere, output[0, class_id], class_id)


@dataclass(frozen=True, slots=True)
class YoloxFormat:
    """YOLOX before decoding: (1, n, 5 + classes), columns cx, cy, w, h, objectness, scores, for strides 8, 16, 32.

    centre = (raw + grid) * stride, size = exp(raw) * stride, score = objectness * best class (YOLOX, yolo_head.py).
    """

    image_size: tuple[int, int]
    name: str = "yolox"
    swaps_to_rgb: bool = False
    divisor: float = 1.0
    needs_nms: bool = True
    antialiases: bool = False
    grid: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    stride: NDArray[np.float32] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        grid, stride = _yolox_grid(self.image_size)
        object.__setattr__(self, "grid", grid)
        object.__setattr__(self, "stride", stride)

    def letterbox(self, image_size: tuple[int, int], input_size: tuple[int, int]) -> Letterbox:
        return Letterbox.top_left(image_size, input_size)

    def decode(self, output: NDArray[np.float32], floor: float) -> Candidates:
        # A score is at most its objectness, so that most rows are gone before their classes are looked at.
        rows = np.flatnonzero(output[0, :, 4] >= floor)
        scores = output[0, rows, 5:]
        class_id = scores.argmax(axis=1)
        confidence = output[0, rows, 4] * scores[np.arange(len(rows)), class_id]
        above = confidence >= floor
        rows, class_id, confidence = rows[above], class_id[above], confidence[above]
        stride = self.stride[rows]
        centre = (output[0, rows, :2] + self.grid[rows]) * stride
        with np.errstate(over="ignore"):  # an overflow becomes inf, which the detector refuses
            size = np.exp(output[0, rows, 2:4]) * stride
        return Candidates(_corners(centre, size), confidence, class_id)


def _corners(centre: NDArray[np.float32], size: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 2) centres and sides to (n, 4) xyxy."""
    half = size / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _yolox_grid(image_size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Grid position (n, 2) and stride (n, 1) of every output row: strides from fine to coarse, rows of cells first."""
    grids, strides = [], []
    for stride in YOLOX_STRIDES:
        y, x = np.meshgrid(np.arange(image_size[0] // stride), np.arange(image_size[1] // stride), indexing="ij")
        grids.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)


def recognise(file: ModelFile, named: Sequence[str] | None) -> tuple[ModelFormat, tuple[str, ...], Beside]:
    """The format of a model, its class names, those of the file, or else those that the user named, and its task.

    Raises ModelError for a task, head or output that is not known, and for a file whose class names nobody gives.
    """
    _check_head(file)
    beside = beside_boxes(file)
    format_, classes = _by_shape(file, beside)
    names = file.names or (tuple(named) if named else None)
    if names is None:
        count = "its classes" if classes is None else f"its {classes} classes"
        raise ModelError(
            f"{file.where}: the file does not name {count}: pass --classes (coco80, or the names in order)"
        )
    if classes is not None and classes != len(names):
        raise ModelError(
            f"{file.where}: the output {file.output_shape} has {classes} classes, but {len(names)} names are given: "
            f"pass --classes with {classes} names"
        )
    return (NmsFreeFormat(len(names), beside.columns) if format_ is None else format_), names, beside


def _check_head(file: ModelFile) -> None:
    if file.metadata.get("head") == "RTDETRDecoder":
        raise ModelError(f"{file.where}: RT-DETR's output is not supported: pass a YOLO or YOLOX model")
    arguments = file.metadata.get("args")
    if isinstance(arguments, dict) and arguments.get("nms") is True and file.metadata.get("end2end") is not True:
        raise ModelError(
            f"{file.where}: it was exported with nms=True, which cuts confidences off inside the model and hides what "
            f"sampling looks for: export it without nms"
        )


def _by_shape(file: ModelFile, beside: Beside) -> tuple[ModelFormat | None, int | None]:
    """The format and how many classes its output has; both None for the NMS-free head, whose output does not say."""
    shape = file.output_shape
    if beside.task == CLASSIFICATION:
        if len(shape) == 2 and shape[0] == 1:
            return ClassifyFormat(), shape[1]
        raise ModelError(f"{file.where}: the output {shape} is none of a classifier: expected (1, classes)")
    if len(shape) == 3 and shape[0] == 1:
        _, rows, columns = shape
        known = None if file.names is None else len(file.names)
        is_ultralytics = "end2end" in file.metadata or "stride" in file.metadata
        if not is_ultralytics and rows == _locations(file.image_size) and columns > 5 and known in (None, columns - 5):
            return YoloxFormat(file.image_size), columns - 5
        classes = rows - 4 - beside.columns
        if classes > 0 and (classes == known or columns == _locations(file.image_size)):
            return UltralyticsFormat(beside.columns), classes
        if columns == _NMS_FREE_COLUMNS + beside.columns:
            return None, None
    more = f" + {beside.columns}" if beside.columns else ""
    raise ModelError(
        f"{file.where}: the output {shape} is of no known format: expected (1, 4 + classes{more}, n) or "
        f"(1, k, 6{more}) of ultralytics, or (1, {_locations(file.image_size)}, 5 + classes) of YOLOX"
    )


def _locations(image_size: tuple[int, int]) -> int:
    """Cells of all three strides."""
    return sum((image_size[0] // stride) * (image_size[1] // stride) for stride in YOLOX_STRIDES)
