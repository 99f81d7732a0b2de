"""A made-up yard as review items, with the input of its matching."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from tasks.adapters.review import ReviewItem
from tasks.core.entities import Detections, Label, LabelBox, Sample, detection_records, detections_from_records
from tasks.core.matching import GroundTruths, ImageResult

CLASSES = ("car", "truck", "bus")
THRESHOLDS = {"car": 0.5, "truck": 0.4, "bus": 0.6}


def yard(folder: Path, count: int, seed: int = 0) -> tuple[list[ReviewItem], list[str], list[ImageResult]]:
    """Review items with their matching's input: every fifth is not labelled. Images are only named, never decoded."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    items, labelled, results = [], [], []
    for i in range(count):
        data = b"image %d" % i
        path = folder / f"{i}.jpg"
        path.write_bytes(data)
        boxes = int(rng.integers(0, 6))
        corner, size = rng.uniform(0, 250, (boxes, 2)), rng.uniform(25, 110, (boxes, 2))
        truth, classes = np.hstack([corner, corner + size]).round(2), rng.integers(0, 3, boxes)
        copies = np.repeat(np.flatnonzero(rng.random(boxes) < 0.85), 2)
        found = truth[copies] + rng.normal(0, 0.12, (len(copies), 4)) * np.tile(size[copies], 2)
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 2)
        found_classes = np.where(rng.random(len(copies)) < 0.8, classes[copies], rng.integers(0, 3, len(copies)))
        confidence = np.append(np.sort(rng.uniform(0.006, 0.99, len(copies)))[::-1], 0.003)  # the last: below the floor
        found, found_classes = np.vstack([found, [[0, 0, 20, 20]]]), np.append(found_classes, 0)
        detections = Detections(found.astype(np.float32), confidence.astype(np.float32), found_classes, CLASSES)
        detections = detections_from_records(detection_records(detections), CLASSES)  # as they are written
        moment = datetime(2026, 3, 1, 8, tzinfo=timezone.utc) + timedelta(minutes=i)
        sha256 = hashlib.sha256(data).hexdigest()
        sample = Sample(
            sample_id=sha256[:20],
            sha256=sha256,
            device="yard-device",
            camera=f"gate-{i % 3}",
            captured_at=moment,
            width=400,
            height=400,
            strategy="random",
            matched=("random", "car low"),
            probability=0.02,
            random_slice=i % 2 == 0,
            model_version="stub",
            settings_version="all/1",
        )
        label = None
        if i % 5 != 4:
            label = Label(
                sample_id=sample.sample_id,
                boxes=tuple(LabelBox(class_name=CLASSES[c], xyxy=tuple(b)) for b, c in zip(truth.tolist(), classes)),
                annotator="ann",
                labelled_at=moment,
            )
            labelled.append(sample.sample_id)
            results.append(ImageResult(detections, GroundTruths(truth, classes, np.zeros(boxes, np.bool_))))
        items.append(ReviewItem(path, sample, detections, label, "train", f"batch-{i // 10}", "0123456789abcdef"))
    return items, labelled, results
