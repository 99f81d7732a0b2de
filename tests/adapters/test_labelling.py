"""Labelling through files: what goes out stays as it went out, and what comes back is read whatever its form."""

import json
import os
import zipfile
from datetime import datetime, timezone

import pytest

from tasks.adapters.labelling import FilesLabelling, LabellingStatus, pre_annotations
from tasks.adapters.labels import voc_bytes, yolo_text
from tasks.core.entities import STUB, Batch
from tasks.core.errors import SettingsError
from tests.tasks.stages import HEIGHT, NOON, WIDTH, a_picture, a_sample, box, label, seen

CLASSES = ("car", "truck")


@pytest.fixture
def labelling(tmp_path):
    return FilesLabelling(tmp_path / "labelling")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "labelling" / "today"


@pytest.fixture
def image_of(tmp_path):
    """Local files of samples, as the image cache has them."""
    (tmp_path / "cache").mkdir()
    for number in range(5):
        (tmp_path / "cache" / f"{a_sample(number).sample_id}.jpg").write_bytes(a_picture(number))
    return lambda sample: tmp_path / "cache" / f"{sample.sample_id}.jpg"


def a_batch(*samples, **fields) -> Batch:
    return Batch(**{"batch_id": "today", "created_at": NOON, "class_names": CLASSES, "samples": samples, **fields})


def boxes_of(labels) -> dict[str, tuple]:
    return {found.sample_id: found.boxes for found in labels}


def test_a_batch_is_laid_out_for_people(labelling, folder, image_of):
    """Images, what the model saw at the operating thresholds, instructions, and a place for labels."""
    first = a_sample(
        0, detections=(seen("car", 0.9), seen("car", 0.39, (1, 1, 9, 9)), seen("truck", 0.5), seen("bus", 1))
    )
    batch = a_batch(first, a_sample(1, detections=()))
    labelling.push(batch, image_of, pre_annotations(batch, {"car": 0.4}))
    for number, sample in enumerate(batch.samples):
        assert (folder / "images" / f"{sample.sample_id}.jpg").read_bytes() == a_picture(number)
    coco = json.loads((folder / "pre_annotations.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    shown = {(files[a["image_id"]], names[a["category_id"]]) for a in coco["annotations"]}
    assert len(coco["annotations"]) == 2
    assert shown == {(f"{first.sample_id}.jpg", "car"), (f"{first.sample_id}.jpg", "truck")}
    assert {i["file_name"] for i in coco["images"]} == {f"{s.sample_id}.jpg" for s in batch.samples}
    assert "car, truck" in (folder / "instructions.md").read_text()
    assert (folder / "labels").is_dir()
    assert labelling.offered(batch) == tuple(s.sample_id for s in batch.samples)
    assert {b.class_name for b in labelling.seeds(batch)[first.sample_id].boxes} == {"car", "truck"}


def test_what_measures_the_model_and_what_no_model_saw_come_blank(labelling, image_of):
    """No seeds for test and calibration images, for a stub's samples, nor for imported batches."""
    one, two, three = a_sample(0), a_sample(1), a_sample(2, model_version=STUB)
    batch = a_batch(one, two, three, unseeded=(two.sample_id,))
    labelling.push(batch, image_of, pre_annotations(batch, {}))
    assert set(labelling.seeds(batch)) == {one.sample_id}
    imported = a_batch(one, batch_id="imported", origin="import")
    labelling.push(imported, image_of, pre_annotations(imported, {}))
    assert labelling.seeds(imported) == {}


def test_detections_that_cannot_be_drawn_are_not_shown(labelling, image_of):
    """A device may write anything: no number, far outside, without area; the rest of the seed stands."""
    odd = [(float("nan"), 1, 5, 5), (1, 1, float("inf"), 5), (900, 900, 950, 950), (5, 5, 5, 9)]
    sample = a_sample(0, detections=(*(seen("car", 0.9, xyxy) for xyxy in odd), seen("car", 0.8)))
    batch = a_batch(sample)
    labelling.push(batch, image_of, pre_annotations(batch, {}))
    assert [b.xyxy for b in labelling.seeds(batch)[sample.sample_id].boxes] == [(10, 10, 30, 30)]


def test_offering_again_changes_nothing_that_people_have(labelling, folder, image_of):
    """Labels, edited pre-annotations and the seeds stay when thresholds move; an image that comes late comes blank."""
    one, late = a_sample(0), a_sample(1)
    labelling.push(a_batch(one), image_of, pre_annotations(a_batch(one), {}))
    seeds = labelling.seeds(a_batch(one))
    (folder / "pre_annotations.json").write_text("edited in place")
    (folder / "labels" / "notes.txt").write_text("mine")
    batch = a_batch(one, late)
    labelling.push(batch, image_of, pre_annotations(batch, {"truck": 0.1}))
    assert labelling.seeds(batch) == seeds
    assert (folder / "pre_annotations.json").read_text() == "edited in place"
    assert (folder / "labels" / "notes.txt").read_text() == "mine"
    assert set(labelling.offered(batch)) == {one.sample_id, late.sample_id}
    assert (folder / "images" / f"{late.sample_id}.jpg").exists()


def test_editing_an_offered_image_does_not_reach_the_cache(labelling, folder, image_of):
    """People get copies: a program that turns a picture in place turns theirs alone."""
    sample = a_sample(0)
    labelling.push(a_batch(sample), image_of, pre_annotations(a_batch(sample), {}))
    (folder / "images" / f"{sample.sample_id}.jpg").write_bytes(b"turned")
    assert image_of(sample).read_bytes() == a_picture(0)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path, image_of):
    """The setting to change is named."""
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SettingsError, match=r"taken.*labelling\.folder"):
        FilesLabelling(tmp_path / "taken").push(
            a_batch(a_sample(0)), image_of, pre_annotations(a_batch(a_sample(0)), {})
        )


def written_as(form, path, sample, boxes):
    """One label file of a sample in `path`."""
    stem = path / f"{sample.sample_id}"
    if form == "yolo":
        stem.with_suffix(".txt").write_text(yolo_text(boxes, WIDTH, HEIGHT, CLASSES))
    elif form == "voc":
        stem.with_suffix(".xml").write_bytes(voc_bytes(f"{sample.sample_id}.jpg", WIDTH, HEIGHT, boxes))
    else:
        image = {"id": 1, "file_name": f"{sample.sample_id}.jpg", "width": WIDTH, "height": HEIGHT}
        annotations = [
            {"id": n, "image_id": 1, "category_id": 1 + CLASSES.index(b.class_name), "iscrowd": 0,
             "bbox": [b.xyxy[0], b.xyxy[1], b.xyxy[2] - b.xyxy[0], b.xyxy[3] - b.xyxy[1]], "area": 1}
            for n, b in enumerate(boxes, start=1)
        ]  # fmt: skip
        categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, start=1)]
        content = {"images": [image], "annotations": annotations, "categories": categories}
        stem.with_suffix(".json").write_text(json.dumps(content))


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_labels_come_back_in_any_form_a_part_at_a_time(labelling, folder, image_of, form):
    """Each image has a label as soon as its file is there; an empty label is one, no file is none."""
    one, two, three = samples = [a_sample(n) for n in range(3)]
    batch = a_batch(*samples)
    labelling.push(batch, image_of, pre_annotations(batch, {}))
    assert labelling.pull(batch) == []
    written_as(form, folder / "labels", one, (box("car", 4, 4), box("truck", 30, 20)))
    assert boxes_of(labelling.pull(batch)) == {one.sample_id: (box("car", 4, 4), box("truck", 30, 20))}
    written_as(form, folder / "labels", two, ())
    found = labelling.pull(batch)
    assert boxes_of(found) == {one.sample_id: (box("car", 4, 4), box("truck", 30, 20)), two.sample_id: ()}
    assert LabellingStatus.of(labelling.offered(batch), found) == LabellingStatus(offered=3, done=2)
    written_as(form, folder / "labels", three, ())
    assert LabellingStatus.of(labelling.offered(batch), labelling.pull(batch)).complete
    assert not (folder / "problems.txt").exists()


def test_zips_are_read_the_newest_last(labelling, folder, image_of, tmp_path):
    """Outside labellers send a zip a day, macOS adds its own files; of an image in two the newer zip counts."""
    one, two = a_sample(0), a_sample(1)
    batch = a_batch(one, two)
    labelling.push(batch, image_of, pre_annotations(batch, {}))
    for day, boxes in enumerate([(box("car", 4, 4),), (box("truck", 4, 4),)], start=1):
        part = tmp_path / f"day-{day}"
        part.mkdir()
        written_as("coco" if day == 1 else "yolo", part, one, boxes)
        with zipfile.ZipFile(folder / "labels" / f"day-{3 - day}.zip", "w") as zipped:
            for path in part.iterdir():
                zipped.write(path, f"export/{path.name}")
                zipped.writestr(f"__MACOSX/export/._{path.name}", b"\x00\x05\x16\x07")
        moment = datetime(2026, 5, day, tzinfo=timezone.utc).timestamp()
        os.utime(folder / "labels" / f"day-{3 - day}.zip", (moment, moment))
    (found,) = labelling.pull(batch)
    assert found.boxes == (box("truck", 4, 4),)
    assert found.labelled_at == datetime(2026, 5, 2, tzinfo=timezone.utc)
    (folder / "labels" / "half.zip").write_bytes((folder / "labels" / "day-1.zip").read_bytes()[:50])
    assert labelling.pull(batch) == [found]
    assert "half.zip" in (folder / "problems.txt").read_text()


def test_what_is_wrong_with_labels_is_written_down_and_the_rest_is_taken(labelling, folder, image_of):
    """An unknown class, a box outside, an image of another batch, no numbers: a line each; mended, the lines go."""
    samples = [a_sample(n) for n in range(4)]
    batch = a_batch(*samples)
    labelling.push(batch, image_of, pre_annotations(batch, {}))
    texts = ["0 0.5 0.5 0.2 0.2\n", "7 0.5 0.5 0.2 0.2\n", "0 0.99 0.5 0.4 0.2\n", "car at the left\n"]
    for sample, text in zip(samples, texts):
        (folder / "labels" / f"{sample.sample_id}.txt").write_text(text)
    (folder / "labels" / f"{'ab' * 10}.txt").write_text("")
    assert [found.sample_id for found in labelling.pull(batch)] == [samples[0].sample_id]
    problems = (folder / "problems.txt").read_text().splitlines()
    assert len(problems) == 4
    for words in ("not in the list", "outside", "cannot be read", "not in the batch"):
        assert sum(words in line for line in problems) == 1, words
    for path in (folder / "labels").iterdir():
        path.write_text("")
    (folder / "labels" / f"{'ab' * 10}.txt").unlink()
    assert len(labelling.pull(batch)) == 4
    assert not (folder / "problems.txt").exists()


def test_pre_annotations_that_come_back_untouched_are_not_signed_by_the_model(labelling, folder, image_of):
    """A program that keeps keys it does not know hands back a label of the person, made when the file was."""
    batch = a_batch(a_sample(0))
    labelling.push(batch, image_of, pre_annotations(batch, {}))
    (folder / "labels" / "mine.json").write_bytes((folder / "pre_annotations.json").read_bytes())
    os.utime(folder / "labels" / "mine.json", (NOON.timestamp(), NOON.timestamp()))
    (found,) = labelling.pull(batch)
    assert (found.annotator, found.labelled_at, found.status) == ("files", NOON, "done")


def test_a_skipped_image_counts_apart(labelling, image_of):
    """COCO of ours says `status`: a skipped image is neither done nor open."""
    one, two = a_sample(0), a_sample(1)
    batch = a_batch(one, two)
    labelling.push(batch, image_of, pre_annotations(batch, {}))
    labelling.put_back(batch, [label(one, status="skipped"), label(two, box("car", 1, 1))])
    status = LabellingStatus.of(labelling.offered(batch), labelling.pull(batch))
    assert status == LabellingStatus(offered=2, done=1, skipped=1)
    assert status.complete


def test_labels_of_images_that_were_not_offered_do_not_complete_a_batch():
    """Only what people were given counts."""
    one, two = a_sample(0), a_sample(1)
    assert not LabellingStatus.of([one.sample_id], [label(two)]).complete


def test_a_folder_that_is_gone_is_a_batch_without_labels(labelling):
    """Nothing is pulled, nothing is known of seeds, and everything is still open."""
    batch = a_batch(a_sample(0))
    assert labelling.pull(batch) == []
    assert labelling.seeds(batch) == {}
    assert labelling.offered(batch) == (a_sample(0).sample_id,)
