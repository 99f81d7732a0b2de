"""Does the edge software work on this machine? Asked after an install and before an upgrade takes over."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from tasks.core.errors import SettingsError
from tasks.core.settings import DeviceSettings


def check_installation(device: DeviceSettings) -> Iterator[str]:
    """A line for each thing that was tried and works.

    Raises SettingsError for the first that does not.
    """
    import onnxruntime

    yield f"edgeloop {version('edgeloop')}, Python {platform.python_version()}, {platform.machine()}"
    yield f"ONNX Runtime {onnxruntime.__version__}: {', '.join(onnxruntime.get_available_providers())}"
    yield f"OpenCV {cv2.__version__}: {_jpeg_bytes()} bytes of JPEG"
    yield f"spool {_writable(Path(device.outbox))}"
    if device.trusted_root:
        yield f"trusted root {_readable(Path(device.trusted_root))}"
    else:
        yield "no trusted_root: releases are not followed"


def _jpeg_bytes() -> int:
    """Of a grey picture."""
    works, data = cv2.imencode(".jpg", np.full((64, 64, 3), 128, np.uint8))
    if not works:
        raise SettingsError("OpenCV cannot encode JPEG here: install opencv-python-headless again")
    return len(data)


def _writable(folder: Path) -> Path:
    probe = folder / f".check-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"edgeloop")
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"{folder}: cannot be written ({error.strerror}): give this user a folder of its own"
        ) from None
    return folder


def _readable(path: Path) -> Path:
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}): copy root.json of the project there") from None
    return path
