"""Batches as people get them: best first, gold mixed in, twins later, everything behind the trial."""

from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.adapters.labelling import FilesLabelling, is_seeded
from tasks.batching import assignee_of, decide, doubts_of, prepared, sort_batches
from tasks.central import Central, batches_of
from tasks.core import layout
from tasks.core.entities import STUB, Batch, Turn
from tasks.core.splits import assign_split
from tasks.evaluate import evaluate_split
from tasks.field_recall import asked_of
from tasks.ingest import ingest_device
from tasks.label import offer_batch, pull_batch
from tasks.people import add_gold, assign, seeding
from tasks.retrain import build_dataset
from tasks.turn import save_turn
from tests.tasks.stages import (
    A_SURE_CAR,
    NOON,
    SEEN_BOX,
    a_batch,
    a_labelled_month,
    a_model,
    a_project,
    a_sample,
    box,
    commit,
    label,
    put_images,
    seen,
)

sort, offer, pull, freeze, ingest = sort_batches.fn, offer_batch.fn, pull_batch.fn, build_dataset.fn, ingest_device.fn


def with_labelling(tmp_path, **fields):
    return a_project(tmp_path, labelling={"folder": str(tmp_path / "labelling"), "max_images": 100, **fields})


def random_days(days: int, **fields):
    """A random image each day; six in ten of them measure."""
    return [a_sample(n, captured_at=NOON + timedelta(days=n), random_slice=True, **fields) for n in range(days)]


def put_back(project, batch, *labels):
    FilesLabelling(Path(project.labelling.folder)).put_back(batch, labels)


def stored(project, samples, name="b") -> list[Batch]:
    """The batches of samples, prepared and in the bucket, with their images."""
    central = Central(project)
    put_images(project, samples, range(len(samples)))
    return [central.store_batch(batch) for batch in prepared(central, batches_of(name, samples, project))]


def with_gold(project, numbers):
    """Gold labels of a batch of their own: a car each."""
    batch = a_batch(project, numbers, batch_id="vouched")
    Central(project).store_labels(batch, [label(s, SEEN_BOX) for s in batch.samples])
    add_gold(project, "vouched", [s.sample_id for s in batch.samples], "lead")
    return batch


# --- order -----------------------------------------------------------------------------------------------------------


def test_the_doubts_of_the_live_model_order_a_batch_and_the_batches(tmp_path):
    """From the newest evaluation: doubtful images before sure ones, and the batch of them before the other."""
    project = with_labelling(tmp_path).model_copy(update={"beta": 0.5})
    central = Central(project)
    assert doubts_of(central) is None
    on_the_overlooked_one = (10, 46, 20, 20, 0, 0.3)  # BLIND_BOX, letterboxed: real in every second image
    dataset, model = a_labelled_month(project), a_model(project, tmp_path, (A_SURE_CAR, on_the_overlooked_one))
    evaluation = evaluate_split.fn(project, model, dataset.dataset_version, "calibration")
    save_turn.fn(project, Turn(number=1, started_at=NOON, evaluation=evaluation.evaluation))
    known = doubts_of(central)
    assert 0.3 < known.thresholds[0] <= 0.9
    doubtful, sure = (seen("car", 0.3),), (seen("car", 0.95),)
    drawn = a_sample(70, random_slice=True, detections=sure)
    mixed = [a_sample(60, detections=sure), a_sample(61, detections=doubtful), drawn]
    plain = [a_sample(50, detections=sure), a_sample(51, detections=sure)]
    first, second = prepared(central, [*batches_of("a", plain, project), *batches_of("b", mixed, project)])[:2]
    assert (first.batch_id[0], second.batch_id[0]) == ("b", "a")
    assert first.priority > second.priority
    assert [s.sample_id for s in first.samples] == [drawn.sample_id, mixed[1].sample_id, mixed[0].sample_id]
    central.bucket.remove(layout.evaluation_file(evaluation.evaluation, "matches.parquet"))
    assert doubts_of(central) is None  # an order is no reason to keep batches from people


def test_near_duplicates_are_named_and_not_offered(tmp_path):
    """Files of one picture with the same detections, but for what is random or where the model saw another thing."""
    project = with_labelling(tmp_path)
    pictures = [encoded(quality) for quality in (95, 94, 93, 92)]
    size = {"width": 340, "height": 320}
    other = (seen("truck", 0.9, (40.0, 20.0, 60.0, 40.0)),)
    samples = [
        a_sample(0, pictures[0], **size),
        a_sample(1, pictures[1], **size),
        a_sample(2, pictures[2], detections=other, **size),
        a_sample(3, pictures[3], random_slice=True, **size),
    ]
    for sample, picture in zip(samples, pictures):
        Central(project).bucket.put(layout.sample_image("edge-1", sample.captured_at, sample.sample_id), picture)
    Central(project).store_batch(
        Batch(batch_id="today", created_at=NOON, class_names=("car", "truck"), samples=samples)
    )
    told = offer(project, "today", {})
    assert told.images == 2  # the random one stands for the first two
    assert [line.split()[1] for line in told.left_out] == [samples[0].sample_id, samples[1].sample_id]
    assert all(samples[3].sample_id in line for line in told.left_out)
    assert offer(project, "today", {}) == told
    all_of_them = project.model_copy(
        update={"labelling": project.labelling.model_copy(update={"near_duplicates": False})}
    )
    assert offer(all_of_them, "today", {}).images == 4


def encoded(quality: int) -> bytes:
    """One picture in several files: what two shots of the same scene look like to a difference hash."""
    grey = np.random.default_rng(0).integers(0, 255, (16, 17), dtype=np.uint8)
    pixels = cv2.cvtColor(cv2.resize(grey, (340, 320), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    return bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


# --- labelled twice --------------------------------------------------------------------------------------------------


def test_what_measures_is_blank_first_and_comes_again_with_pre_annotations(tmp_path):
    """The twin holds test and calibration images alone, waits for their labels, and shows the model's boxes."""
    project = with_labelling(tmp_path, twice_share=1.0)
    first, twin = stored(project, [*random_days(20), a_sample(30)])
    measuring = {s.sample_id for s in first.samples if assign_split(s) != "train"}
    assert set(first.unseeded) == measuring == {s.sample_id for s in twin.samples}
    assert not any(is_seeded(first, s) for s in first.samples if s.sample_id in measuring)
    assert all(is_seeded(twin, s) for s in twin.samples)
    assert (twin.purpose, twin.drawn_from) == ("seeded-twin", (first.batch_id,))
    both = (first.batch_id, twin.batch_id)
    found = sort(project, both, {})
    assert (found.ready, list(found.held)) == ((first.batch_id,), [twin.batch_id])
    assert first.batch_id in found.held[twin.batch_id]
    found = sort(project, (twin.batch_id,), {first.batch_id: 1})
    assert (found.ready, found.held) == ((twin.batch_id,), {})


def test_the_device_that_has_no_model_has_nothing_to_show(tmp_path):
    """Images of a stub are labelled once."""
    project = with_labelling(tmp_path, twice_share=1.0)
    assert len(prepared(Central(project), batches_of("b", random_days(20, model_version=STUB), project))) == 1


def test_labels_made_with_pre_annotations_change_no_dataset_and_no_estimate(tmp_path):
    """People who draw nothing where the model saw nothing: the dataset is that of the blank labels, byte for byte."""
    project = with_labelling(tmp_path, twice_share=1.0)
    first, twin = stored(project, random_days(40))
    central = Central(project)
    offer(project, first.batch_id, {})
    put_back(project, first, *(label(s, SEEN_BOX, box("car", 0, 28)) for s in first.samples))
    revisions = {first.batch_id: pull(project, first.batch_id, 0).revision}
    before = freeze(project, revisions, "")
    offer(project, twin.batch_id, {})
    put_back(project, twin, *(label(s, SEEN_BOX, labelled_at=NOON + timedelta(days=99)) for s in twin.samples))
    revisions[twin.batch_id] = pull(project, twin.batch_id, 0).revision
    after = freeze(project, revisions, "")
    assert after.dataset_version == before.dataset_version
    entries = central.entries(after.dataset_version)
    assert not any(entry.label.seeded or entry.batch_id == twin.batch_id for entry in entries if entry.split != "train")
    assert {asked.batch_id for asked in asked_of(central, revisions)} == {first.batch_id}

    overall, car = seeding(project, Turn(number=1, started_at=NOON, batches=revisions))
    assert (overall.images, car.class_name) == (len(twin.samples), "car")
    assert (overall.recall_blank, overall.recall_seeded, overall.overlooked) == (0.5, 1.0, 1.0)
    assert overall.is_told


def test_nothing_is_compared_that_was_not_labelled_both_ways(tmp_path):
    """A skip, a missing label, a label that saw no boxes: left out; no twin: an empty answer."""
    project = with_labelling(tmp_path, twice_share=1.0)
    first, twin = stored(project, random_days(20))
    offer(project, first.batch_id, {})
    one, two, three, *_ = twin.samples
    put_back(project, first, label(one, SEEN_BOX), label(two, status="skipped"))
    offer(project, twin.batch_id, {})
    put_back(project, twin, *(label(s, SEEN_BOX) for s in (one, two, three)))
    revisions = {b.batch_id: pull(project, b.batch_id, 0).revision for b in (first, twin)}
    found = seeding(project, Turn(number=1, started_at=NOON, batches=revisions))
    assert found[0].images == 1
    assert seeding(project, Turn(number=1, started_at=NOON, batches={first.batch_id: 1})) == []
    assert seeding(project) == []


# --- gold ------------------------------------------------------------------------------------------------------------


def test_gold_samples_are_among_the_others_and_nothing_tells_them(tmp_path):
    """A share of the batch, seeded and laid out like the rest; no file of the batch says which they are."""
    project = with_labelling(tmp_path, gold_share=0.25, near_duplicates=False)
    vouched = with_gold(project, range(40, 46))
    (batch,) = stored(project, [a_sample(n) for n in range(16)])
    assert len(batch.gold) == 4
    assert set(batch.gold) < {s.sample_id for s in vouched.samples}
    assert len(batch.samples) == 20
    told = offer(project, batch.batch_id, {})
    folder = tmp_path / "labelling" / batch.batch_id
    assert (told.images, len(list((folder / "images").iterdir()))) == (20, 20)
    seeds = FilesLabelling(folder.parent).seeds(batch)
    assert set(batch.gold) < set(seeds)
    assert not any("gold" in f.read_text() for f in folder.iterdir() if f.is_file())


def test_labels_of_gold_samples_enter_the_dataset_once(tmp_path):
    """What somebody else says of them is kept with the batch and trains nothing."""
    project = with_labelling(tmp_path, gold_share=1.0)
    with_gold(project, range(40, 43))
    (batch,) = stored(project, [a_sample(n) for n in range(3)])
    wrong = [label(s, box("truck", 5, 5), labelled_at=NOON + timedelta(days=9)) for s in batch.samples]
    central = Central(project)
    central.store_labels(batch, wrong)
    dataset = freeze(project, {"vouched": 1, batch.batch_id: 1}, "")
    entries = {e.sample.sample_id: e for e in central.entries(dataset.dataset_version)}
    assert len(entries) == 6
    assert {entries[sample_id].batch_id for sample_id in batch.gold} == {"vouched"}
    assert {entries[sample_id].label.boxes for sample_id in batch.gold} == {(SEEN_BOX,)}
    assert len(list(asked_of(central, {batch.batch_id: 1}))) == 3


# --- trials ----------------------------------------------------------------------------------------------------------


def labelled_trial(project, name, boxes_of) -> int:
    """People label a trial: its revision."""
    central = Central(project)
    trial = central.batch(name)
    return central.store_labels(trial, [label(s, *boxes_of(s)) for s in trial.samples])[0]


def test_nothing_is_offered_before_its_trial_is_accepted(tmp_path):
    """Drawn once from what waits, half gold; good agreement opens the rest, and the next batches wait no more."""
    project = with_labelling(tmp_path, trial_images=6)
    with_gold(project, range(40, 44))
    batches = [*stored(project, [a_sample(n) for n in range(5)]), *stored(project, [a_sample(n) for n in range(5, 9)])]
    ids = tuple(batch.batch_id for batch in batches)
    assert {batch.after for batch in batches} == {"trial-000001"}
    found = sort(project, ids, {})
    assert (found.ready, found.opened, set(found.held)) == (("trial-000001",), "trial-000001", set(ids))
    trial = Central(project).batch("trial-000001")
    assert (len(trial.samples), len(trial.gold), trial.purpose) == (6, 3, "trial")
    again = sort(project, ids, {})
    assert (again.opened, Central(project).batch("trial-000001")) == ("trial-000001", trial)  # a turn was cut off

    known = {"trial-000001": 0}
    assert sort(project, ("trial-000001", *ids), known).ready == ("trial-000001",)
    known["trial-000001"] = labelled_trial(project, "trial-000001", lambda _: [SEEN_BOX])
    assert set(sort(project, ("trial-000001", *ids), known).held) == set(ids)  # it is not whole yet
    found = sort(project, ids, known)
    assert (set(found.ready), found.held) == (set(ids), {})
    assert "accepted" in found.done[0]
    assert freeze(project, known, "").counts == {}
    (later,) = stored(project, [a_sample(20)])
    assert later.after == ""


def test_a_trial_that_disagrees_waits_for_a_person_and_a_rejected_one_is_followed_by_another(tmp_path):
    """The sentence says how well it agrees and what to call; the next trial has other images."""
    project = with_labelling(tmp_path, trial_images=4)
    with_gold(project, range(40, 42))
    batches = stored(project, [a_sample(n) for n in range(20)])
    ids = tuple(batch.batch_id for batch in batches)
    sort(project, ids, {})
    known = {"trial-000001": labelled_trial(project, "trial-000001", lambda _: [box("truck", 5, 5)])}
    waits = sort(project, ids, known).held[ids[0]]
    assert "agrees 0.000" in waits
    assert "edgeloop labels accept trial-000001" in waits
    decide(Central(project), "trial-000001", "rejected", "lead")
    found = sort(project, ("trial-000001", *ids), known)
    assert (found.opened, found.dropped, found.ready) == ("trial-000002", ("trial-000001",), ("trial-000002",))
    first, second = (Central(project).batch(f"trial-00000{n}") for n in (1, 2))
    assert set(first.samples) != set(second.samples)
    assert stored(project, [a_sample(30)])[0].after == "trial-000002"
    off = project.model_copy(update={"labelling": project.labelling.model_copy(update={"trial_images": 0})})
    assert set(sort(off, ids, known).ready) == set(ids)  # who asks for no trials any more waits for none


def test_without_gold_labels_a_person_decides(tmp_path):
    """Nothing is accepted by itself where nothing is known."""
    project = with_labelling(tmp_path, trial_images=2)
    (batch,) = stored(project, [a_sample(n) for n in range(4)])
    sort(project, (batch.batch_id,), {})
    known = {"trial-000001": labelled_trial(project, "trial-000001", lambda _: [])}
    assert "no gold sample" in sort(project, (batch.batch_id,), known).held[batch.batch_id]
    decide(Central(project), "trial-000001", "accepted", "lead")
    assert sort(project, (batch.batch_id,), known).ready == (batch.batch_id,)


def test_what_people_have_begun_they_keep(tmp_path):
    """A batch with labels stays open and in its place, also behind a trial."""
    project = with_labelling(tmp_path, trial_images=2)
    begun, new = stored(project, [a_sample(0)]) + stored(project, [a_sample(1)])
    found = sort(project, (new.batch_id, begun.batch_id), {begun.batch_id: 1})
    assert found.ready == (begun.batch_id, "trial-000001")


# --- made by ingest --------------------------------------------------------------------------------------------------


def test_ingest_makes_them_and_a_crash_makes_the_same_again(tmp_path):
    """Twins, order and trial are stored with the batch; where a weekly draw decides, the draw makes them."""
    project = with_labelling(tmp_path, twice_share=1.0, trial_images=3)
    commit(project, 1, random_days(20))
    first = ingest(project, "edge-1")
    assert [name.startswith("twin-") for name in first.batches] == [False, True]
    before = {name: Central(project).batch(name) for name in first.batches}
    Central(project).bucket.remove(layout.ingest_cursor("edge-1"))
    assert ingest(project, "edge-1") == first
    assert {name: Central(project).batch(name) for name in first.batches} == before
    weekly = a_project(tmp_path / "weekly", labels_a_week=5, labelling={"twice_share": 1.0, "trial_images": 3})
    commit(weekly, 1, random_days(20))
    (plain,) = ingest(weekly, "edge-1").batches
    assert Central(weekly).batch(plain).after == ""


def test_the_last_word_says_who_is_asked(tmp_path):
    """Assigned, given to somebody else, and to nobody; the place where people label is told."""
    project = with_labelling(tmp_path)
    batch = a_batch(project, range(2))
    central = Central(project)
    for name in ("ann", "  bob  "):
        assign(project, "today", name, "lead")
        assert assignee_of(central, batch) == name.strip()
        offer(project, "today", {})
        page = tmp_path / "labelling" / "today" / "instructions.md"
        assert page.read_text().startswith(f"# today, for {name.strip()}\n")
    assign(project, "today", "", "lead")
    assert assignee_of(central, batch.model_copy(update={"assignee": "ann"})) == ""


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_size_caps_hold_for_what_is_asked_for(tmp_path, share):
    """Gold samples come on top, twins have the same cap."""
    project = with_labelling(tmp_path, max_images=4, gold_share=share, twice_share=1.0)
    with_gold(project, range(60, 63))
    made = stored(project, random_days(20))
    assert {len(b.samples) - len(b.gold) <= 4 for b in made} == {True}
    assert {len(b.gold) for b in made if b.purpose == "labels"} == {round(4 * share)}
