"""Labels are read back as they were written, and go to labellers and trainers as they should."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import NAMES, NOW, H, W, box, boxes_in, picture, put, sample

from tasks.adapters.labels import (
    labels_from_coco,
    read_dataset,
    read_labels,
    revision_bytes,
    voc_bytes,
    write_yolo,
    yolo_text,
)
from tasks.adapters.labels.coco import UNKNOWN_IMAGE
from tasks.adapters.labels.dataset import (
    MISSING_IMAGE,
    UNKNOWN_CLASS,
    Problems,
)
from tasks.adapters.labels.voc import parse_voc, voc_boxes
from tasks.adapters.labels.yolo import parse_yolo
from tasks.core.entities import DatasetEntry, Label, LabelBox, Sample
from tasks.core.errors import LabelsInvalid

# --- round trips ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(boxes_in(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_a_revision_comes_back_equal_and_equal_labels_give_equal_bytes(images, random):
    """Boxes, who, when, status, seeded and corrections survive the bucket's COCO, in any order of writing."""
    samples = {s.sample_id: s for s in (sample(str(n)) for n in range(len(images)))}
    labels = [
        Label(
            sample_id=s,
            boxes=b,
            annotator=f"ann {n}",
            labelled_at=NOW,
            status="skipped" if n == 2 else "done",
            seeded=n % 2 == 1,
            corrections=n,
        )
        for n, (s, b) in enumerate(zip(samples, images))
    ]
    data = revision_bytes(labels, samples, NAMES)
    back, problems = labels_from_coco(data, samples, NAMES, "revision")
    assert not problems.counts
    assert sorted(back, key=str) == sorted(labels, key=str)
    random.shuffle(labels)
    assert revision_bytes(labels, samples, NAMES) == data
    content = json.loads(data)
    assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    assert all(a["area"] == pytest.approx(a["bbox"][2] * a["bbox"][3], abs=1e-3) for a in content["annotations"])


@settings(max_examples=100, deadline=None)
@given(boxes_in(), st.sampled_from([(W, H), (1920, 1080), (333, 417)]))
def test_yolo_and_voc_texts_come_back_to_the_hundredth_of_a_pixel(boxes, size):
    """Written and read again, every box is the same; YOLO has no word for crowds and leaves them out."""
    problems = Problems()
    plain = tuple(b for b in boxes if not b.crowd)
    assert parse_yolo(yolo_text(boxes, *size, NAMES), "x", *size, NAMES, problems) == plain
    data = voc_bytes("x.jpg", *size, boxes)
    parsed = parse_voc(data, "x")
    assert (parsed.file_name, parsed.size) == ("x.jpg", size)
    assert voc_boxes(parsed, *size, NAMES, "x", problems) == boxes
    assert not problems.counts


def test_a_revision_refuses_what_it_could_not_name():
    """A label of an unknown sample or an unknown class is an error of ours, not a line to skip."""
    s = sample("a")
    bad = Label(sample_id=s.sample_id, boxes=(box("plane", 1, 1, 2, 2),), annotator="a", labelled_at=NOW)
    with pytest.raises(LabelsInvalid, match="class 'plane'"):
        revision_bytes([bad], {s.sample_id: s}, NAMES)
    with pytest.raises(LabelsInvalid, match="not in the batch"):
        revision_bytes([bad], {}, NAMES)


def test_other_programs_coco_is_taken_with_the_annotator_given():
    """Without our extras, images are known by the id in their file name, and images without boxes are empty."""
    a, b = sample("a"), sample("b")
    content = {
        "images": [
            {"id": 7, "file_name": f"upload/3f-{a.sample_id}_jpg.rf.0123.jpg", "width": W, "height": H},
            {"id": 8, "file_name": f"{b.sample_id}.jpg", "width": W, "height": H},
            {"id": 9, "file_name": "holiday.jpg", "width": W, "height": H},
        ],
        "annotations": [{"id": 0, "image_id": 7, "category_id": 3, "bbox": [1.5, 2, 10, 20], "iscrowd": 0}],
        "categories": [{"id": 3, "name": "bus"}],
    }
    labels, problems = labels_from_coco(
        json.dumps(content).encode(),
        {s.sample_id: s for s in (a, b)},
        NAMES,
        "x.json",
        annotator="kim",
        labelled_at=NOW,
    )
    assert [(x.sample_id, x.boxes, x.annotator) for x in labels] == [
        (a.sample_id, (box("bus", 1.5, 2, 11.5, 22),), "kim"),
        (b.sample_id, (), "kim"),
    ]
    assert problems.counts == {UNKNOWN_IMAGE: 1}
    assert problems.lines == ["x.json: images[2]: image that is not in the batch: holiday.jpg"]


# --- labels that come back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_labels_that_were_put_back_are_read_without_their_images(tmp_path, form):
    """Empty is reviewed and found empty, a missing file is unlabelled, strangers are counted."""
    full, empty, absent = sample("full"), sample("empty"), sample("absent")
    samples = {s.sample_id: s for s in (full, empty, absent)}
    boxes = {full.sample_id: (box("bus", 1, 2, 30, 40),), empty.sample_id: ()}
    labels = [Label(sample_id=s, boxes=b, annotator="kim", labelled_at=NOW) for s, b in boxes.items()]
    if form == "coco":
        (tmp_path / "labels.json").write_bytes(revision_bytes(labels, samples, NAMES))
    for s, b in boxes.items():
        if form == "yolo":
            put(tmp_path / f"labels/{s}.txt", yolo_text(b, W, H, NAMES[::-1]))
        elif form == "voc":
            (tmp_path / f"{s}.xml").write_bytes(voc_bytes(f"{s}.jpg", W, H, b))
    if form == "yolo":
        put(tmp_path / "classes.txt", "\n".join(NAMES[::-1]))
        put(tmp_path / "labels/other.txt", "")
    got, problems = read_labels(tmp_path, samples, NAMES, annotator="kim", labelled_at=NOW)
    assert sorted(got, key=str) == sorted(labels, key=str)
    assert problems.counts == ({UNKNOWN_IMAGE: 1} if form == "yolo" else {})


def test_labels_with_a_class_of_their_own_are_not_taken(tmp_path):
    """A class that the project does not have is counted, never quietly dropped from an image."""
    s = sample("a")
    (tmp_path / f"{s.sample_id}.xml").write_bytes(voc_bytes("a.jpg", W, H, (box("plane", 1, 1, 5, 5),)))
    labels, problems = read_labels(tmp_path, {s.sample_id: s}, NAMES, annotator="kim", labelled_at=NOW)
    assert (labels, problems.counts) == ([], {UNKNOWN_CLASS: 1})
    (tmp_path / f"{s.sample_id}.xml").unlink()
    put(tmp_path / f"{s.sample_id}.txt", "1 0.5 0.5 0.2 0.2")
    put(tmp_path / "classes.txt", "car\nplane")
    labels, problems = read_labels(tmp_path, {s.sample_id: s}, NAMES, annotator="kim", labelled_at=NOW)
    assert (labels, problems.counts) == ([], {UNKNOWN_CLASS: 1})


def test_a_folder_without_labels_is_an_error(tmp_path):
    """A labeller who put nothing back gets told what is expected."""
    put(tmp_path / "notes.txt", "done!")
    with pytest.raises(LabelsInvalid, match="holds no labels"):
        read_labels(tmp_path, {}, NAMES, annotator="kim", labelled_at=NOW)


# --- for training -----------------------------------------------------------------------------------------------------


def entry(s: Sample, split: str, *boxes: LabelBox) -> DatasetEntry:
    label = Label(sample_id=s.sample_id, boxes=boxes, annotator="kim", labelled_at=NOW)
    return DatasetEntry(
        sample=s, label=label, batch_id="b", revision=1, split=split, edition=int(split == "test"), cluster="c",
        image_key="k",
    )  # fmt: skip


def test_a_training_folder_holds_training_and_calibration_only(tmp_path):
    """Test and excluded images never get near a trainer; what cannot be found is counted; it can be written again."""
    samples = {split: sample(split) for split in ("train", "calibration", "test", "excluded")}
    paths = {s.sample_id: picture(tmp_path / "cache" / f"{s.sample_id}.jpg") for s in samples.values()}
    crowd = box("car", 0, 0, 50, 50, crowd=True)
    entries = [entry(s, split, box("bus", 1, 2, 30, 40), crowd) for split, s in samples.items()]
    entries.append(entry(sample("gone"), "train"))
    for _ in range(2):
        written = write_yolo(tmp_path / "out", entries, NAMES, paths)
    assert written.images == {"train": 1, "calibration": 1}
    assert written.boxes == {"train": 1, "calibration": 1}
    assert written.skipped == {MISSING_IMAGE: 1}
    data = yaml.safe_load(written.data_yaml.read_text())
    assert data["names"] == dict(enumerate(NAMES))
    assert (data["train"], data["val"]) == ("images/train", "images/val")
    files = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*"))
    ids = {split: s.sample_id for split, s in samples.items()}
    assert files == [
        "data.yaml",
        f"images/train/{ids['train']}.jpg",
        f"images/val/{ids['calibration']}.jpg",
        f"labels/train/{ids['train']}.txt",
        f"labels/val/{ids['calibration']}.txt",
    ]
    back = {i.path.stem: (i.split, i.boxes) for i in read_dataset(tmp_path / "out").images}
    assert back[ids["calibration"]] == ("calibration", (box("bus", 1, 2, 30, 40),))


def test_without_calibration_training_validates_itself(tmp_path):
    """The trainer needs some validation images; none are invented."""
    s = sample("a")
    paths = {s.sample_id: picture(tmp_path / "a.jpg")}
    written = write_yolo(tmp_path / "out", [entry(s, "train")], NAMES, paths)
    assert yaml.safe_load(written.data_yaml.read_text())["val"] == "images/train"
