"""What the tests of central's stages share: a project on a real bucket, real pictures, samples, and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np

from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Batch, DatasetVersion, Detection, Label, LabelBox, Sample, sample_id_of
from tasks.core.settings import ProjectSettings
from tasks.redeploy import import_model
from tasks.retrain import build_dataset
from tests.adapters.models import constant_detector

WIDTH, HEIGHT = 64, 48
MODEL = "0123456789abcdef"
NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


def a_project(tmp_path: Path, bucket: str = "", **fields) -> ProjectSettings:
    known = {
        "project": "yard",
        "bucket": bucket or f"file://{tmp_path}/bucket",
        "work": str(tmp_path / "work"),
        "signing_keys": str(tmp_path / "keys"),
        "classes": ("car", "truck"),
    }
    labelling = fields.pop("labelling", {"folder": str(tmp_path / "labelling"), "max_images": 3})
    return ProjectSettings(**{**known, **fields, "labelling": {"interface": "files", **labelling}})


def a_picture(number: int, width: int = WIDTH, height: int = HEIGHT, suffix: str = ".jpg") -> bytes:
    """An encoded picture of its own for every number."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    cv2.putText(pixels, str(number), (2, height - 8), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 255 - number % 200), 2)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def a_sample(number: int, jpeg: bytes | None = None, **fields) -> Sample:
    """The sample of `a_picture(number)`, taken `number` minutes after noon."""
    jpeg = jpeg or a_picture(number)
    known = {
        "sample_id": sample_id_of(jpeg),
        "sha256": hashlib.sha256(jpeg).hexdigest(),
        "device": "edge-1",
        "camera": "gate",
        "captured_at": NOON + timedelta(minutes=number),
        "width": WIDTH,
        "height": HEIGHT,
        "strategy": "random",
        "matched": ("random",),
        "probability": 0.5,
        "random_slice": False,
        "model_version": MODEL,
        "settings_version": "all/1",
        "detections": (seen("car", 0.9), seen("truck", 0.3)),
    }
    return Sample(**{**known, **fields})


def seen(name: str, confidence: float, xyxy=(10.0, 10.0, 30.0, 30.0)) -> Detection:
    return Detection(class_name=name, confidence=confidence, xyxy=xyxy)


def box(name: str, x: float, y: float, side: float = 20.0) -> LabelBox:
    return LabelBox(class_name=name, xyxy=(x, y, x + side, y + side))


def label(sample: Sample, *boxes: LabelBox, **fields) -> Label:
    known = {"sample_id": sample.sample_id, "boxes": boxes, "annotator": "ann", "labelled_at": NOON}
    return Label(**{**known, **fields})


def put_images(project: ProjectSettings, samples: Iterable[Sample], numbers: Iterable[int]) -> None:
    """The pictures of samples, where devices put them."""
    for sample, number in zip(samples, numbers):
        key = layout.sample_image(sample.device, sample.captured_at, sample.sample_id)
        Central(project).bucket.put(key, a_picture(number))


def commit(project: ProjectSettings, number: int, samples: Iterable[Sample], device: str = "edge-1") -> None:
    """A segment, as a device writes it."""
    Central(project).bucket.create_lines(layout.segment(device, number), list(samples))


def a_batch(project: ProjectSettings, numbers: Iterable[int], **fields) -> Batch:
    """A batch in the bucket, with its images."""
    numbers = list(numbers)
    samples = tuple(a_sample(number) for number in numbers)
    put_images(project, samples, numbers)
    known = {"batch_id": "today", "created_at": NOON, "class_names": project.classes, "samples": samples}
    return Central(project).store_batch(Batch(**{**known, **fields}))


# --- a project with a measured model ---------------------------------------------------------------------------------

SEEN_BOX, OTHER_BOX, BLIND_BOX = box("car", 10, 10), box("car", 36, 20), box("car", 0, 28)
A_SURE_CAR, AN_UNSURE_CAR = (20, 28, 20, 20, 0, 0.9), (46, 38, 20, 20, 0, 0.3)  # SEEN_BOX and OTHER_BOX, letterboxed


def a_model(project: ProjectSettings, folder: Path, boxes=(A_SURE_CAR, AN_UNSURE_CAR)) -> str:
    """A detector that sees the same `boxes` in every image, as a model version of the project."""
    return import_model(project, constant_detector(folder / "model.onnx", boxes)).model_version


def a_labelled_month(project: ProjectSettings, days: int = 40, **fields) -> DatasetVersion:
    """A random image a day, each with a car that the model sees, every second one with a car that it overlooks."""
    samples = [
        a_sample(n, captured_at=NOON + timedelta(days=n), **{"random_slice": True, **fields}) for n in range(days)
    ]
    batch = a_batch(project, (), samples=tuple(samples))
    put_images(project, samples, range(days))
    labels = [label(s, SEEN_BOX, *([BLIND_BOX] if n % 2 else [])) for n, s in enumerate(samples)]
    revision, _ = Central(project).store_labels(batch, labels)
    return build_dataset.fn(project, {batch.batch_id: revision}, "")
