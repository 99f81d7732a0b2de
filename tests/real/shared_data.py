"""Where real photographs, videos and weights lie, and the mark that skips a test without them."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"
VEHICLES = SHARED / "data" / "vehicles"
VIDEO = SHARED / "data" / "car-detection.mp4"
YOLOX_NANO = SHARED / "weights" / "yolox_nano.onnx"
VEHICLE_CLASSES = ("ambulance", "bus", "car", "motorcycle", "truck")


def needs(*paths: Path) -> pytest.MarkDecorator:
    """Skip, naming the missing folder, where real data is absent."""
    missing = [path for path in paths if not path.exists()]
    return pytest.mark.skipif(bool(missing), reason=f"no real data: {', '.join(map(str, missing))} is not there")
