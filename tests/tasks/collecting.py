"""What the collector's tests share: pictures, devices, releases, and what arrived in the bucket."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from tasks.adapters.bucket import Bucket
from tasks.collector import read_status
from tasks.core import layout
from tasks.core.entities import STUB, DeviceStatus, Release, Sample, sample_id_of
from tasks.core.settings import DeviceSettings, SamplingSettings
from tests.adapters.models import sha256_of
from tests.adapters.signing import publish, trusted_root

ROOT = Path(__file__).parents[2]
CAR = (20, 20, 16, 16, 0, 0.9)
TRUCK = (32, 32, 20, 10, 1, 0.4)


def a_folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        pixels = np.full((48, 64, 3), 40, np.uint8)
        cv2.rectangle(pixels, (index % 40, 5), (index % 40 + 12, 30), (0, 2 * index, 255 - 2 * index), -1)
        cv2.imwrite(str(folder / f"{index:04d}.{'png' if index % 4 == 0 else 'jpg'}"), pixels)
    return folder


def sampling(fraction: float = 0.5, **fields) -> SamplingSettings:
    return SamplingSettings(
        sampling_strategies=[{"type": "random", "name": "random", "traffic_percentage": fraction}], **fields
    )


def a_device(tmp_path: Path, source: Path | str, bucket: str | None = None, **fields) -> DeviceSettings:
    return DeviceSettings(
        **{
            "name": "edge-1",
            "project": "yard",
            "bucket": bucket or f"file://{tmp_path}/bucket",
            "cameras": [{"name": "gate", "source": str(source)}],
            "outbox": str(tmp_path / "outbox"),
            "segment_samples": 4,
            "segment_seconds": 0.3,
            "poll_seconds": 0.1,
            "status_seconds": 0.5,
            "threads": 1,
            "trusted_root": trusted_root(),
            **fields,
        }
    )


def unpublished(model: Path | None = None, settings: SamplingSettings | None = None, **fields) -> Release:
    """A release of a model's file, or of the stub."""
    digest = sha256_of(model) if model else ""
    return Release(
        **{
            "group": "all",
            "number": 1,
            "created_at": datetime(2026, 5, 1, tzinfo=timezone.utc),
            "class_names": ("car", "truck"),
            "model_version": digest[:16] if model else STUB,
            "model_sha256": digest,
            "settings": settings or sampling(),
            **fields,
        }
    )


def a_release(
    bucket: Bucket,
    model: Path | None = None,
    settings: SamplingSettings | None = None,
    *,
    now: datetime | None = None,
    **fields,
) -> Release:
    """Publish a release, with its model's file. now: the time of its signatures."""
    if model is not None:
        bucket.upload(layout.model_file(sha256_of(model)[:16], "model.onnx"), model)
    return publish(bucket, unpublished(model, settings, **fields), now=now)


def until(device: DeviceSettings, condition: Callable[[DeviceStatus], object], seconds: float = 60.0):
    """Something to call while a device collects: returns its status once that is as it should be."""

    def wait() -> DeviceStatus:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = read_status(device.outbox)
            if status is not None and condition(status):
                return status
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds:g} s: {status}")

    return wait


def segments_of(bucket: Bucket, device: str = "edge-1") -> list[list[Sample]]:
    """The segments' samples; they are consecutive from 1, every image is there and is what its sample says."""
    keys = bucket.list(f"{layout.device_prefix(device)}/segments/")
    assert keys == [layout.segment(device, n) for n in range(1, len(keys) + 1)]
    segments = []
    for key in keys:
        samples, problems = bucket.read_lines(key, Sample)
        assert problems == []
        segments.append(samples)
    for sample in (s for samples in segments for s in samples):
        image = bucket.get(layout.sample_image(device, sample.captured_at, sample.sample_id))
        assert sample_id_of(image) == sample.sample_id
        decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape[:2] == (sample.height, sample.width)
    return segments


def samples_of(bucket: Bucket) -> list[Sample]:
    return [sample for samples in segments_of(bucket) for sample in samples]


def images_of(bucket: Bucket) -> list[str]:
    return bucket.list("devices/edge-1/samples/")
