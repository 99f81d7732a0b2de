"""A week's labels: measured in the bucket, shared out, drawn once, and found again by a turn that was cut off."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tasks.allocate import draw_labels, measure_yields, monday, orders_by_version, plan
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import STUB, Allocation, Batch, DatasetEntry, Release, Turn
from tasks.core.errors import NotEnoughData, ObjectMissing, SettingsError
from tasks.core.settings import RandomSampling, SamplingSettings
from tasks.retrain import build_dataset
from tasks.suggest import samples_of_batches
from tests.adapters.signing import publish
from tests.tasks.stages import NOON, SEEN_BOX, a_batch, a_project, a_sample, box, commit, label, seen

draw = draw_labels.fn
NOW = datetime(2026, 5, 6, 9, tzinfo=timezone.utc)  # a Wednesday; stages.NOON is the Friday before
UNSURE = (seen("car", 0.9), seen("car", 0.25, (40.0, 20.0, 60.0, 40.0)))


@pytest.fixture
def project(tmp_path):
    labelling = {"folder": str(tmp_path / "labelling"), "max_images": 15, "twice_share": 0}
    return a_project(tmp_path, labels_a_week=20, labelling=labelling)


def release(project, number=1, thresholds=None, persist=True):
    sampling = SamplingSettings(
        persist_predictions=persist,
        sampling_strategies=(RandomSampling(name="random", type="random", traffic_percentage=0.1),),
    )
    made = Release(
        group="all", number=number, created_at=NOON, class_names=project.classes, thresholds=thresholds or {},
        settings=sampling,
    )  # fmt: skip
    Central(project).bucket.write_record(layout.release("all", number), made)


def waiting_batch(project, batch_id, numbers, **fields) -> Batch:
    """Samples as ingest leaves them: a batch in the bucket; pictures are not needed for a draw."""
    samples = tuple(a_sample(n, **{"strategy": "rule-1", "detections": UNSURE, **fields}) for n in numbers)
    return Central(project).store_batch(
        Batch(batch_id=batch_id, created_at=NOON, class_names=project.classes, samples=samples)
    )


def a_labelled_yard(project, **turn) -> Turn:
    """20 images of each of two cameras: at the gate the unsure car is real, at the yard nothing is overlooked."""
    samples = [
        a_sample(n, camera=camera, strategy="rule-1", detections=UNSURE)
        for first, camera in ((0, "gate"), (100, "yard"))
        for n in range(first, first + 20)
    ]
    batch = a_batch(project, (), batch_id="labelled", samples=tuple(samples))
    labels = [
        label(s, SEEN_BOX, *([box("car", 40, 20)] if s.camera == "gate" else []), labelled_at=NOW - timedelta(days=1))
        for s in samples
    ]
    revision, _ = Central(project).store_labels(batch, labels)
    dataset = build_dataset.fn(project, {batch.batch_id: revision}, "")
    known = Turn(number=1, started_at=NOON, dataset_version=dataset.dataset_version, **turn)
    Central(project).bucket.write_record(layout.turn(1), known)
    return known


def measured(project, turn, **fields):
    central = Central(project)
    return measure_yields(central, turn.dataset_version, orders_by_version(central), NOW, **fields)


# --- yields ----------------------------------------------------------------------------------------------------------


def test_yields_come_from_labels_and_what_the_device_saw(project):
    """An overlooked car is a correction, one that was seen is none; each image is in its camera's cell."""
    turn = a_labelled_yard(project)
    images = measured(project, turn).images
    assert {(i.cell.camera, i.cell.strategy, i.cell.band, i.missed, i.false_alarms, i.boxes) for i in images} == {
        ("edge-1/gate", "rule-1", "0.2 to 0.3", 1, 0, 2),
        ("edge-1/yard", "rule-1", "0.2 to 0.3", 0, 0, 1),
    }
    assert len(images) == 40
    assert {round(i.weeks_old, 3) for i in images} == {0.143}


def test_thresholds_are_those_that_the_device_had(project):
    """At 0.2 the unsure car counts: at the gate nothing is missed, at the yard it is a false alarm."""
    turn = a_labelled_yard(project)
    release(project, 1, {"car": 0.2})
    found = {(i.cell.camera, i.cell.band, i.missed, i.false_alarms) for i in measured(project, turn).images}
    assert found == {("edge-1/gate", "nothing in doubt", 0, 0), ("edge-1/yard", "nothing in doubt", 0, 1)}


@pytest.mark.parametrize("version", ["9a8b7c6d5e4f3a2b", "all/7", "all/²", "../2", "all/-2", "all/2/3", ""])
def test_a_settings_version_that_names_no_release_has_what_is_in_force_now(project, version):
    """A local file, a release that is not there or cannot be: the thresholds of the newest one, and no error."""
    for thresholds in ({"car": 0.2}, {"car": 0.7}):
        publish(Central(project).bucket, Release(
            group="all", number=1, created_at=NOON, class_names=project.classes, thresholds=thresholds,
            settings=project.sampling,
        ))  # fmt: skip
    orders = orders_by_version(Central(project))
    assert orders("all/1").thresholds == {"car": 0.2}
    assert orders(version).thresholds == {"car": 0.7}


def test_images_that_say_nothing_of_a_model_are_left_out(project):
    """Of a stub, of an import, older than asked for, without the detections of its device: the last are counted."""
    samples = [
        a_sample(1, detections=UNSURE),
        a_sample(2, model_version=STUB, detections=()),
        a_sample(3, camera="import", detections=()),
        a_sample(4, detections=(), settings_version="all/2"),
        a_sample(5, detections=()),
        a_sample(6, detections=UNSURE),
    ]
    release(project, 1)
    release(project, 2, persist=False)
    batch = a_batch(project, (), samples=tuple(samples))
    ages = [1, 1, 1, 1, 1, 30]
    labels = [label(s, SEEN_BOX, labelled_at=NOW - timedelta(days=days)) for s, days in zip(samples, ages)]
    revision, _ = Central(project).store_labels(batch, labels)
    turn = Turn(
        number=1, started_at=NOON, dataset_version=build_dataset.fn(project, {"today": revision}, "").dataset_version
    )
    found = measured(project, turn, weeks_back=2)
    assert sorted(i.missed for i in found.images) == [0, 1]
    assert found.problems == ("labelled images whose detections were not kept, left out: 1",)
    assert len(measured(project, turn).images) == 3


def test_an_image_whose_boxes_cannot_be_used_is_left_out_and_counted(project, monkeypatch):
    """A detection with a coordinate that is no number costs its image, not the allocation."""
    bad = a_sample(1, detections=(seen("car", 0.9, (float("nan"), 1.0, 30.0, 30.0)),))
    entries = [
        DatasetEntry(
            sample=sample, label=label(sample, SEEN_BOX, labelled_at=NOW), batch_id="b", revision=1, split="train",
            cluster="c", image_key="k",
        )
        for sample in (bad, a_sample(2, detections=UNSURE))
    ]  # fmt: skip
    monkeypatch.setattr(Central, "entries", lambda self, dataset_version: entries)
    found = measured(project, Turn(number=1, started_at=NOON, dataset_version="d" * 16))
    assert len(found.images) == 1
    assert found.problems == ("labelled images whose boxes cannot be used, left out: 1",)


# --- a plan ----------------------------------------------------------------------------------------------------------


def test_a_plan_is_over_what_devices_brought_in_their_last_week(project):
    """Not what came before; a camera that has gone is named, gets nothing, and its labels go to the others."""
    a_labelled_yard(project)
    old = [a_sample(n, camera="yard", strategy="rule-1", detections=UNSURE) for n in range(5)]
    commit(project, 1, [s.model_copy(update={"captured_at": NOON - timedelta(days=20)}) for s in old])
    commit(project, 2, [a_sample(n, strategy="rule-1", detections=UNSURE) for n in range(10, 40)])
    commit(project, 3, [a_sample(n, random_slice=True) for n in range(40, 44)])
    made = plan(project, 25, None, NOW)
    assert {(row.camera, row.supply, row.labels) for row in made.cells} == {
        ("", 4, 4), ("edge-1/gate", 30, 21), ("edge-1/yard", 0, 0),
    }  # fmt: skip
    assert any("nothing of it waits" in row.reason for row in made.cells)
    assert made.mean_yield > 0
    assert Central(project).bucket.read_record(layout.allocation(1), Allocation) == made
    assert plan(project, 25, None, NOW).number == 2
    assert made.batches == made.drawn_from == ()


def test_a_plan_is_over_what_waits_where_something_does(project):
    """With a weekly draw, what it would be of."""
    waiting_batch(project, "w1", range(6))
    a_labelled_yard(project, waiting_batches=("w1",))
    assert {row.camera: row.supply for row in plan(project, 5, None, NOW).cells} == {
        "": 0, "edge-1/gate": 6, "edge-1/yard": 0,
    }  # fmt: skip


def test_plans_that_cannot_be_made_leave_nothing_behind(project):
    """No samples, no labels to share, too few for both kinds: a line that says so, and no record."""
    with pytest.raises(NotEnoughData, match="nothing to share 20 labels out over"):
        plan(project, 20, None, NOW)
    commit(project, 1, [a_sample(1), a_sample(2, random_slice=True)])
    with pytest.raises(SettingsError, match="0 labels cannot be shared out"):
        plan(project, 0, None, NOW)
    with pytest.raises(SettingsError, match="exploration takes 1"):
        plan(project, 1, None, NOW)
    assert Central(project).bucket.list("allocations") == []


def test_damaged_segments_are_passed_over(project):
    """What can be read is what can be shared out."""
    commit(project, 1, [a_sample(n) for n in range(7)])
    Central(project).bucket.put(layout.segment("edge-1", 2), b"no gzip")
    assert sum(row.supply for row in plan(project, 5, None, NOW).cells) == 7


# --- the draw --------------------------------------------------------------------------------------------------------


def test_a_draw_follows_yields_and_keeps_what_estimates_need(project):
    """Most go to the camera where people corrected most, the random slice is whole, each sample has its probability."""
    a_labelled_yard(project)
    gate = waiting_batch(project, "w1", range(200, 230))
    yard = waiting_batch(project, "w2", range(300, 330), camera="yard")
    drawn_at_random = waiting_batch(project, "w3", range(400, 404), random_slice=True)
    made = draw(project, ("w1", "w2", "w3"), NOW).allocation
    assert made.handed_out == 20
    batches = [Central(project).batch(batch_id) for batch_id in made.batches]
    assert [len(batch.samples) for batch in batches] == [15, 5]
    chosen = {s.sample_id: b for b in batches for s in b.samples}
    counts = [sum(s.sample_id in chosen for s in batch.samples) for batch in (gate, yard, drawn_at_random)]
    assert counts[2] == 4
    assert counts[0] > 2 * counts[1] > 0
    for batch, count in ((gate, counts[0]), (yard, counts[1])):
        offered = {chosen[s.sample_id].probability_offered[s.sample_id] for s in batch.samples if s.sample_id in chosen}
        assert offered == {count / 30}
    assert not any(s.sample_id in chosen[s.sample_id].probability_offered for s in drawn_at_random.samples)
    assert {b.drawn_from for b in batches} == {("w1", "w2", "w3")} == {made.drawn_from}
    assert Central(project).bucket.read_record(layout.allocation(made.number), Allocation) == made


def test_the_probability_reaches_the_dataset_and_counts_stay_those_of_all_samples(project):
    """A labelled sample of a draw carries it; what was collected counts the samples that were not drawn, too."""
    pool = waiting_batch(project, "w1", range(40))
    made = draw(project, ("w1",), NOW).allocation
    central = Central(project)
    revisions = {}
    for batch_id in made.batches:
        batch = central.batch(batch_id)
        revisions[batch_id], _ = central.store_labels(batch, [label(s, SEEN_BOX) for s in batch.samples])
    dataset = build_dataset.fn(project, {"w1": 0, **revisions}, "")
    assert {entry.probability_offered for entry in central.entries(dataset.dataset_version)} == {0.5}
    collected = samples_of_batches(central, dataset.dataset_version, "all/1")
    assert {s.sample_id for s in collected} == {s.sample_id for s in pool.samples}
    batch = a_batch(project, range(50, 52), batch_id="all-offered")
    revision, _ = central.store_labels(batch, [label(s) for s in batch.samples])
    plain = build_dataset.fn(project, {"all-offered": revision}, "")
    assert {entry.probability_offered for entry in central.entries(plain.dataset_version)} == {1.0}


def test_a_turn_that_was_cut_off_finds_its_draw_again(project):
    """The same batches are asked for again: nothing is drawn twice, also when more has come."""
    waiting_batch(project, "w1", range(40))
    first = draw(project, ("w1",), NOW).allocation
    waiting_batch(project, "w2", range(50, 90))
    assert draw(project, ("w1", "w2"), NOW + timedelta(hours=1)).allocation == first
    later = draw(project, ("w2",), NOW + timedelta(hours=1))
    assert later.allocation is None
    assert later.waits_for == "the week of 2026-05-11: the labels of this one have been drawn"
    assert draw(project, ("w2",), NOW + timedelta(days=5)).allocation.drawn_from == ("w2",)


def test_the_draw_waits_until_there_is_a_choice_or_the_week_has_ended(project):
    """Fewer samples than labels, all of this week: more may come. Of the week before: all of them are drawn."""
    now = NOON + timedelta(hours=6)
    waiting_batch(project, "w1", range(8))
    waits = draw(project, ("w1",), now)
    assert waits.allocation is None
    assert waits.waits_for == "12 more samples, or the end of the week, before its 20 labels are drawn"
    made = draw(project, ("w1",), NOW).allocation
    assert made.handed_out == 8
    assert "12 of 20 labels are left over" in "".join(made.warnings)
    waiting_batch(project, "w2", range(20, 45))
    assert draw(project, ("w2",), NOW + timedelta(days=7)).allocation.handed_out == 20


def test_shares_are_held_to_those_of_an_earlier_week_and_not_to_a_plan_of_the_same(project):
    """Asking for a plan again and again does not let shares swing further, nor does a plan of an earlier week."""
    a_labelled_yard(project)
    waiting_batch(project, "w1", range(200, 230))
    waiting_batch(project, "w2", range(300, 330), camera="yard")
    equal = Allocation(
        number=1, created_at=NOW - timedelta(days=7), labels=20, exploration=0.2, floor=0.25, swing=1.5,
        half_life_weeks=4, drawn_from=("w0",), cells=tuple(
            {"camera": f"edge-1/{name}", "strategy": "rule-1", "band": "0.2 to 0.3", "share": 0.5}
            for name in ("gate", "yard")
        ),
    )  # fmt: skip
    tilted = equal.cells[0].model_copy(update={"share": 0.9}), equal.cells[1].model_copy(update={"share": 0.1})
    a_plan = equal.model_copy(update={"number": 2, "cells": tilted, "drawn_from": ()})
    for made in (equal, a_plan):
        Central(project).bucket.write_record(layout.allocation(made.number), made)
    Central(project).bucket.write_record(
        layout.turn(2), Turn(number=2, started_at=NOON, waiting_batches=("w1", "w2"),
                             dataset_version=Central(project).bucket.read_record(layout.turn(1), Turn).dataset_version),
    )  # fmt: skip
    for _ in range(3):
        made = plan(project, 20, None, NOW)
    shares = {row.camera: row.share for row in made.cells}
    assert made.number == 5
    assert shares["edge-1/gate"] == pytest.approx(1 - 0.5 / 1.5)


def test_a_draw_needs_a_weekly_number(project):
    """Without one there is no draw; everything is offered then."""
    waiting_batch(project, "w1", range(3))
    with pytest.raises(SettingsError, match="labels_a_week is not set"):
        draw(project.model_copy(update={"labels_a_week": None}), ("w1",), NOW)
    with pytest.raises(ObjectMissing):
        draw(project, ("gone",), NOW)


@pytest.mark.parametrize(("day", "begun"), [(4, 4), (6, 4), (10, 4), (11, 11)])
def test_weeks_begin_on_monday_midnight_utc(day, begun):
    """As batches of a weekly interval are named."""
    at = datetime(2026, 5, day, 23, 59, tzinfo=timezone(timedelta(hours=0)))
    assert monday(at) == datetime(2026, 5, begun, tzinfo=timezone.utc)
