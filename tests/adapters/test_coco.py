"""The COCO figures, against pycocotools."""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.adapters.coco import COCO_FIGURES, coco_figures, coco_ground_truth, coco_results
from tasks.core.entities import Detections

CLASSES = ("car", "truck", "bus")


def random_image(rng, class_names=CLASSES, crowds=True):
    """Boxes of all three COCO sizes; detections are jittered copies, wrong classes and noise, with tied scores."""
    count = int(rng.integers(0, 8))
    corner = rng.uniform(0, 300, (count, 2))
    size = np.exp(rng.uniform(np.log(8), np.log(250), (count, 2)))
    truths = SimpleNamespace(
        xyxy=np.hstack([corner, corner + size]),
        class_id=rng.integers(0, len(class_names), count),
        crowd=rng.random(count) < (0.1 if crowds else 0),
    )
    copies = np.repeat(np.arange(count), 3)
    noise = rng.uniform(0, 300, (6, 2))
    boxes = np.vstack(
        [
            truths.xyxy[copies] + rng.normal(0, 0.08, (len(copies), 4)) * np.tile(size[copies], 2),
            np.hstack([noise, noise + rng.uniform(5, 120, (6, 2))]),
        ]
    )
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    classes = np.concatenate([truths.class_id[copies], rng.integers(0, len(class_names), 6)])
    confidence = np.round(rng.beta(1, 2, len(boxes)), 2)
    order = np.argsort(-confidence, kind="stable")
    found = Detections(
        boxes[order].astype(np.float32), confidence[order].astype(np.float32), classes[order], tuple(class_names)
    )
    return found, truths


def by_pycocotools(images, class_names):
    """The same figures from the reference implementation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_ground_truth(images, class_names)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(coco_results(images)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = dict(zip(COCO_FIGURES, evaluation.stats))
    for i, name in enumerate(class_names):
        at_50 = evaluation.eval["precision"][0, :, i, 0, -1]
        figures[f"AP50/{name}"] = at_50[at_50 > -1].mean() if (at_50 > -1).any() else -1.0
    return figures


@pytest.mark.parametrize("seed", range(5))
def test_all_figures_equal_those_of_pycocotools(seed):
    """The twelve figures and AP50 of each class equal pycocotools', with crowds, ties, all sizes and empty images."""
    rng = np.random.default_rng(seed)
    images = [random_image(rng) for _ in range(40)]
    expected = by_pycocotools(images, CLASSES)
    figures = coco_figures(images, CLASSES)
    assert list(figures) == [*COCO_FIGURES, *(f"AP50/{name}" for name in CLASSES)]
    assert figures == pytest.approx(expected, abs=1e-9)
    assert 0.05 < figures["AP"] < 0.95  # neither perfect nor hopeless: the comparison has something to compare


def test_more_than_a_hundred_detections_of_an_image_are_cut_as_coco_cuts_them():
    """An image with 150 detections of a class is judged by its best 100, as in pycocotools."""
    rng = np.random.default_rng(3)
    corner = np.stack(np.meshgrid(np.arange(15) * 40.0, np.arange(10) * 40.0), -1).reshape(-1, 2)
    boxes = np.hstack([corner, corner + 30])
    truths = SimpleNamespace(xyxy=boxes, class_id=np.zeros(150, np.int64), crowd=np.zeros(150, bool))
    confidence = np.sort(rng.random(150))[::-1].astype(np.float32)
    found = Detections(boxes.astype(np.float32), confidence, np.zeros(150, np.int64), CLASSES)
    figures = coco_figures([(found, truths)], CLASSES)
    assert figures["AR100"] == pytest.approx(100 / 150)
    assert figures == pytest.approx(by_pycocotools([(found, truths)], CLASSES), abs=1e-9)


def test_the_first_annotation_counts():
    """A perfect detection of the only ground truth gives AP 1: an annotation id of 0 would make it a miss."""
    box = np.array([[10.0, 10.0, 60.0, 50.0]])
    truths = SimpleNamespace(xyxy=box, class_id=np.array([1]), crowd=np.array([False]))
    found = Detections(box.astype(np.float32), np.array([0.9], np.float32), np.array([1]), CLASSES)
    figures = coco_figures([(found, truths)], CLASSES)
    assert figures["AP"] == figures["AP50"] == figures["AP50/truck"] == pytest.approx(1.0)


def test_a_figure_without_ground_truths_is_minus_one():
    """Where there is nothing to find a figure is -1, not 0: with no images, no boxes, or none of a class or size."""
    box = np.array([[10.0, 10.0, 60.0, 50.0]])
    truths = SimpleNamespace(xyxy=box, class_id=np.array([1]), crowd=np.array([False]))
    nothing = SimpleNamespace(xyxy=np.zeros((0, 4)), class_id=np.zeros(0, np.int64), crowd=np.zeros(0, bool))
    found = Detections(box.astype(np.float32), np.array([0.9], np.float32), np.array([1]), CLASSES)
    assert set(coco_figures([], CLASSES).values()) == {-1.0}
    assert set(coco_figures([(found, nothing)], CLASSES).values()) == {-1.0}
    figures = coco_figures([(Detections.empty(CLASSES), truths)], CLASSES)
    assert figures["AP"] == figures["AP50/truck"] == 0.0
    assert figures["APl"] == figures["AP50/car"] == -1.0
