"""Labels that the live model disagrees with: from the bucket to the command, and as a view of the App."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.labels_suspects import plain
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import ModelVersion, Turn
from tasks.core.errors import NotEnoughData, ReviewUnavailable, SettingsError
from tasks.evaluate import evaluate_split
from tasks.retrain import build_dataset
from tasks.suspects import suspected_labels, trained_on
from tasks.turn import newest_turn, save_turn
from tests.tasks.stages import (
    NOON,
    SEEN_BOX,
    a_batch,
    a_labelled_month,
    a_model,
    a_project,
    box,
    label,
)


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path, labelling={"folder": str(tmp_path / "labelling"), "max_images": 100})


def measured(project, tmp_path, labels_of=None):
    """A month of labels, some of them wrong, and a live model that was evaluated on it."""
    dataset, model = a_labelled_month(project), a_model(project, tmp_path)
    if labels_of:
        central = Central(project)
        batch = central.batch("today")
        revision, _ = central.store_labels(batch, labels_of(batch), after=1)
        dataset = build_dataset.fn(project, {"today": revision}, "")
    evaluation = evaluate_split.fn(project, model, dataset.dataset_version, "calibration", {"car": 0.5})
    known = {"evaluation": evaluation.evaluation, "live_model": model, "dataset_version": dataset.dataset_version}
    save_turn.fn(project, Turn(number=1, started_at=NOON, **known))
    return model


def wrong_labels(batch):
    """One image of each kind of error, in the first four; the model sees SEEN_BOX in every image."""
    one, two, three, four = batch.samples[:4]
    return [
        label(one, box("truck", 10, 10)),
        label(two, box("car", 17, 14)),  # IoU 0.35
        label(three),
        label(four, SEEN_BOX, box("car", 40, 2)),
    ]


def test_each_kind_of_error_is_told_with_what_and_where(project, tmp_path):
    """The three labels that contradict a sure detection, and the box where nothing is; blind cars of half the images
    are common with this model, and so come after the rarer disagreements."""
    model = measured(project, tmp_path, wrong_labels)
    found = suspected_labels(project)
    samples = [sample.sample_id for sample in Central(project).batch("today").samples[:4]]
    kinds = {box.sample_id: box for box in reversed(found.boxes)}
    assert [kinds[s].kind for s in samples] == ["class", "place", "overlooked", "nothing there"]
    assert kinds[samples[0]].what == "labelled truck, the model sees car 0.90"
    assert kinds[samples[2]].xyxy == pytest.approx((10, 10, 30, 30), abs=0.01)
    assert kinds[samples[3]].xyxy == (40, 2, 60, 22)
    assert {box.sample_id for box in found.boxes[:2]} == set(samples[1:3])  # of trucks the model is not known
    assert (found.model_version, found.trained_on, found.held_out) == (model, 0, len(found.boxes))
    assert kinds[samples[0]].revision == 2
    assert len(suspected_labels(project, 2).boxes) == 2
    assert suspected_labels(project, 2).held_out == found.held_out


def test_images_that_the_model_trained_on_are_a_group_of_their_own(project, tmp_path):
    """Also those of the model that it goes on from; they come last whatever their gain."""
    model = measured(project, tmp_path, wrong_labels)
    central = Central(project)
    dataset = suspected_labels(project).dataset_version
    train = {e.sample.sample_id for e in central.entries(dataset) if e.split == "train"}
    parent = central.model(model).model_copy(update={"model_version": "f" * 16, "dataset_version": dataset})
    central.bucket.write_record(layout.model_file(parent.model_version, "model.json"), parent)
    child = central.model(model).model_copy(update={"previous": parent.model_version})
    central.bucket.write_record(layout.model_file(model, "model.json"), child)
    assert isinstance(child, ModelVersion)
    assert trained_on(central, model) == train
    found = suspected_labels(project)
    marks = [box.trained_on for box in found.boxes]
    assert marks == sorted(marks)
    assert {box.sample_id for box in found.boxes if box.trained_on} <= train
    assert found.trained_on == sum(marks)


def test_without_a_measured_model_nothing_is_suspected(project, tmp_path):
    """No turn, no dataset, no model: each is told with what to do."""
    with pytest.raises(NotEnoughData, match="nothing is labelled yet"):
        suspected_labels(project)
    dataset = a_labelled_month(project)
    save_turn.fn(project, Turn(number=1, started_at=NOON, dataset_version=dataset.dataset_version))
    with pytest.raises(NotEnoughData, match="no live model was evaluated"):
        suspected_labels(project)


def test_a_model_without_measured_images_is_not_believed(project, tmp_path):
    """Nobody knows how sure it may be where all that is labelled may have trained it."""
    model = measured(project, tmp_path)
    batch = a_batch(project, (90,), batch_id="other")
    revision, _ = Central(project).store_labels(batch, [label(batch.samples[0], SEEN_BOX)])
    dataset = build_dataset.fn(project, {"other": revision}, "")
    turn = newest_turn(project).model_copy(update={"number": 2, "dataset_version": dataset.dataset_version})
    save_turn.fn(project, turn)
    with pytest.raises(NotEnoughData, match="no labelled calibration or test image"):
        suspected_labels(project)
    lost = Central(project).model(model).model_copy(update={"dataset_version": "0" * 16})
    Central(project).bucket.write_record(layout.model_file(model, "model.json"), lost)
    assert trained_on(Central(project), model) == frozenset()


def test_an_image_that_is_gone_is_left_out_and_counted(project, tmp_path):
    """The others are looked at."""
    measured(project, tmp_path, wrong_labels)
    before = suspected_labels(project)
    gone = Central(project).batch("today").samples[0]
    bucket = tmp_path / "bucket"
    for path in [
        *bucket.rglob(f"{gone.sample_id}.jpg"),
        *(tmp_path / "work" / "images").rglob(f"{gone.sample_id}.jpg"),
    ]:
        path.unlink()
    found = suspected_labels(project)
    assert (found.images, len(found.problems)) == (before.images - 1, 1)
    assert gone.sample_id not in found.sample_ids


def test_the_command_tells_people_and_programs_the_same(project, tmp_path, monkeypatch):
    """Lines, JSON and CSV; both at once are refused, and a formula in a name stays text."""
    measured(project, tmp_path, wrong_labels)
    monkeypatch.chdir(tmp_path)
    Path("project.yaml").write_text(json.dumps(project.model_dump(mode="json", exclude_unset=True)))

    def run(*words):
        words = ["labels", "suspects", *words, "--config", "project.yaml"]
        return CliRunner().invoke(app, words, catch_exceptions=False).stdout

    told = json.loads(run("--json"))
    rows = list(csv.DictReader(io.StringIO(run("--csv"))))
    assert [row["sample_id"] for row in rows] == [box["sample_id"] for box in told["boxes"]]
    assert [float(x) for x in rows[0]["xyxy"].split()] == told["boxes"][0]["xyxy"]
    lines = run("--limit", "1").splitlines()
    assert lines[0].startswith(f"suspected by model {told['model']}: ")
    assert told["boxes"][0]["what"] in lines[1]
    assert lines[-1].endswith(f"in {told['images']} labelled images")
    with pytest.raises(SettingsError, match="choose one"):
        run("--json", "--csv")
    assert plain("=1+1") == "'=1+1"


@pytest.mark.slow
def test_the_view_holds_the_images_in_their_order(tmp_path, database):
    """Saved again it is replaced; without the dataset it is told where that comes from."""
    import fiftyone as fo

    from tasks.adapters import review
    from tests.adapters.review_yard import CLASSES, yard

    with pytest.raises(ReviewUnavailable, match="no dataset 'suspects'"):
        review.save_list_view("suspects", "Suspected label errors", [])
    items, _, _ = yard(tmp_path, 6)
    review.sync_dataset("suspects", items, CLASSES)
    ids = [items[n].sample.sample_id for n in (4, 1, 3)]
    review.save_list_view("suspects", "Suspected label errors", ids[:1])
    view = review.save_list_view("suspects", "Suspected label errors", [*ids, "0" * 20])
    assert (view.slug, view.count) == ("suspected-label-errors", 3)
    assert fo.load_dataset("suspects").load_saved_view("Suspected label errors").values("sample_id") == ids
    empty = review.save_list_view("suspects", "Suspected label errors", [])
    assert empty.count == 0
