"""What the collector's tests share: pictures, devices, releases, and what arrived in the bucket."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from tasks.adapters.bucket import Bucket
from tasks.adapters.releases import publish
from tasks.core import layout
from tasks.core.entities import STUB, Release, Sample, sample_id_of
from tasks.core.settings import DeviceSettings, SamplingSettings
from tests.adapters.models import sha256_of

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
            **fields,
        }
    )


def a_release(bucket: Bucket, model: Path | None = None, settings: SamplingSettings | None = None, **fields) -> Release:
    """Publish a release, with its model's file."""
    digest = sha256_of(model) if model else ""
    if model is not None:
        bucket.upload(layout.model_file(digest[:16], "model.onnx"), model)
    release = Release(
        group="all",
        number=1,
        created_at=datetime(2026, 5, 1, tzinfo=timezone.utc),
        class_names=("car", "truck"),
        model_version=digest[:16] if model else STUB,
        model_sha256=digest,
        settings=settings or sampling(),
        **fields,
    )
    return publish(bucket, release)


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
