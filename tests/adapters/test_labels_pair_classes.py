"""Classes of whole images from a pair of COCO files, and the command that evaluates them."""

import json

import numpy as np
import pytest

from tasks.adapters.labels import class_pair, open_pair
from tasks.core.entities import Evaluation
from tasks.core.errors import LabelsInvalid
from tasks.evaluate import evaluate_files
from tests.conftest import edgeloop

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 9, "name": "owl"}]


def written(folder, labels, scores, **image):
    """The two files: `(image, category)` labels and `(image, category, score)` predictions of images 1 to 3."""
    truth = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "camera": "gate", **image} for n in (1, 2, 3)],
        "categories": CATEGORIES,
        "annotations": [{"id": n, "image_id": i, "category_id": c} for n, (i, c) in enumerate(labels, start=1)],
    }
    results = [{"image_id": i, "category_id": c, "score": score} for i, c, score in scores]
    paths = folder / "truth.json", folder / "predictions.json"
    for path, content in zip(paths, (truth, results)):
        path.write_text(json.dumps(content))
    return paths


LABELS = [(1, 3), (2, 7), (3, 7)]
SCORES = [(1, 3, 0.6), (1, 7, 0.3), (2, 3, 0.7), (2, 7, 0.25), (3, 7, 0.4), (3, 3, 0.35), (3, 9, 0.25)]


def test_labels_and_probabilities_are_read_by_category(tmp_path):
    """Classes go by the ids of their categories, what is not listed has probability 0, one label makes top_only."""
    files = open_pair(*written(tmp_path, LABELS, SCORES, captured_at="2026-03-01T10:20:00Z"))
    assert files.task == "classification"
    pair = class_pair(files)
    assert pair.class_names == ("cat", "dog", "owl")
    assert [image.probability.tolist() for image in pair.images] == [[0.6, 0.3, 0], [0.7, 0.25, 0], [0.35, 0.4, 0.25]]
    assert [image.labels.tolist() for image in pair.images] == [[0], [1], [1]]
    assert pair.top_only
    assert pair.names == ("1.jpg", "2.jpg", "3.jpg")
    assert set(pair.clusters) == {"gate@2026-03-01T10"}


@pytest.mark.slow
def test_the_command_says_which_class_is_missed_and_in_which_band(tmp_path):
    """A dog whose top class is cat is one miss between 0.2 and 0.3, also in the record; the report is there."""
    truth, predictions = written(tmp_path, LABELS, SCORES)
    out = tmp_path / "out"
    done = edgeloop("evaluate", "--ground-truth", truth, "--predictions", predictions, "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dog: 2 labelled, 1 missed" in done.stdout
    assert "top1 0.667, top5 1.000" in done.stdout
    evaluation = Evaluation.model_validate_json((out / "evaluation.json").read_text())
    assert evaluation.task == "classification"
    assert [(b.low, b.high) for b in evaluation.classes["dog"].bands if b.misses] == [(0.2, 0.3)]
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "matches.parquet").exists()


def test_two_labels_of_an_image_make_thresholds_of_their_own(tmp_path):
    """With an image that is cat and dog, both classes are judged at thresholds that are fitted."""
    paths = written(tmp_path, [(1, 3), (1, 7), (2, 7)], [(1, 3, 0.6), (1, 7, 0.3), (2, 7, 0.8), (3, 3, 0.5)])
    assert not class_pair(open_pair(*paths)).top_only
    evaluation = evaluate_files(*paths, tmp_path / "out")
    assert evaluation.thresholds == {"cat": 0.6, "dog": 0.3, "owl": 0.5}
    assert evaluation.recall == 1.0


def test_images_without_a_prediction_are_all_missed_and_said(tmp_path):
    """They count, as blind ones, and a warning says how many there are."""
    evaluation = evaluate_files(*written(tmp_path, LABELS, SCORES[:2]), tmp_path / "out")
    assert evaluation.classes["dog"].blind == 2
    assert any("2 of 3 images have no prediction" in warning for warning in evaluation.warnings)


def test_no_prediction_at_all_is_a_classification_when_no_annotation_has_a_box(tmp_path):
    """The labels then say what the files are of; everything is missed."""
    files = open_pair(*written(tmp_path, LABELS, []))
    assert files.task == "classification"
    assert all(np.all(image.probability == 0) for image in class_pair(files).images)


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        (LABELS, [*SCORES, (1, 3, 0.1)], r"predictions.json: results\[7\]: image '1' has this category already"),
        ([*LABELS, (1, 3)], SCORES, r"truth.json: annotations\[3\]: gives an image a class that it has already"),
        (LABELS, [(1, 3, 1.2)], r"results\[0\]: score 1.2 is outside 0 to 1"),
        (LABELS, [(1, 3, float("nan"))], r"results\[0\]: score is not finite"),
        (LABELS, [(1, 3, "high")], r"results\[0\]: score is 'high', not a number"),
        (LABELS, [(1, 4, 0.5)], r"results\[0\]: category_id '4' is not one of the ground truth's 3, 7, 9"),
        (LABELS, [(5, 3, 0.5)], r"results\[0\]: image_id '5' is not in the ground truth"),
        ([(1, 4)], SCORES, r"annotations\[0\]: category_id '4'"),
    ],
)
def test_what_does_not_fit_names_its_entry(tmp_path, labels, scores, says):
    """Doubles, scores that are none, unknown images and categories: one line with file and entry."""
    with pytest.raises(LabelsInvalid, match=says) as error:
        class_pair(open_pair(*written(tmp_path, labels, scores)))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_an_unknown_task_is_refused_in_one_line(tmp_path):
    """The line names all that are known."""
    truth, predictions = written(tmp_path, LABELS, SCORES)
    arguments = ("--ground-truth", truth, "--predictions", predictions, "--out", tmp_path / "out", "--task", "depth")
    done = edgeloop("evaluate", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "edgeloop: --task 'depth' is not known: use one of detection, classification, segmentation, keypoints"
    )


def test_files_of_classes_are_no_files_of_boxes(tmp_path):
    """Asked for boxes, the first entry without one is named."""
    with pytest.raises(LabelsInvalid, match=r"results\[0\]: bbox is not a list of four numbers"):
        evaluate_files(*written(tmp_path, LABELS, SCORES), tmp_path / "out", task="detection")
