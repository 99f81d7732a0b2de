"""Real photographs with real labels: nothing is lost on the way in, round, or out again."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import pytest
from shared_data import VEHICLE_CLASSES, VEHICLES, needs

from tasks.adapters.labels import (
    ImportedDataset,
    labels_from_coco,
    read_dataset,
    revision_bytes,
    voc_bytes,
    write_yolo,
    yolo_text,
)
from tasks.core.entities import Label, Sample
from tasks.core.splits import IMPORTED, LabelledSample, build_entries, is_random_edition

pytestmark = needs(VEHICLES)
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def vehicles() -> ImportedDataset:
    return read_dataset(VEHICLES)


def as_samples(dataset: ImportedDataset) -> list[LabelledSample]:
    """The photographs as an import would make them."""
    found = []
    for image in dataset.images:
        sha = hashlib.sha256(image.path.read_bytes()).hexdigest()
        sample = Sample(
            sample_id=sha[:20], sha256=sha, device="import", camera=IMPORTED, captured_at=NOW, width=image.width,
            height=image.height, source=image.path.name, strategy="import", matched=("import",),
            tags=(f"split:{image.split}",), probability=1, random_slice=False, model_version="stub",
            settings_version="import",
        )  # fmt: skip
        label = Label(sample_id=sha[:20], boxes=image.boxes, annotator="import", labelled_at=NOW)
        found.append(LabelledSample(sample, label, "vehicles", 1, str(image.path)))
    return found


def test_every_photograph_and_box_is_read(vehicles):
    """627 photographs of 416 x 416 with 1,194 boxes, and each box where its line says, to a hundredth of a pixel."""
    assert (vehicles.format, vehicles.class_names, vehicles.skipped) == ("yolo", VEHICLE_CLASSES, {})
    assert Counter(i.split for i in vehicles.images) == {"train": 439, "calibration": 125, "test": 63}
    assert sum(len(i.boxes) for i in vehicles.images) == 1194
    assert {(i.width, i.height) for i in vehicles.images} == {(416, 416)}
    for image in vehicles.images:
        lines = (VEHICLES / "labels" / image.path.parent.name / f"{image.path.stem}.txt").read_text().split("\n")
        for box, line in zip(image.boxes, [x for x in lines if x], strict=True):
            class_id, cx, cy, w, h = (float(v) * 416 for v in line.split())
            assert box.class_name == VEHICLE_CLASSES[round(class_id / 416)]
            assert box.xyxy == pytest.approx((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), abs=0.0051)


def test_the_imported_splits_become_a_legacy_edition(vehicles):
    """Validation calibrates, test tests as an edition that is not random, and no photograph is left out."""
    entries, left_out = build_entries(as_samples(vehicles))
    assert Counter(e.split for e in entries) == {"train": 439, "calibration": 125, "test": 63}
    assert left_out == {}
    assert not is_random_edition(entries)
    assert len({e.cluster for e in entries}) == 627


def test_photographs_go_through_every_format_unchanged(vehicles, tmp_path):
    """Revision, YOLO for training, and VOC give back the boxes that went in."""
    labelled = as_samples(vehicles)
    samples = {i.sample.sample_id: i.sample for i in labelled}
    labels = {i.sample.sample_id: i.label for i in labelled}
    back, problems = labels_from_coco(
        revision_bytes(labels.values(), samples, VEHICLE_CLASSES), samples, VEHICLE_CLASSES, "revision"
    )
    assert not problems.counts
    assert {label.sample_id: label for label in back} == labels

    entries, _ = build_entries(labelled)
    paths = {i.sample.sample_id: Path(i.image_key) for i in labelled}
    written = write_yolo(tmp_path / "yolo", entries, VEHICLE_CLASSES, paths)
    assert written.images == {"train": 439, "calibration": 125}
    again = read_dataset(tmp_path / "yolo")
    assert {i.path.stem: i.boxes for i in again.images} == {
        e.sample.sample_id: e.label.boxes for e in entries if e.split != "test"
    }

    for image in vehicles.images[:50]:
        folder = tmp_path / "voc" / "train"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / image.path.name).write_bytes(image.path.read_bytes())
        (folder / f"{image.path.stem}.xml").write_bytes(voc_bytes(image.path.name, 416, 416, image.boxes))
        assert yolo_text(image.boxes, 416, 416, VEHICLE_CLASSES).count("\n") == len(image.boxes)
    voc = read_dataset(tmp_path / "voc")
    assert [i.boxes for i in voc.images] == [i.boxes for i in vehicles.images[:50]]
