"""What a model does beside finding boxes: the tasks that are known, and what of their outputs belongs to a box.

    task in the metadata    output of ultralytics' exports
    detect                  (1, 4 + classes, n)
    segment                 (1, 4 + classes + 32, n), and 32 prototypes (1, 32, height / 4, width / 4)
    pose                    (1, 4 + classes + keypoints x 2 or 3, n)
    classify                (1, classes), probabilities

The heads without NMS have (1, k, 6 + the same columns). Oriented boxes, depth and semantic segmentation are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector.model_file import ModelFile
from tasks.core.boxes import Letterbox
from tasks.core.entities import OBJECT_DETECTION
from tasks.core.errors import ModelError
from tasks.core.masks import Mask

TASKS = {
    "detect": OBJECT_DETECTION,
    "segment": "instance-segmentation",
    "pose": "keypoint-detection",
    "classify": "classification",
}  # of ultralytics, in the words of sampling
_AXES = (2, 3)  # x and y, and with a third the confidence


@dataclass(frozen=True, slots=True)
class Beside:
    """The columns beside box and scores. task: in the words of sampling. keypoints: how many, and 2 or 3 axes."""

    task: str = OBJECT_DETECTION
    columns: int = 0
    keypoints: tuple[int, int] | None = None


def beside_boxes(file: ModelFile) -> Beside:
    """What a file's metadata say of its task. Raises ModelError for a task or keypoints that are not known."""
    named = file.metadata.get("task", "detect")
    if named not in TASKS:
        raise ModelError(
            f"{file.where}: a model for the task {str(named)[:40]!r}; {', '.join(TASKS)} are supported: pass such a one"
        )
    task = TASKS[named]
    if named == "segment":
        if file.prototypes is None:
            raise ModelError(f"{file.where}: a model for 'segment' without prototypes of masks: export it again")
        return Beside(task, file.prototypes.shape[1])
    if named == "pose":
        count, axes = _keypoint_shape(file)
        return Beside(task, count * axes, (count, axes))
    return Beside(task)


def _keypoint_shape(file: ModelFile) -> tuple[int, int]:
    shape = file.metadata.get("kpt_shape")
    if isinstance(shape, list | tuple) and len(shape) == 2 and all(type(n) is int for n in shape):
        count, axes = shape
        if count > 0 and axes in _AXES:
            return count, axes
    raise ModelError(
        f"{file.where}: a model for 'pose' whose metadata say kpt_shape {str(shape)[:40]}, not (keypoints, 2 or 3): "
        f"export it again"
    )


def keypoints_in_image(
    columns: NDArray[np.float32], keypoints: tuple[int, int], letterbox: Letterbox
) -> NDArray[np.float32]:
    """(n, keypoints x axes) in pixels of the model's input to (n, k, 3) x, y in pixels of the frame, and confidence.

    Places are clipped to the frame, as ultralytics does (ops.scale_coords). Without a third axis the confidence is 1.
    """
    count, axes = keypoints
    points = columns.reshape(-1, count, axes)
    placed = np.ones((len(points), count, 3), np.float32)
    height, width = letterbox.image_size
    places = (points[..., :2] - np.array(letterbox.pad, np.float32)) / np.array(letterbox.scale, np.float32)
    placed[..., :2] = np.clip(places, 0, np.array([width, height], np.float32))
    if axes == max(_AXES):
        placed[..., 2] = points[..., 2]
    return placed


def masks_in_image(
    prototypes: NDArray[np.float32], coefficients: NDArray[np.float32], xyxy: NDArray[Any], letterbox: Letterbox
) -> tuple[Mask, ...]:
    """The mask of each box, (n, 4) pixels of the frame, at the frame's size.

    prototypes: (m, h, w). coefficients: (n, m). As ultralytics does it (YOLACT, Bolya et al. 2019): the prototypes'
    weighted sum, interpolated, above 0, within the box. Only what is under the box is ever computed.
    """
    return tuple(_mask(prototypes, weights, box, letterbox) for weights, box in zip(coefficients, xyxy.tolist()))


def _mask(
    prototypes: NDArray[np.float32], weights: NDArray[np.float32], box: list[float], letterbox: Letterbox
) -> Mask:
    height, width = letterbox.image_size
    left, top, right, bottom = (int(np.ceil(side)) for side in box)
    right, bottom = min(right, width), min(bottom, height)
    cells = np.array(prototypes.shape[:0:-1]) / np.array(letterbox.input_size[::-1])  # (x, y), an input pixel
    scale = np.array(letterbox.scale) * cells
    # A prototype is sampled at the centres of its cells, a frame at the centres of its pixels.
    start = (np.array([left, top]) + 0.5) * scale + np.array(letterbox.pad) * cells - 0.5
    end = start + (np.array([right, bottom]) - [left, top]) * scale
    limits = np.array(prototypes.shape[:0:-1])
    first = np.clip(np.floor(start).astype(int), 0, limits - 1)
    last = np.clip(np.ceil(end).astype(int) + 1, first + 1, limits)
    window = prototypes[:, first[1] : last[1], first[0] : last[0]]
    sums = np.tensordot(weights, window, axes=1)
    to_cells = np.array([[scale[0], 0, start[0] - first[0]], [0, scale[1], start[1] - first[1]]])
    inside = (
        cv2.warpAffine(
            sums,
            to_cells,
            (max(right - left, 1), max(bottom - top, 1)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        > 0
    )
    return _framed(inside[: bottom - top, : right - left], left, top, (height, width))


def _framed(inside: NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> Mask:
    """A part of a frame as a mask of it, of which only the part's columns are ever laid out."""
    height, width = size
    columns = np.zeros((inside.shape[1], height), np.bool_)
    columns[:, top : top + inside.shape[0]] = inside.T
    flat = np.concatenate([[False], columns.ravel(), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + left * height
    return Mask(size, np.diff(np.concatenate([[0], changes, [height * width]])))
