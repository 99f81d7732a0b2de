"""Samples for tests: their bytes follow from a number."""

from __future__ import annotations

import hashlib
import random
from datetime import datetime, timedelta, timezone
from typing import Any

from tasks.core.entities import Sample, sample_id_of


def a_sample(number: int, size: int = 3000, **fields: Any) -> tuple[Sample, bytes]:
    """A sample and its image: `size` bytes that begin and end like a JPEG."""
    jpeg = b"\xff\xd8\xff" + random.Random(number).randbytes(size - 5) + b"\xff\xd9"
    known: dict[str, Any] = {
        "sample_id": sample_id_of(jpeg),
        "sha256": hashlib.sha256(jpeg).hexdigest(),
        "device": "edge-1",
        "camera": "gate",
        "captured_at": datetime(2026, 5, 1, tzinfo=timezone.utc) + timedelta(seconds=number),
        "width": 640,
        "height": 480,
        "source": f"clip.mp4#{number}",
        "strategy": "random",
        "matched": ("random",),
        "probability": 0.5,
        "random_slice": False,
        "model_version": "stub",
        "settings_version": "all/1",
    }
    return Sample(**{**known, **fields}), jpeg
