"""What a short script with OpenCV and ONNX Runtime does with a frame: letterbox, session, NMS.

It knows nothing of the project, so that the process of a peer, in an environment of its own, runs the very same.
"""

from pathlib import Path

import cv2
import numpy as np

FLOOR, NMS_IOU = 0.05, 0.6
MAX_DETECTIONS = 300


def open_session(model: Path, threads: int):
    """An ONNX Runtime session with the options that every contender has."""
    import onnxruntime as ort  # not above: whoever calls has first switched off what it would tell its vendor

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


class PlainDetect:
    """A frame to the number of its detections. is_yolox: the model's output is YOLOX's; else ultralytics'."""

    def __init__(self, session, *, is_yolox: bool) -> None:
        self._session, self._is_yolox = session, is_yolox
        self._input = session.get_inputs()[0]
        self._side = self._input.shape[2]
        self._grid = yolox_grid(self._side)

    def __call__(self, pixels: np.ndarray) -> int:
        side, is_yolox = self._side, self._is_yolox
        scale = min(side / pixels.shape[0], side / pixels.shape[1])
        scaled = cv2.resize(pixels, (int(pixels.shape[1] * scale), int(pixels.shape[0] * scale)))
        below, right = side - scaled.shape[0], side - scaled.shape[1]
        padded = cv2.copyMakeBorder(scaled, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
        blob = cv2.dnn.blobFromImage(padded, 1.0 if is_yolox else 1 / 255, swapRB=not is_yolox)
        output = self._session.run(None, {self._input.name: blob})[0][0]
        boxes, scores = self._of_yolox(output) if is_yolox else (output[:4].T, output[4:].T)
        best, classes = scores.max(axis=1), scores.argmax(axis=1)
        corners = np.column_stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]]) / scale
        above = best >= FLOOR
        candidates = corners[above].tolist(), best[above].tolist(), classes[above].tolist()
        return len(cv2.dnn.NMSBoxesBatched(*candidates, FLOOR, NMS_IOU, top_k=MAX_DETECTIONS))

    def _of_yolox(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centres, strides = self._grid[:, :2], self._grid[:, 2:]
        boxes = np.column_stack([(output[:, :2] + centres) * strides, np.exp(output[:, 2:4]) * strides])
        return boxes, output[:, 4:5] * output[:, 5:]


def yolox_grid(side: int) -> np.ndarray:
    """(locations, 3): column, row and stride of each of YOLOX's locations."""
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(side // stride) for x in range(side // stride)]
    return np.array(cells, np.float32)
