"""Evaluate: a model on a split of a dataset, from the images in the bucket to the record with its pages."""

import json

import numpy as np
import onnxruntime as ort
import pytest

from tasks.adapters.manifest import read_matches
from tasks.central import Central, detect_again, of_split, truths_of
from tasks.core import layout
from tasks.core.errors import LabelsInvalid, NotEnoughData, SettingsError
from tasks.evaluate import evaluate_files, evaluate_split, sync_review
from tasks.redeploy import judge
from tests.tasks.stages import AN_UNSURE_CAR, BLIND_BOX, SEEN_BOX, a_labelled_month, a_model, a_project, a_sample, label

evaluate, sync = evaluate_split.fn, sync_review.fn


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def images_of(project, dataset, split):
    return of_split(Central(project).entries(dataset.dataset_version), split)


def forget_image(project, entry):
    Central(project).bucket.remove(entry.image_key)


def test_a_split_is_evaluated_as_a_person_would_count_it(project, tmp_path):
    """Of cars that are all seen at 0.9 or not at all, the overlooked ones are the misses, and all of them are blind."""
    dataset, model = a_labelled_month(project), a_model(project, tmp_path)
    found = evaluate(project, model, dataset.dataset_version, "calibration")
    entries = images_of(project, dataset, "calibration")
    overlooked = sum(BLIND_BOX in entry.label.boxes for entry in entries)
    assert (found.images, found.split, found.model_version) == (len(entries), "calibration", model)
    car = found.classes["car"]
    assert car.threshold == pytest.approx(0.9, abs=1e-6)
    assert (car.ground_truths, car.misses, car.blind) == (len(entries) + overlooked, overlooked, overlooked)
    assert found.recall == pytest.approx(len(entries) / (len(entries) + overlooked))
    assert found.precision == 1.0
    assert 0 < found.coco["AP50"] < 1


def test_everything_of_an_evaluation_is_in_the_bucket(project, tmp_path):
    """Record, matches, report and plots; the record is the last, and evaluating again gives the same id."""
    dataset, model = a_labelled_month(project), a_model(project, tmp_path)
    found = evaluate(project, model, dataset.dataset_version, "test", {"car": 0.5})
    central = Central(project)
    names = {key.rpartition("/")[2] for key in central.bucket.list(f"evaluations/{found.evaluation}/")}
    assert {"evaluation.json", "matches.parquet", "report.html", "bands.png"} <= names
    assert central.evaluation(found.evaluation) == found
    stored = read_matches(central.bucket.get(layout.evaluation_file(found.evaluation, "matches.parquet")))
    assert stored.images == tuple(e.sample.sample_id for e in images_of(project, dataset, "test"))
    assert stored.class_names == ("car", "truck")
    assert found.classes["car"].threshold == 0.5
    assert evaluate(project, model, dataset.dataset_version, "test", {"car": 0.5}).evaluation == found.evaluation


def test_images_that_are_gone_are_left_out_and_named(project, tmp_path):
    """The others are evaluated, and the record and its report say how many were not."""
    dataset, model = a_labelled_month(project), a_model(project, tmp_path)
    gone, *rest = images_of(project, dataset, "calibration")
    forget_image(project, gone)
    found = evaluate(project, model, dataset.dataset_version, "calibration")
    assert found.images == len(rest)
    (warning,) = [line for line in found.warnings if "left out" in line]
    assert gone.sample.sample_id in warning
    assert f"1 of {len(rest) + 1} images" in warning
    for entry in rest:
        forget_image(project, entry)
    for cached in (tmp_path / "work" / "images").rglob("*.jpg"):
        cached.unlink()
    with pytest.raises(NotEnoughData, match="no calibration image can be used"):
        evaluate(project, model, dataset.dataset_version, "calibration")


def test_a_dataset_without_the_split_says_what_to_label(project, tmp_path):
    """Nothing of the random slice: nothing to measure on."""
    dataset, model = a_labelled_month(project, days=3, random_slice=False), a_model(project, tmp_path)
    with pytest.raises(NotEnoughData, match="label more of the random slice"):
        evaluate(project, model, dataset.dataset_version, "test")


def test_detections_come_from_0_001_up_and_bad_labels_leave_their_image_out(project, tmp_path):
    """What AP needs is there; a label without area is named instead of counted."""
    faint = (50.0, 30.0, 8.0, 8.0, 1, 0.002)
    dataset = a_labelled_month(project, days=4)
    model = a_model(project, tmp_path, boxes=(faint,))
    central = Central(project)
    entries = central.entries(dataset.dataset_version)
    flat = SEEN_BOX.model_copy(update={"xyxy": (5.0, 5.0, 5.0, 9.0)})
    entries[1] = entries[1].model_copy(update={"label": entries[1].label.model_copy(update={"boxes": (flat,)})})
    found = detect_again(central, model, entries)
    assert [len(result.detections) for result in found.results] == [1, 1, 1]
    assert found.results[0].detections.confidence[0] == pytest.approx(0.002)
    assert found.entries == [entries[0], *entries[2:]]
    assert len(found.problems) == 1


def test_boxes_of_classes_that_the_project_no_longer_has_are_no_ground_truth():
    """The others keep their class's place in the project's list."""
    sample = a_sample(0)
    truths = truths_of(label(sample, SEEN_BOX, BLIND_BOX.model_copy(update={"class_name": "bus"})), ("truck", "car"))
    assert truths.class_id.tolist() == [1]
    assert np.array_equal(truths.xyxy, [SEEN_BOX.xyxy])
    assert len(truths_of(label(sample), ("car",))) == 0


def coco_files(folder):
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
                        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [5, 5, 0, 9], "area": 0, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "car"}],
    }  # fmt: skip
    seen = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.7}]
    for name, content in (("truth.json", truth), ("seen.json", seen)):
        (folder / name).write_text(json.dumps(content))
    return folder / "truth.json", folder / "seen.json"


def test_two_coco_files_become_a_folder_and_its_warnings_stand_in_the_report(tmp_path):
    """What was left out of the files is in the record and on the page."""
    found = evaluate_files(*coco_files(tmp_path), tmp_path / "out")
    assert found.classes["car"].misses == 0
    (warning,) = [line for line in found.warnings if "without area" in line]
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["evaluation"] == found.evaluation
    assert "without area" in (tmp_path / "out" / "report.html").read_text(), warning


def test_what_evaluate_cannot_use_is_one_clear_line(tmp_path):
    """A beta that cannot be meant, a place that is a file, files that are none."""
    files = coco_files(tmp_path)
    with pytest.raises(SettingsError, match="beta"):
        evaluate_files(*files, tmp_path / "out", beta=0)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SettingsError, match="--out"):
        evaluate_files(*files, tmp_path / "taken")
    with pytest.raises(LabelsInvalid, match=r"absent\.json"):
        evaluate_files(tmp_path / "absent.json", files[1], tmp_path / "out")


@pytest.mark.slow
def test_reviewers_see_the_dataset_and_what_was_missed(project, tmp_path, database):
    """Images, labels, predictions and the evaluation's views are in FiftyOne; an image that is gone is not."""
    import fiftyone as fo

    project = project.model_copy(update={"project": "yard-of-evaluate"})
    dataset, model = a_labelled_month(project), a_model(project, tmp_path)
    evaluation = evaluate(project, model, dataset.dataset_version, "calibration")
    gone = images_of(project, dataset, "train")[0]
    forget_image(project, gone)
    views = sync(project, dataset.dataset_version, model, evaluation.evaluation, "")
    shown = fo.load_dataset(project.project)
    assert set(shown.values("sample_id")) == {
        e.sample.sample_id for e in Central(project).entries(dataset.dataset_version)
    } - {gone.sample.sample_id}
    measured = images_of(project, dataset, "calibration") + images_of(project, dataset, "test")
    overlooked = {e.sample.sample_id for e in measured if BLIND_BOX in e.label.boxes}
    (blind,) = [shown.load_saved_view(name) for name in views if name == "Blind misses"]
    assert set(blind.values("sample_id")) == overlooked
    assert all(path.startswith(f"/datasets/{project.project}?view=") for path in views.values())
    assert sync(project, dataset.dataset_version, model, evaluation.evaluation, "") == views
    fo.delete_dataset(project.project)


@pytest.fixture
def session_runs(monkeypatch):
    """One entry for each time that ONNX Runtime ran a model on an image; the trial at opening is none."""
    runs = []
    real = ort.InferenceSession.run_with_iobinding

    def run(session, *arguments):
        runs.append(session)
        return real(session, *arguments)

    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", run)
    return runs


@pytest.mark.slow
def test_a_model_looks_at_an_image_once(project, tmp_path, session_runs):
    """Evaluation, gate and a second evaluation: each model runs once on each image, and the figures are the same."""
    dataset, model = a_labelled_month(project), a_model(project, tmp_path)
    other = a_model(project, tmp_path / "other", boxes=(AN_UNSURE_CAR,))
    entries = images_of(project, dataset, "test")
    session_runs.clear()
    found = [evaluate(project, m, dataset.dataset_version, "test", {"car": 0.2}) for m in (model, other)]
    assert len(session_runs) == 2 * len(entries)
    verdict = judge.fn(project, other, model, dataset.dataset_version, {"car": 0.2}, {"car": 0.2})
    again = [evaluate(project, m, dataset.dataset_version, "test", {"car": 0.2}) for m in (model, other)]
    assert len(session_runs) == 2 * len(entries)
    assert verdict.images == len(entries)
    assert [e.evaluation for e in again] == [e.evaluation for e in found]

    for path in (tmp_path / "work" / "detections").rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-1])
    assert (
        judge.fn(project, other, model, dataset.dataset_version, {"car": 0.2}, {"car": 0.2}).numbers == verdict.numbers
    )
    assert len(session_runs) == 4 * len(entries)


def test_remembered_detections_are_those_of_the_model(project, tmp_path, session_runs):
    """The second pass has the same columns to the bit, runs nothing, and looks at new images only."""
    dataset, model = a_labelled_month(project, days=6), a_model(project, tmp_path)
    central = Central(project)
    entries = central.entries(dataset.dataset_version)
    session_runs.clear()
    first = detect_again(central, model, entries[:4])
    second = detect_again(central, model, entries)
    assert len(session_runs) == len(entries)
    for one, other in zip(first.results, second.results):
        for column in ("xyxy", "confidence", "class_id"):
            a, b = getattr(one.detections, column), getattr(other.detections, column)
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)
        assert one.detections.class_names == other.detections.class_names


def test_an_image_that_is_gone_is_left_out_although_its_detections_are_remembered(project, tmp_path):
    """Who has an image removed must not meet its figures again."""
    dataset, model = a_labelled_month(project, days=4), a_model(project, tmp_path)
    central = Central(project)
    entries = central.entries(dataset.dataset_version)
    detect_again(central, model, entries)
    forget_image(project, entries[0])
    for cached in (tmp_path / "work" / "images").rglob("*.jpg"):
        cached.unlink()
    assert detect_again(central, model, entries).entries == entries[1:]
