"""What tests of consumers and of /infer share: frames, detections, and a count of what was dropped."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import numpy as np

from tasks.core.entities import Detections, Frame
from tasks.core.settings import DeviceSettings

NAMES = ("car", "truck")
START = datetime(2026, 5, 1, 12, 0, 0, 40_000, tzinfo=timezone.utc)


def a_frame(index: int = 0, camera: str = "gate", source: str = "", height: int = 48, width: int = 64) -> Frame:
    return Frame(
        np.zeros((height, width, 3), np.uint8), camera, START + timedelta(milliseconds=100 * index), index, source
    )


def some_detections(*rows: tuple[int, float]) -> Detections:
    """A box for each (class id, confidence)."""
    return Detections(
        np.array([[n, n, n + 10, n + 20] for n in range(len(rows))], np.float32).reshape(len(rows), 4),
        np.array([confidence for _, confidence in rows], np.float32),
        np.array([class_id for class_id, _ in rows], np.int64),
        NAMES,
    )


def device_with(*consumers: dict, **fields) -> DeviceSettings:
    return DeviceSettings(name="gate-1", project="yard", bucket="bucket", consumers=consumers, **fields)


class Drops(Counter):
    """Reasons, counted from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def __call__(self, reason: str) -> None:
        with self._lock:
            self[reason] += 1


def until(holds: Callable[[], object], seconds: float = 20) -> None:
    """Wait for it; fail after so long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
