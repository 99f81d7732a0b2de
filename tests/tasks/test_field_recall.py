"""Field recall as a stage: what is read of a project's bucket, whose thresholds were in force, and the real command."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import yaml

from flows import evaluate as flow_of_evaluations
from flows.field_recall import moment_of
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import DeviceStatus, Evaluation, Release, Turn
from tasks.core.errors import NotEnoughData, SettingsError
from tasks.core.settings import SamplingSettings
from tasks.evaluate import evaluate_split
from tasks.field_recall import in_force, newest_field_recall, recall_in_the_field
from tests.conftest import edgeloop
from tests.tasks.stages import MODEL, NOON, a_batch, a_labelled_month, a_model, a_project, a_sample, box, label, seen

in_the_field = recall_in_the_field.fn
EXPLORE = {"name": "random", "type": "random", "traffic_percentage": 0.1}
CLOSE = {"name": "close", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.2, "probability": 1.0}
HIT = box("car", 10, 10)


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def a_release(project, number=1, *strategies, thresholds=None, model=MODEL, **others) -> Release:
    """A release as the bucket holds it."""
    settings = SamplingSettings.model_validate({"sampling_strategies": strategies or (EXPLORE, CLOSE), **others})
    release = Release(
        group="all", number=number, created_at=NOON, model_version=model, class_names=project.classes,
        thresholds=thresholds or {"car": 0.5}, settings=settings,
    )  # fmt: skip
    Central(project).bucket.write_record(layout.release("all", number), release)
    return release


def a_labelled_batch(project, kinds, batch_id="today", **fields) -> int:
    """Samples of (hour, detections, boxes or None, fields), with what people said of them; the label revision."""
    samples = [
        a_sample(hour, captured_at=NOON + timedelta(hours=hour), detections=detections, **{**fields, **own})
        for hour, detections, _, own in kinds
    ]
    batch = a_batch(project, (), batch_id=batch_id, samples=tuple(samples))
    labels = [label(s, *kind[2]) for s, kind in zip(samples, kinds) if kind[2] is not None]
    return Central(project).store_labels(batch, labels)[0] if labels else 0


def a_turn(project, **batches) -> None:
    turn = Turn(number=1, started_at=NOON, finished_at=NOON, batches=batches)
    Central(project).bucket.write_record(layout.turn(1), turn)


SURE, UNSURE = (seen("car", 0.9, HIT.xyxy),), (seen("car", 0.45, HIT.xyxy),)
KINDS = [
    (0, SURE, [HIT], {"probability": 0.1, "random_slice": True}),
    (1, UNSURE, [HIT], {"probability": 1.0}),
    (2, UNSURE, [], {"probability": 1.0}),
    (3, UNSURE, None, {"probability": 1.0}),
]


def test_the_estimate_is_made_from_batches_labels_and_the_release(project):
    """By hand: a hit of weight 10 and a miss of weight 3/2, at the threshold of release 1: recall 10 / 11.5."""
    a_release(project)
    a_turn(project, today=a_labelled_batch(project, KINDS), tomorrow=0)
    (found,) = newest_field_recall(project)
    assert (found.model_version, found.settings_version, found.refused) == (MODEL, "all/1", "")
    assert found.figures.recall.value == pytest.approx(10 / 11.5)
    assert found.figures.precision.value == pytest.approx(1)
    assert (found.asked, found.labelled, found.waiting) == (4, 3, 1)
    assert found.frames == pytest.approx(13)
    assert list(found.cameras) == ["edge-1/gate"]


def test_thresholds_are_those_of_each_release(project):
    """The same detection is a miss under release 1 and a hit under release 2, whose settings have a lower threshold."""
    a_release(project)
    second = a_release(project, 2, thresholds={"car": 0.9})
    settings = second.settings.model_copy(update={"thresholds": {"car": 0.4}})
    Central(project).bucket.write_record(layout.release("all", 2), second.model_copy(update={"settings": settings}))
    kinds = [(0, UNSURE, [HIT], {"settings_version": "all/1"}), (1, UNSURE, [HIT], {"settings_version": "all/2"})]
    a_turn(project, today=a_labelled_batch(project, kinds))
    found = {one.settings_version: one.figures.recall.value for one in newest_field_recall(project)}
    assert found == {"all/2": 1, "all/1": 0}


def test_settings_without_thresholds_have_those_of_their_release(project):
    """As on the device."""
    assert in_force(a_release(project, thresholds={"car": 0.7})).thresholds == {"car": 0.7}


def test_a_drawn_batch_weighs_by_how_likely_a_sample_was_offered(project):
    """Half of the random slice was offered: each of its images stands for twice as many frames."""
    a_release(project)
    revision = a_labelled_batch(project, KINDS[:2])
    batch = Central(project).batch("today")
    drawn = batch.model_copy(update={"probability_offered": {batch.samples[0].sample_id: 0.5}})
    Central(project).bucket.write_record(layout.batch("today"), drawn)
    a_turn(project, today=revision)
    assert newest_field_recall(project)[0].frames == pytest.approx(21)


@pytest.mark.parametrize(
    ("release", "fields", "reason"),
    [
        ({"strategies": [CLOSE]}, {}, "draw at random from all frames neither"),
        ({"persist_predictions": False}, {}, "persist_predictions: false"),
        ({"model": "f" * 16}, {}, "release all/1 is of model ffffffffffffffff"),
        ({}, {"settings_version": "9a8b7c6d5e4f3a2b"}, "came from a file on the device"),
        ({}, {"settings_version": "all/7"}, "release all/7 cannot be read"),
        ({}, {"settings_version": "../7"}, "came from a file on the device"),
        ({}, {"model_version": "stub"}, "had no model"),
    ],
)
def test_what_was_in_force_must_be_known_and_must_allow_it(project, release, fields, reason):
    """In the place of figures there is a reason, and the other versions have theirs."""
    strategies = release.pop("strategies", [])
    a_release(project, 1, *strategies, **release)
    a_turn(project, today=a_labelled_batch(project, [(0, SURE, [HIT], {})], **fields))
    (found,) = newest_field_recall(project)
    assert found.figures is None
    assert reason in found.refused


def test_what_a_device_lost_to_a_full_outbox_is_told(project):
    """Whole kinds of samples may have gone, of which those that are left say nothing; one without a status is quiet."""
    a_release(project)
    a_turn(project, today=a_labelled_batch(project, KINDS))
    assert not any("lost" in line for line in newest_field_recall(project)[0].warnings)
    drops = {"evicted, outbox at its cap": 7, "refused, disk full": 2, "near-duplicate": 99}
    status = DeviceStatus(device="edge-1", group="all", reported_at=NOON, started_at=NOON, drops=drops)
    Central(project).bucket.write_record(layout.device_status("edge-1"), status)
    last = newest_field_recall(project)[0].warnings[-1]
    assert last.startswith("device edge-1 has lost 9 samples to a full outbox since 2026-05-01")


def test_a_release_that_is_damaged_is_a_reason_too(project):
    """A record that cannot be read refuses its own version alone."""
    Central(project).bucket.put(layout.release("all", 1), b"{")
    a_turn(project, today=a_labelled_batch(project, [(0, SURE, [HIT], {})]))
    assert "cannot be read" in newest_field_recall(project)[0].refused


def test_imported_photographs_are_no_field(project):
    """No camera of ours took them, and no model of ours saw them there."""
    a_release(project)
    samples = (a_sample(1),)
    batch = a_batch(project, (), batch_id="photos", samples=samples, origin="import")
    revision, _ = Central(project).store_labels(batch, [label(samples[0], HIT)])
    a_turn(project, photos=revision)
    with pytest.raises(NotEnoughData, match="no image of project yard is labelled yet"):
        newest_field_recall(project)


def test_nothing_labelled_and_nothing_asked_for_are_errors_that_say_what_to_do(project):
    """Before the first turn, before the first label, and for a model or a time that no image is of."""
    with pytest.raises(NotEnoughData, match="label a batch"):
        newest_field_recall(project)
    a_release(project)
    a_turn(project, today=a_labelled_batch(project, KINDS))
    with pytest.raises(NotEnoughData, match=f"the models are {MODEL}"):
        newest_field_recall(project, model="ffff")
    with pytest.raises(NotEnoughData, match="of such a model and time"):
        newest_field_recall(project, since=NOON + timedelta(days=1))
    assert newest_field_recall(project, model=MODEL[:4], since=NOON + timedelta(hours=1))[0].asked == 3


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "5"])
def test_a_date_that_is_none_is_refused(text):
    """The message shows how to write one."""
    with pytest.raises(SettingsError, match="write it as 2026-05-01"):
        moment_of(text)


def test_dates_and_times_are_utc():
    """A date is its first moment; Z and nothing mean the same."""
    assert moment_of("2026-05-01") == NOON.replace(hour=0)
    assert moment_of("2026-05-01T12:00Z") == moment_of("2026-05-01T14:00+02:00") == NOON
    assert moment_of("") is None


@pytest.mark.slow
def test_a_model_that_was_in_no_device_has_nothing_to_show(project):
    """A candidate's evaluation reads no batch for it."""
    a_release(project)
    dataset = a_labelled_month(project)
    assert in_the_field(project, "f" * 16, dataset.dataset_version) == []
    (found,) = in_the_field(project, MODEL, dataset.dataset_version)
    assert found.labelled == 40


@pytest.mark.slow
def test_the_report_of_an_evaluation_shows_the_field(project, tmp_path):
    """The page has a section with the figure and its interval, and is without it where nothing is known."""
    a_release(project)
    dataset = a_labelled_month(project)
    model = a_model(project, tmp_path)
    field = in_the_field(project, MODEL, dataset.dataset_version)
    pages = []
    for known in (field, []):
        evaluation = evaluate_split.fn(project, model, dataset.dataset_version, "test", {}, known)
        key = layout.evaluation_file(evaluation.evaluation, "report.html")
        pages.append(Central(project).bucket.get(key).decode())
    assert "<h2>In the field</h2>" in pages[0]
    assert f"Model {MODEL}, settings all/1" in pages[0]
    assert "labelled images" in pages[0]
    assert "In the field" not in pages[1]


def test_an_evaluation_in_the_prefect_ui_has_a_section_too(project, monkeypatch):
    """The figure, what it rests on, and what is told beside it; nothing where no device had the model."""
    a_release(project)
    a_turn(project, today=a_labelled_batch(project, KINDS))
    texts = []
    monkeypatch.setattr(flow_of_evaluations, "tell_markdown", lambda key, text, description: texts.append(text))
    monkeypatch.setattr(flow_of_evaluations, "plot_of", lambda project, evaluation: "")
    evaluation = Evaluation(evaluation="e" * 16, created_at=NOON, images=3, clusters=3, bootstrap_unit="image",
                            classes={}, coco={})  # fmt: skip
    flow_of_evaluations.tell(project, evaluation, evaluation, newest_field_recall(project))
    flow_of_evaluations.tell(project, evaluation, evaluation)
    assert f"## In the field\n\n- model {MODEL}, settings all/1, 2026-05-01. It finds 87% (" in texts[0]
    assert "  - few images: 3 with unequal weights" in texts[0]
    assert "In the field" not in texts[1]


def project_file(project, tmp_path):
    path = tmp_path / "project.yaml"
    path.write_text(yaml.safe_dump(project.model_dump(mode="json")))
    return path


@pytest.mark.slow
def test_the_command_tells_figures_with_intervals_and_reasons(project, tmp_path):
    """`edgeloop field-recall`, for people and for programs."""
    a_release(project)
    config = project_file(project, tmp_path)
    stub = (9, SURE, [HIT], {"model_version": "stub", "settings_version": "all/2"})
    a_turn(project, today=a_labelled_batch(project, [*KINDS, stub]))
    told = edgeloop("field-recall", "--config", config, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert f"Model {MODEL}, settings all/1, 2026-05-01" in told.stdout
    assert "It finds 87% (" in told.stdout
    assert "There is no figure: the devices had no model" in told.stdout
    as_json = edgeloop("field-recall", "--config", config, "--json", "--model", MODEL[:6], cwd=tmp_path)
    (record,) = json.loads(as_json.stdout)
    assert record["figures"]["recall"]["value"] == pytest.approx(10 / 11.5)
