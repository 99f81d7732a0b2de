"""Labels: offered once, pulled as numbered revisions that only ever know more."""

import json
import os
from pathlib import Path

import pytest

from tasks.adapters.labelling import FilesLabelling
from tasks.adapters.labels import labels_from_coco
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Sample
from tasks.core.errors import BucketError
from tasks.label import Done, offer_batch, pull_batch
from tasks.retrain import build_dataset
from tests.tasks.stages import NOON, a_batch, a_project, a_sample, box, label, put_images, seen

offer, pull, freeze = offer_batch.fn, pull_batch.fn, build_dataset.fn


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


@pytest.fixture
def labels_folder(tmp_path):
    return tmp_path / "labelling" / "today" / "labels"


def put_back(project, batch, *labels):
    FilesLabelling(Path(project.labelling.folder)).put_back(batch, labels)


def revision_of(project, batch, revision):
    """The labels of a stored revision, by sample id."""
    key = layout.labels(batch.batch_id, revision)
    samples = {sample.sample_id: sample for sample in batch.samples}
    labels, problems = labels_from_coco(Central(project).bucket.get(key), samples, batch.class_names, key)
    assert not problems.counts
    return {found.sample_id: found for found in labels}


def revisions(project) -> list[str]:
    return Central(project).bucket.list("batches/today/labels/")


def test_what_people_do_becomes_one_revision_after_the_other(project):
    """No labels: 0. A part: 1. The same again: still 1. More: 2, beside an unchanged 1. All: the batch is done."""
    batch = a_batch(project, range(3))
    one, two, three = batch.samples
    assert offer(project, "today", {}).images == 3
    assert pull(project, "today", 0).revision == 0
    put_back(project, batch, label(one, box("car", 10, 10)))
    first = pull(project, "today", 0)
    assert (first.revision, first.status.done, first.boxes) == (1, 1, 1)
    stored = Central(project).bucket.get(layout.labels("today", 1))
    assert pull(project, "today", 1) == first
    put_back(project, batch, label(one, box("car", 10, 10)), label(two))
    assert pull(project, "today", 1).revision == 2
    assert Central(project).bucket.get(layout.labels("today", 1)) == stored
    assert not Central(project).bucket.exists(layout.batch_done("today"))
    put_back(project, batch, label(one, box("car", 10, 10)), label(two), label(three, status="skipped"))
    last = pull(project, "today", 2)
    assert last.status.complete
    assert (last.status.done, last.status.skipped) == (2, 1)
    done = Central(project).bucket.read_record(layout.batch_done("today"), Done)
    assert (done.revision, done.status) == (3, last.status)


def test_a_turn_that_was_cut_off_after_a_revision_goes_on(project):
    """The turn knows of revision 0, the bucket has 1 or 2, people have gone on: the next number follows."""
    batch = a_batch(project, range(3))
    one, two, three = batch.samples
    offer(project, "today", {})
    put_back(project, batch, label(one))
    assert pull(project, "today", 0).revision == 1
    put_back(project, batch, label(one), label(two))
    assert pull(project, "today", 0).revision == 2
    assert pull(project, "today", 0).revision == 2
    put_back(project, batch, label(one), label(two), label(three))
    assert pull(project, "today", 1).revision == 3
    assert set(revision_of(project, batch, 1)) == {one.sample_id}
    assert len(revisions(project)) == 3


def test_labels_once_taken_in_survive_their_files(project, labels_folder):
    """A damaged file, a file that was replaced by another part, a folder that is gone: earlier labels stay."""
    batch = a_batch(project, range(3))
    one, two, _ = batch.samples
    offer(project, "today", {})
    put_back(project, batch, label(one, box("car", 10, 10)))
    pull(project, "today", 0)
    (labels_folder / "labels.json").write_text('{"images": [')
    damaged = pull(project, "today", 1)
    assert damaged.revision == 1
    assert "labels.json" in damaged.problems[0]
    put_back(project, batch, label(two, box("car", 1, 1)))
    found = pull(project, "today", 1)
    assert (found.revision, found.status.done, found.boxes) == (2, 2, 2)
    for path in sorted(labels_folder.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    gone = pull(project, "today", 2)
    assert (gone.revision, gone.status.done, gone.status.offered) == (2, 2, 3)


def test_a_label_keeps_its_time_until_it_says_something_else(project, labels_folder):
    """Touching a file, or adding one, makes no revision of what is unchanged, and nobody's label becomes newer."""
    batch = a_batch(project, range(2))
    one, two = batch.samples
    offer(project, "today", {})
    (labels_folder / f"{one.sample_id}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    pull(project, "today", 0)
    first = revision_of(project, batch, 1)[one.sample_id]
    os.utime(labels_folder / f"{one.sample_id}.txt", (NOON.timestamp(), NOON.timestamp()))
    assert pull(project, "today", 1).revision == 1
    (labels_folder / f"{two.sample_id}.txt").write_text("")
    assert pull(project, "today", 1).revision == 2
    assert revision_of(project, batch, 2)[one.sample_id] == first
    (labels_folder / f"{one.sample_id}.txt").write_text("1 0.5 0.5 0.25 0.25\n")
    assert pull(project, "today", 2).revision == 3
    assert revision_of(project, batch, 3)[one.sample_id].boxes[0].class_name == "truck"


def test_corrections_are_counted_against_what_people_were_given(project, labels_folder):
    """Of the seeds at the thresholds of the offer, also when people edit pre_annotations.json in place."""
    samples = [
        a_sample(n, detections=(seen("car", 0.9, (10, 10, 30, 30)), seen("car", 0.3, (40, 20, 60, 40))))
        for n in range(4)
    ]
    batch = a_batch(project, range(4), samples=tuple(samples), unseeded=(samples[3].sample_id,))
    offer(project, "today", {"car": 0.5})
    offer(project, "today", {"car": 0.1})  # other thresholds are in force by now: the seeds stay
    edited = labels_folder.parent / "pre_annotations.json"
    content = json.loads(edited.read_text())
    content["annotations"][1]["bbox"] = [13, 10, 20, 20]
    edited.write_text(json.dumps(content))
    moved = content["annotations"][1]["image_id"]
    (labels_folder / "edited.json").write_text(json.dumps(content))
    pull(project, "today", 0)
    found = revision_of(project, batch, 1)
    by_file = {image["file_name"][:20]: image["id"] for image in content["images"]}
    assert {by_file[s]: found[s].corrections for s in found} == {
        image: int(image == moved) for image in by_file.values()
    }
    assert all(one.seeded for one in found.values())

    put_back(
        project,
        batch,
        label(samples[0], box("car", 10, 10), box("car", 40, 20)),  # one added
        label(samples[1]),  # one removed
        label(samples[2], box("truck", 10, 10)),  # one renamed
        label(samples[3], box("car", 10, 10), seeded=True, corrections=7),  # labelled blank, whatever the file says
    )
    edited.unlink()
    (labels_folder / "edited.json").unlink()
    pulled = pull(project, "today", 1)
    assert pulled.corrections == 3
    last = revision_of(project, batch, pulled.revision)
    assert [(last[s.sample_id].seeded, last[s.sample_id].corrections) for s in samples] == [
        (True, 1), (True, 1), (True, 1), (False, 0),
    ]  # fmt: skip


def test_images_that_cannot_be_offered_are_named_and_not_waited_for(project, tmp_path):
    """Missing, damaged, of another size: people get the others, and the batch is done when those are."""
    good, missing, damaged, resized = (a_sample(n) for n in range(4))
    resized = resized.model_copy(update={"width": 640})
    batch = a_batch(project, [], samples=(good, missing, damaged, resized))
    put_images(project, (good, damaged, resized), (0, 2, 3))
    key = layout.sample_image(damaged.device, damaged.captured_at, damaged.sample_id)
    Central(project).bucket.put(key, b"\xff\xd8\xff rotten")
    offered = offer(project, "today", {})
    assert offered.images == 1
    assert len(offered.left_out) == 3
    for sample, words in ((missing, "no such object"), (damaged, "sha256"), (resized, "640")):
        assert sum(sample.sample_id in line and words in line for line in offered.left_out) == 1
    assert [p.stem for p in (tmp_path / "labelling" / "today" / "images").iterdir()] == [good.sample_id]
    put_back(project, batch, label(good))
    found = pull(project, "today", 0)
    assert (found.status.offered, found.status.complete) == (1, True)


def test_a_batch_without_any_usable_image_is_done_at_once(project):
    """There is nothing to wait for."""
    a_batch(project, [], samples=(a_sample(0),))
    assert offer(project, "today", {}).images == 0
    found = pull(project, "today", 0)
    assert (found.revision, found.status.complete) == (0, True)


def test_a_bucket_that_fails_is_no_bad_image(project):
    """An error of the bucket ends the offer, which is tried again; no image is left out for it."""
    batch = a_batch(project, range(1))
    image = layout.sample_image(batch.samples[0].device, batch.samples[0].captured_at, batch.samples[0].sample_id)
    path = Central(project).bucket.url_of(image).removeprefix("file://")
    Path(path).unlink()
    Path(path).symlink_to(path)  # a loop of links: it can neither be read, nor is it missing
    with pytest.raises(BucketError):
        offer(project, "today", {})


def test_two_batches_with_one_image_give_one_entry_with_the_newest_label(project):
    """The same picture was committed twice: the dataset has it once, as the last person labelled it."""
    shared = a_sample(0)
    one = a_batch(project, [], batch_id="one", samples=(shared, a_sample(1)))
    two = a_batch(project, [], batch_id="two", samples=(shared,))
    put_images(project, (shared, one.samples[1]), (0, 1))
    for name in ("one", "two"):
        offer(project, name, {})
    put_back(project, two, label(shared, box("truck", 5, 5), labelled_at=NOON.replace(hour=14)))
    put_back(project, one, label(shared, box("car", 5, 5)), label(one.samples[1]))
    known = {name: pull(project, name, 0).revision for name in ("one", "two")}
    dataset = freeze(project, known, "")
    entries = {e.sample.sample_id: e for e in Central(project).entries(dataset.dataset_version)}
    assert len(entries) == 2
    assert entries[shared.sample_id].label.boxes == (box("truck", 5, 5),)
    assert entries[shared.sample_id].batch_id == "two"


def test_every_sample_record_survives_the_way_to_people_and_back(project):
    """What was committed is what the dataset holds: nothing of a sample is changed by its labels."""
    batch = a_batch(project, range(3))
    offer(project, "today", {})
    put_back(project, batch, *(label(s, box("car", 10, 10)) for s in batch.samples))
    dataset = freeze(project, {"today": pull(project, "today", 0).revision}, "")
    entries: list[Sample] = [e.sample for e in Central(project).entries(dataset.dataset_version)]
    assert sorted(entries, key=lambda s: s.captured_at) == list(batch.samples)
