"""A classifier where boxes are expected: central says so, and privacy hides the whole picture."""

import json

import numpy as np
import pytest

from tasks.adapters.detector import open_detector
from tasks.adapters.privacy import Privacy
from tasks.central import Central
from tasks.core.errors import ModelError, SettingsError
from tasks.core.settings.device import PrivacySettings
from tasks.evaluate import evaluate_files
from tasks.redeploy import import_model
from tasks.suggest import suggest_from_files
from tests.adapters.models import constant_model, saved
from tests.tasks.stages import a_project


def a_classifier(folder):
    output = np.array([[0.7, 0.3]], np.float32)
    return saved(constant_model(output, names=("car", "truck"), metadata={"task": "classify"}), folder)


def test_central_refuses_to_evaluate_a_classifier_against_boxes(tmp_path):
    """One line that names the model and the command that can, not an evaluation in which every object is missed."""
    project = a_project(tmp_path)
    model = import_model(project, a_classifier(tmp_path)).model_version
    with pytest.raises(ModelError, match=f"{model}: is a classifier.*--task classification") as error:
        Central(project).detector(model)
    assert "\n" not in str(error.value)


def test_privacy_hides_the_whole_picture_of_a_class(tmp_path):
    """A class has no place in a classification, so that all of a picture in which it may be is hidden."""
    pixels = np.random.default_rng(0).integers(1, 256, (90, 120, 3), np.uint8)
    found = open_detector(a_classifier(tmp_path), project_classes=None).detect(pixels)
    privacy = Privacy(PrivacySettings(classes=("truck",), method="black"))
    assert not privacy.hidden(pixels, found).any()


def test_nothing_is_suggested_for_a_classification(tmp_path):
    """Rules for boxes would never fire on its second classes; the line says what to write instead."""
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(1, 5)]
    labels = [{"id": n, "image_id": n, "category_id": 1} for n in range(1, 5)]
    truth = {
        "images": images,
        "annotations": labels,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    scores = [{"image_id": n, "category_id": c, "score": s} for n in range(1, 5) for c, s in ((1, 0.3), (2, 0.7))]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    evaluation = evaluate_files(tmp_path / "truth.json", tmp_path / "scores.json", tmp_path / "out")
    assert [(b.low, b.misses) for b in evaluation.classes["cat"].bands if b.misses] == [(0.3, 4)]
    with pytest.raises(SettingsError, match=r"is of a classification.*only_top_classes: false"):
        suggest_from_files(tmp_path / "out", 10, 1000, None)
