"""A short video, and a model whose confidences follow its brightness: something to see, to miss and to repeat."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
from onnx import numpy_helper

from tests.adapters.models import CLASSES, constant_model, saved, ultralytics_output

START = datetime(2026, 1, 5, 12, 0, 58, tzinfo=timezone.utc)  # a minute begins within the first frames
FRAMES = 120


def a_video(path: Path, frames: int = FRAMES) -> Path:
    """10 frames a second of 64 x 48 pixels: a car that moves, light that comes and goes, and stretches of stillness."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for index in range(frames):
        moment = index - index % 12 if index % 36 < 12 else index
        light = 110 + 100 * np.sin(moment / 7)
        pixels = np.full((48, 64, 3), light, np.uint8)
        pixels[:, ::7] = 255 - pixels[:, ::7]
        cv2.rectangle(pixels, (moment % 50, 8), (moment % 50 + 12, 32), (0, 2 * moment % 256, 200), -1)
        pixels[40:, 56:] = 2 * index  # equal pictures would be one sample
        writer.write(pixels)
    writer.release()
    return path


def light_detector(path: Path) -> Path:
    """A detector that is the surer of a car the brighter the picture is, and of a truck the darker; both boxes move."""
    rows = [((20, 20, 16, 16), (0.0, 0.0)), ((40, 34, 20, 10), (0.0, 0.8))]
    answer = ultralytics_output(rows, len(CLASSES))
    slope = np.zeros_like(answer)
    slope[0, 4, 0], slope[0, 5, 1] = 0.95, -0.9  # confidences of the car and the truck, times the mean of 0 to 1
    slope[0, 0, :2], answer[0, 0, :2] = (90, -60), (-18, 70)
    model = constant_model(answer, names=CLASSES)
    for constant in model.graph.initializer:
        if constant.name == "zero":  # what the mean is multiplied with before it is added
            constant.CopyFrom(numpy_helper.from_array(slope, "zero"))
    return saved(model, path.parent, path.name)
