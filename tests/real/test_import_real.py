"""A user arrives with 627 photographs and a COCO model: the import ends with a first evaluation that can be trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.import_dataset import import_dataset
from tasks.adapters.coco import coco_figures
from tasks.adapters.config import read_project
from tasks.adapters.detector import open_detector
from tasks.adapters.labels import read_dataset
from tasks.central import Central, truths_of
from tasks.core import layout
from tasks.core.entities import DatasetVersion, Label
from tasks.core.settings import ProjectSettings
from tasks.turn import read_turns
from tests.conftest import edgeloop

CLASSES = ("ambulance", "bus", "car", "motorcycle", "truck")


def a_project(tmp_path: Path) -> ProjectSettings:
    return ProjectSettings(
        project="vehicles",
        bucket=f"file://{tmp_path}/bucket",
        work=str(tmp_path / "work"),
        classes=CLASSES,
        model_classes="coco80",
    )


def ap50_by_hand(folder: Path, model: Path) -> dict[str, float]:
    """The figures of the test photographs as they lie there: no bucket, no import, no stage."""
    import cv2

    detector = open_detector(model, project_classes=CLASSES, model_classes="coco80", confidence_floor=0.001)
    pairs = []
    for image in read_dataset(folder).images:
        if image.split == "test":
            label = Label(sample_id="0" * 20, boxes=image.boxes, annotator="", labelled_at="2026-01-01T00:00:00Z")
            pairs.append((detector.detect(cv2.imread(str(image.path))), truths_of(label, CLASSES)))
    return coco_figures(pairs, CLASSES)


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_an_import_ends_with_a_first_evaluation(shared_data, tmp_path):
    """Every photograph and box comes in with its split; figures equal a direct evaluation; twice changes nothing."""
    folder, model = shared_data / "data" / "vehicles", shared_data / "weights" / "yolox_nano.onnx"
    project = a_project(tmp_path)
    told = import_dataset(project, folder, model, {})
    assert told[0] == "imported 627 images with 1194 boxes (125 calibration, 63 test, 439 train)"
    central = Central(project)
    (turn,) = read_turns(project)
    dataset = central.bucket.read_record(layout.dataset(turn.dataset_version), DatasetVersion)
    assert dataset.counts == {"train": 439, "calibration": 125, "test": 63}
    assert sum(dataset.boxes.values()) == 1194
    assert (dataset.test_is_random, dataset.excluded) == (False, {})

    evaluations = {e.split: e for e in map(central.evaluation, central.bucket.children("evaluations"))}
    calibration, test = evaluations["calibration"], evaluations["test"]
    by_hand = ap50_by_hand(folder, model)
    assert {name: test.coco[name] for name in test.coco} == pytest.approx(
        {name: by_hand[name] for name in test.coco}, abs=1e-6
    )
    assert 0.3 < test.coco["AP50"] < 0.9
    assert calibration.classes["ambulance"].blind == calibration.classes["ambulance"].ground_truths  # not one of COCO's
    for figures in calibration.classes.values():
        assert sum(band.misses for band in figures.bands) + figures.blind == figures.misses
    assert calibration.images == 125
    assert test.thresholds == calibration.thresholds
    assert any(f"AP50 {test.coco['AP50']:.3f}" in line for line in told)
    assert any(line.startswith("car: ") and "missed on calibration" in line for line in told)

    before = {key for key in central.bucket.list() if not key.startswith("turns/")}
    import_dataset(project, folder, None, {})
    assert {key for key in central.bucket.list() if not key.startswith("turns/")} == before
    assert read_turns(project)[-1].dataset_version == turn.dataset_version


@pytest.mark.slow
def test_edgeloop_import_evaluates_a_model_at_once(shared_data, tmp_path):
    """The command of the README, without a project file and with a model that says nothing of its classes."""
    done = edgeloop(
        "import", shared_data / "data" / "vehicles", "--model", shared_data / "weights" / "yolox_nano.onnx",
        "--model-classes", "coco80", "--config", "project.yaml",
        cwd=tmp_path, timeout=400, PREFECT_HOME=str(tmp_path / "prefect"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "wrote project.yaml" in done.stdout
    assert read_project(tmp_path / "project.yaml").model_classes == "coco80"  # the loop opens the same model
    assert "imported 627 images with 1194 boxes" in done.stdout
    assert "on 63 test images: AP50 0." in done.stdout
