"""A project whose devices have logged the live model's traffic, with a drift that is known."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np

from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Detection, Release, Sample, TrafficRecord, sample_id_of
from tasks.core.settings import ProjectSettings
from tests.adapters.signing import publish
from tests.tasks.stages import a_model, a_sample

MADE = datetime(2026, 5, 1, 10, tzinfo=timezone.utc)
WIDTH, HEIGHT = 160, 120


def release_of(project: ProjectSettings, folder: Path) -> str:
    """A model version, in force for the project's devices since `MADE`."""
    model = a_model(project, folder)
    orders = Release(
        group=project.group,
        number=1,
        created_at=MADE,
        class_names=project.classes,
        model_version=model,
        model_sha256=Central(project).model(model).sha256,
        thresholds={"car": 0.6},
        settings=project.sampling,
    )
    publish(Central(project).bucket, orders)
    return model


def records(
    model: str,
    frames: int,
    *,
    camera: str = "gate",
    seed: int = 0,
    start: datetime = MADE,
    seconds: float = 0.5,
    worse_from: int | None = None,
    **fields,
) -> list[TrafficRecord]:
    """Traffic of independent frames, `seconds` apart; from frame `worse_from` on, confidences are a third lower."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(frames):
        confidences = np.sort(random.beta(4, 2, random.poisson(2)))[::-1]
        if worse_from is not None and number >= worse_from:
            confidences = confidences * 0.66
        known = {
            "camera": camera,
            "captured_at": start + timedelta(seconds=seconds * number),
            "rate": 0.1 if number % 2 else 0.2,
            "model_version": model,
            "class_names": ("car",) * len(confidences),
            "confidences": tuple(round(float(c), 4) for c in confidences),
        }
        found.append(TrafficRecord(**{**known, **fields}))
    return found


def log(project: ProjectSettings, traffic: list[TrafficRecord], device: str = "edge-1", size: int = 200) -> None:
    """As the device writes it: numbered objects of `size` records, after those that are there."""
    bucket = Central(project).bucket
    number = bucket.latest_number(lambda n: layout.traffic(device, n))
    for first in range(0, len(traffic), size):
        number += 1
        bucket.create_lines(layout.traffic(device, number), traffic[first : first + size])


def samples(
    project: ProjectSettings, model: str, frames: int, *, every: int = 10, worse_from: int = 10**9, side: float = 40.0
) -> list[Sample]:
    """Random samples with pictures in the bucket, one every `every` frames; darker from frame `worse_from` on."""
    random = np.random.default_rng(1)
    found = []
    for number in range(0, frames, every):
        dark = number >= worse_from
        picture = np.full((HEIGHT, WIDTH, 3), 45 if dark else 170, np.uint8)
        x, size = int(random.integers(5, 90)), side * float(random.uniform(0.8, 1.2))
        box = (float(x), 30.0, x + size, 30.0 + size)
        cv2.rectangle(picture, (x, 30), (int(x + size), int(30 + size)), (30, 30, 120 if dark else 230), -1)
        cv2.putText(picture, str(number), (2, HEIGHT - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0))
        jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        sample = a_sample(
            number,
            jpeg,
            captured_at=MADE + timedelta(seconds=0.5 * number),
            width=WIDTH,
            height=HEIGHT,
            random_slice=True,
            model_version=model,
            detections=(Detection(class_name="car", confidence=0.62 if dark else 0.9, xyxy=box),),
        )
        assert sample.sample_id == sample_id_of(jpeg)
        Central(project).bucket.put(layout.sample_image(sample.device, sample.captured_at, sample.sample_id), jpeg)
        found.append(sample)
    return found
