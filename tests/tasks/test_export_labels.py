"""Exports: what is in a zip, and what is said of what is not."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tracemalloc
import zipfile
from collections import Counter

import pytest

from tasks.adapters.labelling import write_zip
from tasks.adapters.labels import (
    FORMATS,
    Classes,
    LabelledImage,
    LabelSet,
    parts_of,
    read_dataset,
    read_returned,
    unpack,
)
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import LabelBox
from tasks.core.errors import NotEnoughData, ObjectMissing, SettingsError
from tasks.export_labels import export_batch, export_dataset, export_labels, formats_named
from tasks.import_labels import opened
from tests.tasks.stages import NOON, a_batch, a_labelled_month, a_project, a_sample, box, label, put_images


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def names(path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_a_batch_to_label_holds_no_hint_where_it_measures(project, tmp_path):
    """Images, classes, instructions, and pre-annotations in every format of the images that may be seeded."""
    batch = a_batch(project, range(3), unseeded=(a_sample(2).sample_id,))
    done = export_batch(project, "today", tmp_path / "x.zip", FORMATS, {})
    assert (done.images, done.seeded, done.boxes) == (3, 2, 2)
    found = names(done.path)
    assert {f"images/{s.sample_id}.jpg" for s in batch.samples} | {"instructions.md", "classes.txt"} <= found
    blank = batch.samples[2].sample_id
    assert [name for name in found if blank in name] == [f"images/{blank}.jpg"]
    with zipfile.ZipFile(done.path) as archive:
        coco = json.loads(archive.read("pre_annotations/coco/annotations/instances_default.json"))
        tasks = json.loads(archive.read("pre_annotations/labelstudio/labelstudio.json"))
        text = archive.read("instructions.md").decode()
    assert {image["sample_id"] for image in coco["images"]} == {s.sample_id for s in batch.samples[:2]}
    assert not any("annotator" in image for image in coco["images"])
    assert [len(task.get("predictions", ())) for task in tasks] == [1, 1, 0]
    assert not any(task["annotations"] for task in tasks)
    assert "3 images" in text
    assert "in 2 of them" in text


def test_images_that_cannot_be_had_are_left_out_and_named(project, tmp_path):
    """The others go out; where there is none, that is an error."""
    good, missing = a_sample(0), a_sample(1)
    a_batch(project, [], samples=(good, missing))
    put_images(project, (good,), (0,))
    done = export_batch(project, "today", tmp_path / "x.zip", ("coco",), {})
    assert (done.images, len(done.left_out)) == (1, 1)
    assert missing.sample_id in done.left_out[0]
    a_batch(project, [], samples=(missing,), batch_id="gone")
    with pytest.raises(NotEnoughData, match="none of its 1 images"):
        export_batch(project, "gone", tmp_path / "y.zip", ("coco",), {})
    assert not (tmp_path / "y.zip").exists()
    with pytest.raises(ObjectMissing):
        export_batch(project, "nowhere", tmp_path / "y.zip", ("coco",), {})


def test_finished_labels_say_what_a_format_has_no_word_for(project, tmp_path):
    """Skipped images and crowd regions are counted for the formats that lack them; unlabelled images are not in it."""
    batch = a_batch(project, range(3))
    one, two, _ = batch.samples
    with pytest.raises(NotEnoughData, match="no labels yet"):
        export_labels(project, "today", tmp_path / "x.zip", FORMATS)
    crowd = LabelBox(class_name="car", xyxy=(1, 1, 40, 40), crowd=True)
    Central(project).store_labels(batch, [label(one, box("car", 4, 4), crowd), label(two, status="skipped")])
    done = export_labels(project, "today", tmp_path / "x.zip", FORMATS)
    assert (done.images, done.boxes) == (2, 2)
    assert sorted(line.split(" are not")[0] for line in done.left_out) == [
        "1 crowd regions", "1 skipped images", "1 skipped images",
    ]  # fmt: skip
    found = names(done.path)
    assert f"labels/{two.sample_id}.txt" not in found
    assert f"images/{two.sample_id}.jpg" in found
    plain = export_labels(project, "today", tmp_path / "y.zip", ("yolo",), with_images=False)
    assert names(plain.path) == {"data.yaml", "classes.txt", f"labels/{one.sample_id}.txt"}


@pytest.mark.slow
def test_a_dataset_version_is_a_dataset_for_others(project, tmp_path):
    """Its splits, its boxes, its images: what is imported from the zip is what the manifest holds."""
    version = a_labelled_month(project)
    entries = Central(project).entries(version.dataset_version)
    wanted = {e.sample.sample_id: (e.split, e.label.boxes) for e in entries if e.split != "excluded"}
    for form in ("yolo", "coco", "voc"):
        done = export_dataset(project, version.dataset_version, tmp_path / f"{form}.zip", (form,))
        assert (done.images, done.left_out) == (len(wanted), ())
        shutil.unpack_archive(done.path, tmp_path / form)
        found = read_dataset(tmp_path / form)
        assert (found.format, found.skipped) == (form, {})
        assert {image.path.stem: (image.split, image.boxes) for image in found.images} == wanted


def test_boxes_of_classes_that_a_dataset_does_not_list_are_counted(project, tmp_path):
    """A class that was taken out of the list since: its boxes are left out with a word."""
    version = a_labelled_month(project, days=4)
    fewer = version.model_copy(update={"class_names": ("truck",)})
    Central(project).bucket.write_record(layout.dataset(version.dataset_version), fewer)
    done = export_dataset(project, version.dataset_version, tmp_path / "x.zip", ("coco",))
    assert done.boxes == 0
    assert done.left_out == (f"6 boxes of classes that {version.dataset_version} does not list",)


def test_formats_are_named_each_once():
    """In one order, so that the bytes do not depend on how they were asked for; a typo is told."""
    assert formats_named(["yolo", "coco", "yolo"], ()) == ("coco", "yolo")
    assert formats_named([], ("voc",)) == ("voc",)
    with pytest.raises(SettingsError, match="--format xls: is none that is known: use coco, yolo, voc, labelstudio"):
        formats_named(["xls"], ())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_bytes_of_images(tmp_path):
    """Out and back with images of a kilobyte and of two megabytes each: the peak is the same to a megabyte."""
    peaks = []
    for length in (1_000, 2_000_000):
        folder = tmp_path / str(length)
        folder.mkdir()
        files = []
        for n in range(25):
            path = folder / f"{n}.jpg"
            path.write_bytes(os.urandom(length))
            files.append((f"images/{path.name}", path))
        tracemalloc.start()
        write_zip(folder / "x.zip", [("labels/a.txt", [b"0 0.5 0.5 0.1 0.1\n"])], files)
        passed_over = Counter()
        found = opened(folder / "x.zip", folder / "in", passed_over)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert [path.name for path in found.rglob("*.*")] == ["a.txt"]
        assert passed_over == {"images": 25}
        assert (folder / "x.zip").stat().st_size > 25 * length
    assert abs(peaks[1] - peaks[0]) < 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_memory_is_linear_in_the_boxes_at_most(tmp_path, form):
    """Four times the images take at most five times the memory, written and read; writing hardly grows at all."""
    peaks = []
    for images in (100, 400):
        samples = [a_sample(n, f"{n}".encode()) for n in range(images)]
        labelled = [LabelledImage(sample, label(sample, *[box("car", 4, 4)] * 20)) for sample in samples]
        labels = LabelSet("b", labelled, ("car", "truck"))
        archive = tmp_path / f"{images}.zip"
        gc.collect()
        gc.freeze()  # with all that the suite holds, rings of garbage would wait longer than in a process of its own
        tracemalloc.start()
        write_zip(archive, parts_of(form, labels))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()
        found = read_returned(
            unpack(archive, tmp_path / f"in {images}"), {s.sample_id: s for s in samples}, Classes(("car", "truck")),
            annotator="a", labelled_at=NOON,
        )  # fmt: skip
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        gc.unfreeze()
        assert len(found.labels) == images
    assert peaks[2] < 2 * peaks[0] + 500_000
    assert peaks[3] < 5 * peaks[1]
