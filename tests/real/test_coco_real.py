"""The COCO figures of a real model on real photographs, against pycocotools."""

import cv2
import pytest

from tasks.adapters.coco import COCO_FIGURES, class_figure, coco_figures
from tasks.adapters.detector import open_detector
from tasks.adapters.labels import read_dataset
from tasks.central import truths_of
from tasks.core.entities import Label
from tests.adapters.test_coco import by_pycocotools
from tests.real.shared_data import VEHICLE_CLASSES, VEHICLES, YOLOX_NANO, needs

AP_FLOOR = 0.001  # above it, AP changes


@pytest.mark.slow
@needs(VEHICLES, YOLOX_NANO)
def test_all_twelve_figures_of_photographs_equal_pycocotools():
    """188 photographs through YOLOX-nano: the twelve figures and AP50 of each class are pycocotools'."""
    detector = open_detector(
        YOLOX_NANO, project_classes=VEHICLE_CLASSES, model_classes="coco80", confidence_floor=AP_FLOOR, threads=1
    )
    images = []
    for image in (one for one in read_dataset(VEHICLES).images if one.split != "train"):
        label = Label(sample_id="0" * 20, boxes=image.boxes, annotator="", labelled_at="2026-01-01T00:00:00Z")
        images.append((detector.detect(cv2.imread(str(image.path))), truths_of(label, VEHICLE_CLASSES)))
    assert len(images) == 125 + 63
    figures = coco_figures(images, VEHICLE_CLASSES)
    assert figures == pytest.approx(by_pycocotools(images, VEHICLE_CLASSES), abs=1e-9)
    assert list(figures)[: len(COCO_FIGURES)] == list(COCO_FIGURES)
    assert figures[class_figure("ambulance")] == 0.0  # the model has never heard of it
    assert 0.2 < figures["AP"] < figures["AP50"] < 0.9
