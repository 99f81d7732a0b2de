"""Import: a labelled dataset becomes samples and labels, once, with the splits that it had."""

import json
import os
import shutil
from collections import Counter

import cv2
import numpy as np
import pytest

from tasks.adapters.labels import labels_from_coco
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Batch
from tasks.core.errors import ClassesDoNotOverlap, LabelsInvalid, SettingsError
from tasks.import_dataset import UNKNOWN_TIME, device_of, take_in_dataset
from tasks.retrain import build_dataset
from tests.conftest import edgeloop
from tests.tasks.stages import HEIGHT, WIDTH, a_picture, a_project

take_in, freeze = take_in_dataset.fn, build_dataset.fn
CAR = "0 0.5 0.5 0.25 0.5\n"  # 24, 12, 40, 36
BUS = "1 0.25 0.5 0.25 0.5\n"


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


@pytest.fixture
def dataset(tmp_path):
    """Seven photographs in three splits, one of them a PNG, of cars and buses."""
    root = tmp_path / "Street Photos"
    labels = {"train": [CAR, CAR + BUS, "", BUS], "val": [CAR, CAR], "test": [CAR]}
    number = 0
    for split, texts in labels.items():
        for text in texts:
            number += 1
            put(root, split, number, text, ".png" if number == 2 else ".jpg")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [car, bus]\n")
    return root


def put(root, split, number, text, suffix=".jpg", name=""):
    for part, content, end in (("images", a_picture(number, suffix=suffix), suffix), ("labels", text.encode(), ".txt")):
        path = root / part / split / f"{name or f'p{number}'}{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def objects(project) -> dict[str, bytes]:
    bucket = Central(project).bucket
    return {key: bucket.get(key) for key in bucket.list()}


def entries_of(project, imported):
    version = freeze(project, imported.revisions, "")
    return {e.sample.source: e for e in Central(project).entries(version.dataset_version)}


def test_a_dataset_becomes_samples_and_labels_with_its_splits(project, dataset):
    """Every picture is in the bucket as a JPEG of its size, every box of a class that the project has is in a label."""
    imported = take_in(project, dataset, {})
    assert (imported.images, imported.boxes) == (7, 5)
    assert imported.by_split == {"train": 4, "calibration": 2, "test": 1}
    assert imported.left_out == {"boxes of class 'bus', which the project does not have": 2}
    assert list(imported.revisions.values()) == [1, 1, 1]  # three images a batch at most
    entries = entries_of(project, imported)
    assert Counter(e.split for e in entries.values()) == {"train": 4, "calibration": 2, "test": 1}
    assert entries["p1.jpg"].label.boxes[0].xyxy == (24, 12, 40, 36)
    assert entries["p3.jpg"].label.boxes == ()
    for entry in entries.values():
        pixels = Central(project).images.pixels_of(entry.sample)
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        number = int(entry.sample.source[1])
        original = cv2.imdecode(np.frombuffer(a_picture(number, suffix=".png"), np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(pixels.astype(int) - original).mean() < 8


def test_importing_twice_changes_nothing(project, dataset, tmp_path):
    """Not a byte of the bucket, also from a copy with other file times."""
    first = take_in(project, dataset, {})
    before = objects(project)
    assert take_in(project, dataset, {}) == first
    copy = tmp_path / "elsewhere" / dataset.name
    shutil.copytree(dataset, copy)
    for path in copy.rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    assert take_in(project, copy, {}) == first
    assert objects(project) == before


def test_an_import_that_was_cut_off_goes_on(project, dataset):
    """With images there and one batch without its labels, the same command ends as if nothing had happened."""
    first = take_in(project, dataset, {})
    bucket = Central(project).bucket
    batches = list(first.revisions)
    bucket.remove(layout.labels(batches[1], 1))
    bucket.remove(layout.labels(batches[2], 1))
    bucket.remove(layout.batch(batches[2]))
    assert take_in(project, dataset, {}) == first
    assert len(entries_of(project, first)) == 7


def test_mended_labels_are_the_next_revision(project, dataset):
    """One label changes: one batch has a second revision, and the other labels keep their time."""
    first = take_in(project, dataset, {})
    before = entries_of(project, first)
    (dataset / "labels" / "train" / "p3.txt").write_text(CAR)
    second = take_in(project, dataset, {})
    assert sorted(second.revisions.values()) == [1, 1, 2]
    after = entries_of(project, second)
    assert len(after["p3.jpg"].label.boxes) == 1
    assert {name: e.label for name, e in after.items() if name != "p3.jpg"} == {
        name: e.label for name, e in before.items() if name != "p3.jpg"
    }


def test_classes_that_the_project_got_later_come_with_the_next_import(project, dataset):
    """The images are labelled anew under the longer class list, and the newer labels win."""
    first = take_in(project, dataset, {})
    grown = project.model_copy(update={"classes": ("car", "truck", "bus"), "class_list_version": 2})
    second = take_in(grown, dataset, {})
    assert not set(first.revisions) & set(second.revisions)
    assert (second.boxes, second.left_out) == (7, {})
    version = freeze(grown, first.revisions | second.revisions, "")
    entries = Central(grown).entries(version.dataset_version)
    assert len(entries) == 7
    assert sum(len(e.label.boxes) for e in entries) == 7


def test_renamed_classes_are_the_projects(project, dataset):
    """`--rename bus=truck` puts buses among the trucks."""
    imported = take_in(project, dataset, {"bus": "truck"})
    assert (imported.boxes, imported.left_out) == (7, {})
    boxes = [b.class_name for e in entries_of(project, imported).values() for b in e.label.boxes]
    assert Counter(boxes) == {"car": 5, "truck": 2}


@pytest.mark.parametrize(
    ("classes", "renames", "words"),
    [
        (("car",), {"cra": "car"}, "no class 'cra'"),
        (("car",), {"bus": "truk"}, "no class 'truk'"),
        (("person",), {}, "share no name"),
        (("truck",), {"bus": "car"}, "no class 'car'"),
    ],
)
def test_names_that_lead_nowhere_are_refused_before_anything_is_written(tmp_path, dataset, classes, renames, words):
    """A typo in a rename and a dataset of other things: one line that names both sides, and an empty bucket."""
    project = a_project(tmp_path, classes=classes)
    with pytest.raises((SettingsError, ClassesDoNotOverlap)) as caught:
        take_in(project, dataset, renames)
    assert words in str(caught.value)
    assert objects(project) == {}


def test_a_picture_in_two_splits_tests_and_never_trains(project, dataset):
    """The strictest split wins, whatever their order; the other copy is counted."""
    put(dataset, "train", 7, CAR, name="a-copy")  # picture 7 is the test image
    put(dataset, "train", 5, CAR, name="z-copy")  # picture 5 calibrates
    imported = take_in(project, dataset, {})
    assert imported.by_split == {"train": 4, "calibration": 2, "test": 1}
    assert imported.left_out["picture that is there twice"] == 2
    assert sum(e.split == "train" for e in entries_of(project, imported).values()) == 4


def test_what_cannot_be_used_is_counted_by_reason_and_the_rest_is_taken(project, dataset):
    """A corrupt image, a bad line, an image without a label file: each is counted once."""
    (dataset / "images" / "train" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (dataset / "labels" / "train" / "broken.txt").write_text(CAR)
    put(dataset, "train", 20, "0 0.5 0.5\n")
    put(dataset, "train", 21, CAR)
    (dataset / "labels" / "train" / "p21.txt").unlink()
    imported = take_in(project, dataset, {})
    assert imported.images == 7
    counts = {reason: n for reason, n in imported.left_out.items() if "bus" not in reason}
    assert sorted(counts.values()) == [1, 1, 1]
    assert len(imported.report) == 3


def test_a_folder_that_is_no_dataset_is_one_clear_line(project, tmp_path):
    """It says what was expected."""
    (tmp_path / "notes").mkdir()
    with pytest.raises(LabelsInvalid, match=r"data\.yaml"):
        take_in(project, tmp_path / "notes", {})


@pytest.mark.parametrize("name", ["Street Photos", "..", "Ünïcode", "a" * 200, "_", "2024.05.01-export"])
def test_any_folder_name_makes_keys_that_the_bucket_takes(tmp_path, name):
    """Names of devices and batches follow from the folder's, cut to what a key may hold."""
    device = device_of(tmp_path / name)
    assert layout.sample_image(device, UNKNOWN_TIME, "0" * 20)
    assert layout.batch(f"{device}-{'0' * 16}")


def test_imported_batches_are_for_no_one_to_label(project, dataset):
    """They are marked as imports and every label says who made it."""
    imported = take_in(project, dataset, {})
    for name, revision in imported.revisions.items():
        batch = Central(project).bucket.read_record(layout.batch(name), Batch)
        assert batch.origin == "import"
        samples = {s.sample_id: s for s in batch.samples}
        key = layout.labels(name, revision)
        labels, _ = labels_from_coco(Central(project).bucket.get(key), samples, batch.class_names, key)
        assert {found.annotator for found in labels} == {"import"}
        assert {found.seeded for found in labels} == {False}


@pytest.mark.slow
def test_edgeloop_import_from_the_command_line(tmp_path, dataset):
    """A stranger's first command writes a project, imports, tells what it did; a second one changes nothing.

    A `--rename` of a class that nobody has is one line, without a traceback.
    """
    home = {"PREFECT_HOME": str(tmp_path / "prefect")}
    command = ("import", dataset, "--config", "configs/project.yaml")
    done = edgeloop(*command, cwd=tmp_path, **home)
    assert done.returncode == 0, done.stderr
    assert "imported 7 images with 7 boxes (2 calibration, 1 test, 4 train)" in done.stdout
    assert "not random" in done.stdout
    bucket = tmp_path / "bucket" / "street-photos"
    turn = json.loads((bucket / "turns" / "000001.json").read_text())
    assert turn["finished_at"]
    assert turn["done"] == ["imported Street Photos: 7 images"]
    assert len(turn["batches"]) == 1
    assert turn["open_batches"] == []
    versions = list((bucket / "datasets").iterdir())
    again = edgeloop(*command, cwd=tmp_path, **home)
    assert again.returncode == 0, again.stderr
    assert list((bucket / "datasets").iterdir()) == versions
    assert len(list((bucket / "batches").iterdir())) == 1
    refused = edgeloop(*command, "--rename", "lorry=car", cwd=tmp_path, **home)
    assert refused.returncode == 2, refused.stderr
    lines = [line for line in refused.stderr.splitlines() if line.startswith("edgeloop: ")]
    assert len(lines) == 1, refused.stderr
    assert "lorry" in lines[0]
    assert "Traceback" not in refused.stderr
