"""What people decide: gold labels, trials, assignment, and predictions that are taken as labels in bulk."""

from datetime import timedelta

import pytest

from tasks.adapters.bucket import Bucket
from tasks.adapters.labelling import with_corrections
from tasks.allocate import Orders, measure_yields
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import AcceptedPredictions, Batch, Turn
from tasks.core.errors import NotEnoughData, SettingsError
from tasks.evaluate import evaluate_split
from tasks.field_recall import asked_of
from tasks.people import accept_predictions, add_gold, assign, decide_trial, list_gold
from tasks.retrain import build_dataset
from tasks.turn import save_turn
from tests.tasks.stages import (
    MODEL,
    NOON,
    SEEN_BOX,
    a_batch,
    a_labelled_month,
    a_model,
    a_project,
    a_sample,
    box,
    label,
    put_images,
    seen,
)

freeze = build_dataset.fn
SURE, UNSURE = (seen("car", 0.97),), (seen("car", 0.8),)
LONG_AGO = NOON - timedelta(days=900)


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path, labelling={"folder": str(tmp_path / "labelling"), "max_images": 100})


@pytest.fixture
def measured(project, tmp_path):
    """The project with a month of labels and a live model whose misses are known."""
    dataset, model = a_labelled_month(project), a_model(project, tmp_path)
    evaluation = evaluate_split.fn(project, model, dataset.dataset_version, "calibration")
    save_turn.fn(project, Turn(number=1, started_at=NOON, evaluation=evaluation.evaluation))
    return project


def kinds_of_images(project):
    """A batch: sure, sure and blank, sure of the random slice in the test split, not sure, sure and labelled."""
    samples = [
        a_sample(n, captured_at=LONG_AGO + timedelta(days=n), detections=SURE) for n in (100, 101, 102, 103, 104)
    ]
    samples[2] = in_the_test_split(samples[2])
    samples[3] = samples[3].model_copy(update={"detections": UNSURE})
    batch = Batch(
        batch_id="bulk",
        created_at=NOON,
        class_names=project.classes,
        samples=tuple(samples),
        unseeded=(samples[1].sample_id,),
    )
    put_images(project, samples, (100, 101, 102, 103, 104))
    Central(project).store_batch(batch)
    Central(project).store_labels(batch, [label(samples[4], box("truck", 5, 5))])
    return samples


def in_the_test_split(sample):
    from tasks.core.splits import assign_split

    drawn = sample.model_copy(update={"random_slice": True})
    moments = (drawn.model_copy(update={"captured_at": drawn.captured_at + timedelta(hours=n)}) for n in range(99))
    return next(sample for sample in moments if assign_split(sample) == "test")


def accept(project, **fields):
    known = {"above": 0.9, "below_misses": 0.5, "by": "lead"}
    return accept_predictions(project, "bulk", {"car": 0.5}, **{**known, **fields})


# --- predictions as labels -------------------------------------------------------------------------------------------


def test_predictions_are_taken_where_the_model_is_sure_and_nowhere_that_measures(measured):
    """One of five; the others are counted by reason. The label is signed by the model, the record by the person."""
    samples = kinds_of_images(measured)
    central = Central(measured)
    found = accept(measured)
    assert (found.images, found.boxes, found.revision) == (1, 1, 2)
    assert found.refused == {
        "test or calibration images, which people label": 2,
        "with a pre-annotation that is not sure enough": 1,
        "labelled by a person already": 1,
    }
    labels = central.labels(central.batch("bulk"), 2)
    made = labels[samples[0].sample_id]
    assert (made.origin, made.annotator, made.boxes[0].class_name) == ("model", MODEL, "car")
    assert labels[samples[4].sample_id].boxes == (box("truck", 5, 5),)
    record = central.bucket.read_record(layout.accepted_predictions("bulk", 2), AcceptedPredictions)
    assert (record.by, record.images) == ("lead", (samples[0].sample_id,))
    again = accept(measured)
    assert (again.images, again.revision, again.refused["accepted before"]) == (0, 2, 1)


def test_they_train_and_measure_nothing(measured):
    """Counted apart in the dataset; no yield, no field recall and no held-out split knows of them."""
    samples = kinds_of_images(measured)
    central = Central(measured)
    revisions = {"bulk": accept(measured, above=0.5).revision}
    dataset = freeze(measured, revisions, "")
    entries = {e.sample.sample_id: e for e in central.entries(dataset.dataset_version)}
    assert set(entries) == {samples[n].sample_id for n in (0, 3, 4)}
    assert (dataset.by_model, dataset.counts) == (2, {"train": 3})
    asked = {item.sample.sample_id: item.label for item in asked_of(central, revisions)}
    assert [asked[samples[n].sample_id] is None for n in (0, 3, 4)] == [True, True, False]
    told = measure_yields(central, dataset.dataset_version, lambda _: Orders({}, True), NOON)
    assert len(told.images) == 1


def test_a_person_has_the_last_word(measured):
    """Later or earlier, of this batch or another one: the person's label is the one that trains."""
    samples = kinds_of_images(measured)
    central = Central(measured)
    accept(measured)
    batch = central.batch("bulk")
    said = with_corrections(label(samples[0], box("truck", 1, 1), origin="model", labelled_at=LONG_AGO), None)
    assert said.origin == "human"  # whatever its file says
    revision, labels = central.store_labels(batch, [said])
    assert {one.origin for one in labels} == {"human"}
    assert accept(measured).images == 0
    assert central.labels(batch, revision)[samples[0].sample_id].boxes == (box("truck", 1, 1),)

    other = central.store_batch(batch.model_copy(update={"batch_id": "other"}))
    central.store_labels(other, [label(samples[0], SEEN_BOX, origin="model", labelled_at=NOON + timedelta(days=900))])
    dataset = freeze(measured, {"bulk": revision, "other": 1}, "")
    entry = {e.sample.sample_id: e for e in central.entries(dataset.dataset_version)}[samples[0].sample_id]
    assert (entry.label.boxes, entry.batch_id) == ((box("truck", 1, 1),), "bulk")
    assert dataset.excluded["label accepted in bulk, where a person's label exists"] == 1


def test_a_label_that_came_in_meanwhile_is_never_written_over(measured, monkeypatch):
    """Somebody writes the next revision between the look and the write: it is read again, and stays."""
    samples = kinds_of_images(measured)
    central = Central(measured)
    batch = central.batch("bulk")
    create, raced = Bucket.create, []

    def create_late(bucket, key, data):
        if key == layout.labels("bulk", 2) and not raced:
            raced.append(key)
            central.store_labels(batch, [label(samples[0], box("truck", 1, 1))])
        return create(bucket, key, data)

    monkeypatch.setattr(Bucket, "create", create_late)
    found = accept(measured)
    assert (raced, found.images, found.revision) == ([layout.labels("bulk", 2)], 0, 2)
    assert central.labels(batch, 2)[samples[0].sample_id].annotator == "ann"


def test_only_images_of_the_named_classes_and_few_expected_misses(measured):
    """Another class beside it, or a doubtful detection, keeps an image for people."""
    samples = kinds_of_images(measured)
    assert accept(measured, classes=["truck"]).images == 0
    assert accept(measured, below_misses=0.0).refused["in which too much may have been missed"] == 1
    assert accept(measured, classes=["car"]).images == 1
    assert samples


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"classes": ["bus"]}, "'bus'"), ({"by": "  "}, "1 to 100 printable"), ({"by": "a\x00b"}, "1 to 100 printable")],
)
def test_what_cannot_be_asked_for_is_one_line(measured, fields, words):
    """An unknown class, a name that is none."""
    kinds_of_images(measured)
    with pytest.raises(SettingsError, match=words):
        accept(measured, **fields)


def test_no_predictions_without_a_measured_model_nor_in_batches_that_measure_people(project):
    """Nobody knows yet what it misses; trials and twins are not the model's."""
    kinds_of_images(project)
    with pytest.raises(NotEnoughData, match="no model has been evaluated"):
        accept(project)
    a_batch(project, range(2), batch_id="trial-000001", purpose="trial")
    with pytest.raises(SettingsError, match="not a model's to make"):
        accept_predictions(project, "trial-000001", {}, above=0.9, below_misses=1, by="lead")
    with pytest.raises(SettingsError, match="no batch 'nowhere'"):
        accept_predictions(project, "nowhere", {}, above=0.9, below_misses=1, by="lead")


# --- gold ------------------------------------------------------------------------------------------------------------


def test_gold_is_numbered_and_the_newest_word_counts(project):
    """Two records, one sample in both: the label of the second; of a class that is gone: none."""
    batch = a_batch(project, range(2))
    one, two = batch.samples
    central = Central(project)
    central.store_labels(batch, [label(one, SEEN_BOX), label(two)])
    assert add_gold(project, "today", [one.sample_id, two.sample_id, one.sample_id], "lead").number == 1
    central.store_labels(batch, [label(one, box("truck", 5, 5))])
    second = add_gold(project, "today", [one.sample_id], "lead")
    assert (second.number, second.revision, len(second.labels)) == (2, 2, 1)
    known = list_gold(project)
    assert known[one.sample_id].label.boxes == (box("truck", 5, 5),)
    assert known[two.sample_id].label.boxes == ()
    assert set(list_gold(project.model_copy(update={"classes": ("car",)}))) == {two.sample_id}


def test_what_nobody_can_vouch_for_is_refused_by_name(project):
    """Not of the batch, not labelled, skipped, a model's; nothing is stored."""
    batch = a_batch(project, range(4))
    one, two, three, _ = batch.samples
    Central(project).store_labels(batch, [label(one), label(two, status="skipped"), label(three, origin="model")])
    for sample_id, words in [
        ("0" * 20, "has no sample"),
        (batch.samples[3].sample_id, "is not labelled yet"),
        (two.sample_id, "was skipped"),
        (three.sample_id, "labelled by a model"),
    ]:
        with pytest.raises(SettingsError, match=words):
            add_gold(project, "today", [one.sample_id, sample_id], "lead")
    with pytest.raises(SettingsError, match="name the samples"):
        add_gold(project, "today", [], "lead")
    with pytest.raises(SettingsError, match="no batch"):
        add_gold(project, "nowhere", [one.sample_id], "lead")
    assert list_gold(project) == {}


# --- trials and assignment -------------------------------------------------------------------------------------------


def test_a_trial_is_decided_once(project):
    """The same word again is no error, the opposite is; who, when and how well it agreed is kept."""
    batch = a_batch(project, range(2), batch_id="trial-000001", purpose="trial")
    with pytest.raises(SettingsError, match="no labels yet"):
        decide_trial(project, "trial-000001", True, "lead")
    Central(project).store_labels(batch, [label(s, SEEN_BOX) for s in batch.samples])
    first = decide_trial(project, "trial-000001", True, "lead", "good boxes")
    assert (first.decision, first.by, first.note, first.agreement) == ("accepted", "lead", "good boxes", None)
    assert decide_trial(project, "trial-000001", True, "somebody") == first
    with pytest.raises(SettingsError, match="accepted by lead"):
        decide_trial(project, "trial-000001", False, "somebody")


def test_only_trials_are_decided_on_and_only_batches_assigned(project):
    """Another batch, none at all, a name of a page."""
    a_batch(project, range(1))
    with pytest.raises(SettingsError, match="is no trial batch"):
        decide_trial(project, "today", True, "lead")
    with pytest.raises(SettingsError, match="no batch 'nowhere'"):
        assign(project, "nowhere", "ann", "lead")
    with pytest.raises(SettingsError, match="1 to 100 printable"):
        assign(project, "today", "a" * 101, "lead")
