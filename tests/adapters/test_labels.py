"""Label files: what is written is read back to the pixel, and nothing in a file can do more than raise LabelsInvalid."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.adapters.labels import (
    labels_from_coco,
    read_coco_pair,
    read_dataset,
    read_labels,
    revision_bytes,
    unpack,
    voc_bytes,
    write_coco_pair,
    write_yolo,
    yolo_text,
)
from tasks.adapters.labels.coco import UNKNOWN_IMAGE, parse_coco
from tasks.adapters.labels.dataset import (
    BAD_LINE,
    CORRUPT_IMAGE,
    MISSING_IMAGE,
    OTHER_SIZE,
    OUTSIDE,
    UNKNOWN_CLASS,
    UNLABELLED,
    WITHOUT_AREA,
    Problems,
)
from tasks.adapters.labels.voc import parse_voc, voc_boxes
from tasks.adapters.labels.yolo import parse_yolo
from tasks.core.entities import DatasetEntry, Label, LabelBox, Sample
from tasks.core.errors import LabelsInvalid

NAMES = ("car", "bus", "véhicule long")
NOW = datetime(2026, 3, 1, 12, 30, 1, 5000, tzinfo=timezone.utc)
W, H = 96, 64


def sample(key: str, width=W, height=H) -> Sample:
    sha = hashlib.sha256(key.encode()).hexdigest()
    return Sample(
        sample_id=sha[:20], sha256=sha, device="pi-1", camera="gate", captured_at=NOW, width=width, height=height,
        strategy="random", matched=("random",), probability=0.1, random_slice=True, model_version="stub",
        settings_version="all/1",
    )  # fmt: skip


def box(name: str, *xyxy: float, crowd=False) -> LabelBox:
    return LabelBox(class_name=name, xyxy=xyxy, crowd=crowd)


def picture(path: Path, width=W, height=H, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def yolo_folder(root: Path, labels: dict[str, str | None], layout="images/{}", names=("car", "bus")) -> Path:
    """A dataset with a training image a label; None writes no label file."""
    folder = root / layout.format("train")
    for name, text in labels.items():
        picture(folder / f"{name}.jpg")
        if text is not None:
            where = Path(str(folder).replace("images", "labels"))
            put(where / f"{name}.txt", text)
    put(root / "data.yaml", yaml.safe_dump({"train": layout.format("train"), "names": list(names)}))
    return root


@st.composite
def boxes_in(draw, width=W, height=H, whole=False):
    """Boxes in an image, on a grid of 1/100 pixel, or of whole ones."""
    step = 1 if whole else 100
    found = []
    for _ in range(draw(st.integers(0, 6))):
        x1, x2 = sorted(draw(st.lists(st.integers(0, width * step), min_size=2, max_size=2, unique=True)))
        y1, y2 = sorted(draw(st.lists(st.integers(0, height * step), min_size=2, max_size=2, unique=True)))
        corners = (x1 / step, y1 / step, x2 / step, y2 / step)
        found.append(box(draw(st.sampled_from(NAMES)), *corners, crowd=draw(st.booleans())))
    return tuple(found)


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


# --- data sets of others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["images/{}", "{}/images"])
def test_both_yolo_layouts_are_read(tmp_path, layout):
    """Splits follow data.yaml; the validation split calibrates; an empty label file is an image without objects."""
    for split in ("train", "val", "test"):
        folder = tmp_path / layout.format(split)
        for n in range(2):
            picture(folder / f"{split}{n}.jpg")
            text = "1 0.5 0.5 0.25 0.5\n" if n else ""
            put(Path(str(folder).replace("images", "labels")) / f"{split}{n}.txt", text)
    # Roboflow writes paths relative to a folder that is not there.
    up = "../" if layout.startswith("{}") else ""
    splits = {key: up + layout.format(key) for key in ("train", "val", "test")}
    put(
        tmp_path / "data.yaml",
        yaml.safe_dump({"path": "/content/elsewhere", **splits, "nc": 2, "names": ["car", "bus"]}),
    )
    dataset = read_dataset(tmp_path)
    assert (dataset.format, dataset.class_names, dataset.skipped) == ("yolo", ("car", "bus"), {})
    got = {i.path.name: (i.split, i.width, i.height, i.boxes) for i in dataset.images}
    assert got["val1.jpg"] == ("calibration", W, H, (box("bus", 36, 16, 60, 48),))
    assert got["test0.jpg"] == ("test", W, H, ())
    assert {name: split for name, (split, *_) in got.items()} == {
        "train0.jpg": "train", "train1.jpg": "train", "val0.jpg": "calibration", "val1.jpg": "calibration",
        "test0.jpg": "test", "test1.jpg": "test",
    }  # fmt: skip


def test_bad_yolo_items_are_skipped_counted_and_named_with_their_line(tmp_path):
    """Each kind of fault takes out its own image, with file and line; boxes without area go alone."""
    good = "0 0.5 0.5 0.2 0.2\n"
    yolo_folder(
        tmp_path,
        {
            "good": good,
            "empty": "",
            "polygon": "1 0.1 0.1 0.5 0.1 0.5 0.75",
            "edge": "0 0.5 0.5 1.01 1.0",
            "unlabelled": None,
            "class": good + "2 0.5 0.5 0.2 0.2",
            "fraction": "0.5 0.5 0.5 0.2 0.2",
            "nan": good + "\n" + "0 nan 0.5 0.2 0.2",
            "polynan": "0 0.1 0.1 nan 0.1 0.5 0.75",
            "words": "car at the left",
            "short": "0 0.5 0.5 0.2",
            "pixels": "0 50 30 20 10",
            "outside": "0 1.5 0.5 0.2 0.2",
            "negative": "0 0.5 0.5 -0.2 0.2",
            "flat": good + "0 0.5 0.5 0 0.2",
        },
    )
    picture(tmp_path / "images/train/corrupt.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    whole = picture(tmp_path / "images/train/cut.jpg").read_bytes()
    (tmp_path / "images/train/cut.jpg").write_bytes(whole[: len(whole) // 2])
    for name in ("corrupt", "cut"):
        put(tmp_path / f"labels/train/{name}.txt", good)
    (tmp_path / "labels/train/binary.txt").write_bytes(b"\xff\xfe\x00\x01")
    picture(tmp_path / "images/train/binary.jpg")

    dataset = read_dataset(tmp_path)
    got = {i.path.stem: i.boxes for i in dataset.images}
    assert set(got) == {"good", "empty", "polygon", "edge", "flat"}
    assert got["polygon"] == (box("bus", 9.6, 6.4, 48, 48),)
    assert got["edge"] == (box("car", 0, 0, 96, 64),)
    assert got["flat"] == got["good"]
    assert [p.stem for p in dataset.unlabelled] == ["unlabelled"]
    assert dataset.skipped == {
        UNLABELLED: 1, UNKNOWN_CLASS: 2, BAD_LINE: 6, OUTSIDE: 2, WITHOUT_AREA: 1, CORRUPT_IMAGE: 2,
    }  # fmt: skip
    report = "\n".join(dataset.report)
    for line in ("labels/train/class.txt:2: class that is not in the list", "labels/train/nan.txt:3:", "cut.jpg"):
        assert line in report
    assert "labels/train/flat.txt:2: box without area" in report


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no dataset found"),
        ({"data.yaml": "names: [car, car]"}, "listed twice"),
        ({"data.yaml": "names: [car]\nnc: 2"}, "nc is 2, but names has 1"),
        ({"data.yaml": "names: {0: car, 2: bus}"}, "without gaps"),
        ({"data.yaml": "names: car"}, "names must list the class names"),
        ({"data.yaml": "nc: 3"}, "names must list the class names"),
        ({"data.yaml": "names: [car]\ntrain: images/train"}, "none of its image folders holds an image"),
        ({"data.yaml": "names: [car\n"}, "not valid YAML"),
        ({"data.yaml": "names: !!python/object/apply:os.system [exit]"}, "not valid YAML"),
        ({"data.yaml": "names: [!!timestamp x]"}, "not valid YAML"),
        ({"annotations/a.json": "[]"}, "a COCO file is an object"),
        ({"annotations/a.json": "{"}, "not valid JSON"),
        ({"annotations/a.json": "[" * 100_000}, "not valid JSON"),
        ({"train/a.xml": "<annotation/>"}, "no VOC file of this dataset has a usable box"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_one_line(tmp_path, files, message):
    """Missing or contradictory class names, no images, broken files: LabelsInvalid, one line, no traceback."""
    for name, text in files.items():
        put(tmp_path / name, text)
    with pytest.raises(LabelsInvalid, match=message) as caught:
        read_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_and_one_wrapped_in_another(tmp_path):
    """The first is an error, the second is entered: archives often hold one folder."""
    with pytest.raises(LabelsInvalid, match="no such folder"):
        read_dataset(tmp_path / "nowhere")
    yolo_folder(tmp_path / "outer" / "my dataset v2", {"a": "0 0.5 0.5 0.2 0.2"})
    assert len(read_dataset(tmp_path / "outer").images) == 1


def test_names_from_classes_txt(tmp_path):
    """Label Studio and LabelImg write classes.txt, with images and labels in one folder each."""
    put(tmp_path / "classes.txt", "car\nbus\n\n")
    picture(tmp_path / "images/a.png")
    put(tmp_path / "labels/a.txt", "1 0.5 0.5 0.5 0.5")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("car", "bus")
    assert [(i.split, [b.class_name for b in i.boxes]) for i in dataset.images] == [(None, ["bus"])]


def coco_content(**changes) -> dict:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": W, "height": H}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}],
    }
    return content | changes


@pytest.mark.parametrize(
    ("json_file", "image", "split"),
    [
        ("train/_annotations.coco.json", "train/a.jpg", "train"),
        ("valid/_annotations.coco.json", "valid/a.jpg", "calibration"),
        ("annotations/instances_val2017.json", "images/val2017/a.jpg", "calibration"),
        ("annotations/instances_test.json", "test/a.jpg", "test"),
        ("annotations/instances_default.json", "images/a.jpg", None),
        ("labels.json", "data/a.jpg", None),
    ],
)
def test_coco_layouts(tmp_path, json_file, image, split):
    """Annotations beside their images, in a folder of their own, or as FiftyOne and CVAT write them."""
    picture(tmp_path / image)
    put(tmp_path / json_file, json.dumps(coco_content()))
    dataset = read_dataset(tmp_path)
    assert dataset.format == "coco"
    assert [(i.split, i.boxes) for i in dataset.images] == [(split, (box("car", 10, 20, 40, 60),))]
    assert dataset.class_names == ("car", "bus")


def test_roboflow_s_placeholder_category_is_left_out(tmp_path):
    """Category 0, the parent of all others that nothing is labelled with, is no class; augmented copies are grouped."""
    name = "yard_jpg.rf." + "a1" * 16 + ".jpg"
    picture(tmp_path / "train" / name)
    content = coco_content(
        images=[{"id": 0, "file_name": name, "width": W, "height": H}],
        annotations=[{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        categories=[{"id": 0, "name": "vehicles", "supercategory": "none"}]
        + [{"id": n, "name": c, "supercategory": "vehicles"} for n, c in ((1, "car"), (2, "bus"))],
    )
    put(tmp_path / "train/_annotations.coco.json", json.dumps(content))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("car", "bus")
    assert [(i.source_group, len(i.boxes)) for i in dataset.images] == [("yard_jpg", 1)]


def test_bad_coco_items_are_skipped_and_counted(tmp_path):
    """Missing images, other sizes, unknown categories and bad boxes take out their image; the rest is read."""
    picture(tmp_path / "train/a.jpg")
    images = [{"id": n, "file_name": "a.jpg", "width": W, "height": H} for n in range(6)]
    images[1]["file_name"] = "gone.jpg"
    images[2]["width"] = 2 * W
    images[3]["file_name"] = "../../../etc/passwd"
    rows = [(0, 1, [0, 0, 5, 5]), (0, 1, [3, 3, 0, 9]), (4, 9, [0, 0, 5, 5]), (5, 1, [90, 0, 50, 5])]
    annotations = [{"id": n, "image_id": i, "category_id": c, "bbox": b} for n, (i, c, b) in enumerate(rows, 1)]
    put(tmp_path / "train/_annotations.coco.json", json.dumps(coco_content(images=images, annotations=annotations)))
    dataset = read_dataset(tmp_path)
    assert [i.boxes for i in dataset.images] == [(box("car", 0, 0, 5, 5),)]
    assert dataset.skipped == {MISSING_IMAGE: 2, OTHER_SIZE: 1, UNKNOWN_CLASS: 1, OUTSIDE: 1, WITHOUT_AREA: 1}


def test_voc_layouts(tmp_path):
    """The original's folders with ImageSets, and Roboflow's folder a split."""
    boxes = (box("car", 1, 2, 30, 40), box("bus", 5.25, 6, 7, 8, crowd=True))
    for name, split in (("a", "train"), ("b", "val")):
        picture(tmp_path / f"voc/JPEGImages/{name}.jpg")
        (tmp_path / "voc/Annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"voc/Annotations/{name}.xml").write_bytes(voc_bytes(f"{name}.jpg", W, H, boxes))
        put(tmp_path / f"voc/ImageSets/Main/{split}.txt", f"{name}\n")
        picture(tmp_path / f"roboflow/{split}/{name}.jpg")
        (tmp_path / f"roboflow/{split}/{name}.xml").write_bytes(voc_bytes(f"{name}.jpg", W, H, boxes))
    for layout in ("voc", "roboflow"):
        dataset = read_dataset(tmp_path / layout)
        assert (dataset.format, dataset.class_names, dataset.skipped) == ("voc", ("bus", "car"), {})
        assert [(i.path.stem, i.split, i.boxes) for i in dataset.images] == [
            ("a", "train", boxes), ("b", "calibration", boxes),
        ]  # fmt: skip


def test_an_image_turned_by_exif_has_the_size_it_is_shown_with(tmp_path):
    """Phones write sideways pixels and a note; labels are of the picture that people saw."""
    exif = Image.Exif()
    exif[0x0112] = 6
    yolo_folder(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    picture(tmp_path / "images/train/a.jpg", exif=exif)
    image = read_dataset(tmp_path).images[0]
    assert (image.width, image.height, image.boxes) == (H, W, (box("car", 16, 24, 48, 72),))


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
    assert (labels, problems.counts) == ([], {BAD_LINE: 1})


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
    assert files == sorted(
        ["data.yaml", f"images/train/{ids['train']}.jpg", f"labels/train/{ids['train']}.txt"]
        + [f"images/val/{ids['calibration']}.jpg", f"labels/val/{ids['calibration']}.txt"]
    )
    back = {i.path.stem: (i.split, i.boxes) for i in read_dataset(tmp_path / "out").images}
    assert back[ids["calibration"]] == ("calibration", (box("bus", 1, 2, 30, 40),))


def test_without_calibration_training_validates_itself(tmp_path):
    """The trainer needs some validation images; none are invented."""
    s = sample("a")
    paths = {s.sample_id: picture(tmp_path / "a.jpg")}
    written = write_yolo(tmp_path / "out", [entry(s, "train")], NAMES, paths)
    assert yaml.safe_load(written.data_yaml.read_text())["val"] == "images/train"


# --- ground truth and predictions -------------------------------------------------------------------------------------


def write_pair(folder: Path, truth: dict, results) -> tuple[Path, Path]:
    return put(folder / "g.json", json.dumps(truth)), put(folder / "p.json", json.dumps(results))


def test_a_pair_is_read_into_what_matching_takes(tmp_path):
    """Class ids are positions in the category list, crowds are marked, detections are sorted, clusters are found."""
    truth = coco_content(
        images=[
            {
                "id": 5,
                "file_name": "a.jpg",
                "width": W,
                "height": H,
                "camera": "gate",
                "captured_at": "2026-03-01T08:59:00Z",
            },
            {"id": "x", "file_name": "b.jpg", "width": W, "height": H, "cluster": "yard@1"},
            {"id": 6, "file_name": "c.jpg", "width": W, "height": H},
        ],
        annotations=[
            {"id": 1, "image_id": 5, "category_id": 20, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 5, "category_id": 10, "bbox": [0, 0, 50, 50], "iscrowd": 1},
            {"id": 3, "image_id": 5, "category_id": 10, "bbox": [4, 4, 0, 4]},
        ],
        categories=[{"id": 20, "name": "bus"}, {"id": 10, "name": "car"}],
    )
    results = [
        {"image_id": 5, "category_id": 20, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"image_id": 5, "category_id": 10, "bbox": [-3, 2, 3, 4], "score": 0.75},
    ]
    pair = read_coco_pair(*write_pair(tmp_path, truth, results))
    assert pair.class_names == ("car", "bus")
    assert [(i.name, i.cluster, i.camera) for i in pair.images] == [
        ("a.jpg", "gate@2026-03-01T08", "gate"), ("b.jpg", "yard@1", ""), ("c.jpg", "image:c.jpg", ""),
    ]  # fmt: skip
    first = pair.images[0]
    assert first.truths.class_id.tolist() == [1, 0]
    assert first.truths.crowd.tolist() == [False, True]
    assert first.truths.xyxy.tolist() == [[1, 2, 4, 6], [0, 0, 50, 50]]
    assert first.detections.confidence.tolist() == [0.75, 0.25]
    assert first.detections.class_id.tolist() == [0, 1]
    assert first.detections.xyxy.tolist() == [[-3, 2, 0, 6], [1, 2, 4, 6]]
    assert pair.warnings == ("g.json: 1 boxes without area left out, the first: annotations[2]",)

    write_coco_pair(tmp_path / "g2.json", tmp_path / "p2.json", pair)
    again = read_coco_pair(tmp_path / "g2.json", tmp_path / "p2.json")
    assert again.class_names == pair.class_names
    for one, two in zip(pair.images, again.images):
        assert (one.name, one.cluster, one.camera) == (two.name, two.cluster, two.camera)
        np.testing.assert_array_equal(one.truths.xyxy, two.truths.xyxy)
        np.testing.assert_array_equal(one.detections.xyxy, two.detections.xyxy)
        np.testing.assert_array_equal(one.detections.confidence, two.detections.confidence)


RESULT = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}


@pytest.mark.parametrize(
    ("truth", "results", "message"),
    [
        (coco_content(images=[]), [], "annotations.0. is of image '1', which is not in the file"),
        (coco_content(images=[], annotations=[]), [], "nothing to evaluate"),
        (coco_content(images=coco_content()["images"] * 2), [], r"images.1. has no id of its own"),
        (coco_content(annotations=coco_content()["annotations"] * 2), [], r"annotations.1. has the id '1' of another"),
        (coco_content(categories=[{"id": 1, "name": "a"}] * 2), [], "category 1 needs a number of its own"),
        (coco_content(categories=[{"id": 2, "name": "a"}]), [], "class that is not in the list: category 1"),
        (coco_content(images=[{"id": 1, "file_name": "a", "width": 0, "height": 3}]), [], "width is '0'"),
        (coco_content(images=[{"id": 1, "file_name": "a"}]), [], "width is 'None'"),
        (coco_content(), {"annotations": []}, "COCO results are a list"),
        (coco_content(), [5], "is no object"),
        (coco_content(), [RESULT | {"image_id": 2}], "image_id '2' is not in the ground truth"),
        (coco_content(), [RESULT | {"image_id": [1]}], "is not in the ground truth"),
        (coco_content(), [RESULT | {"category_id": 3}], "category_id '3' is not one of the ground truth's: 1, 2"),
        (coco_content(), [RESULT | {"score": 1.5}], "score 1.5 is outside"),
        (coco_content(), [RESULT | {"score": "high"}], "score is 'high', not a number"),
        (coco_content(), [RESULT | {"bbox": [1, 2, 3]}], "bbox is not a list of four"),
        (coco_content(), [RESULT | {"bbox": [1, 2, 3, float("nan")]}], "bbox is not finite"),
        (coco_content(), [RESULT | {"bbox": [1, 2, 3, 10**400]}], "bbox is not finite"),
        (coco_content(), [RESULT | {"bbox": [1, 2, -3, 4]}], "bbox has a size of"),
    ],
)
def test_a_pair_that_cannot_be_meant_is_an_error_with_its_entry(tmp_path, truth, results, message):
    """Duplicate ids, unknown images and categories, scores and boxes that are none."""
    with pytest.raises(LabelsInvalid, match=message) as caught:
        read_coco_pair(*write_pair(tmp_path, truth, results))
    assert "\n" not in str(caught.value)


def test_a_pair_without_detections_warns(tmp_path):
    """An empty list of results is legal, and said aloud."""
    pair = read_coco_pair(*write_pair(tmp_path, coco_content(), []))
    assert [len(i.detections) for i in pair.images] == [0]
    assert "every object counts as missed" in pair.warnings[0]


# --- what files must not be able to do --------------------------------------------------------------------------------


def test_links_and_names_do_not_lead_out_of_the_folder(tmp_path):
    """A link, a `..`, an absolute name or a zero byte reach nothing outside of the dataset."""
    secret = picture(tmp_path / "secret/private.jpg")
    put(tmp_path / "secret/private.txt", "0 0.5 0.5 0.2 0.2")
    root = yolo_folder(tmp_path / "set", {"a": "0 0.5 0.5 0.2 0.2"})
    os.symlink(secret, root / "images/train/linked.jpg")
    os.symlink(tmp_path / "secret", root / "images/train/folder")
    put(root / "labels/train/linked.txt", "0 0.5 0.5 0.2 0.2")
    picture(root / "images/train/b.jpg")
    os.symlink(tmp_path / "secret/private.txt", root / "labels/train/b.txt")
    dataset = read_dataset(root)
    assert [i.path.name for i in dataset.images] == ["a.jpg"]
    put(root / "data.yaml", "names: [car]\ntrain: ../secret\nval: " + str(tmp_path / "secret"))
    assert {i.path.name for i in read_dataset(root).images} == {"a.jpg"}
    put(root / "list.txt", f"../secret/private.jpg\n{secret}\n./images/train/a.jpg\n")
    put(root / "data.yaml", "names: [car]\ntrain: list.txt")
    assert {i.path.name for i in read_dataset(root).images} == {"a.jpg"}

    for name in ("../secret/private.jpg", str(secret), "a\0.jpg", "x" * 5000, "..\\secret\\private.jpg"):
        folder = tmp_path / "coco"
        images = [{"id": 1, "file_name": name, "width": W, "height": H}]
        put(folder / "train/_annotations.coco.json", json.dumps(coco_content(images=images)))
        assert read_dataset(folder).skipped == {MISSING_IMAGE: 1}
    xml = voc_bytes("../../secret/private.jpg", W, H, (box("car", 1, 1, 5, 5),))
    put(tmp_path / "voc/train/z.xml", xml.decode())
    with pytest.raises(LabelsInvalid, match="image that is not there"):
        read_dataset(tmp_path / "voc")


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]>
<annotation><filename>&y;</filename></annotation>"""
OUTSIDER = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'


@pytest.mark.parametrize("text", [BOMB, OUTSIDER, "<!DOCTYPE annotation><annotation/>"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_may_not_declare_anything(text, encoding):
    """Entity bombs and files of this machine are refused before anything is expanded, in any encoding."""
    with pytest.raises(LabelsInvalid, match="declares a DOCTYPE"):
        parse_voc(text.encode(encoding), "x.xml")


def test_xml_may_not_be_deep_and_files_not_large(tmp_path):
    """A hundred thousand elements in each other, or a label file of megabytes, are refused unread."""
    with pytest.raises(LabelsInvalid, match="nested more than 20"):
        parse_voc(b"<a>" * 100_000, "x.xml")
    yolo_folder(tmp_path, {"a": "0 0.5 0.5 0.2 0.2\n" * 300_000, "b": "0 0.5 0.5 0.1 0.1\n" * 10_001, "c": ""})
    assert read_dataset(tmp_path).skipped == {BAD_LINE: 2}


def test_a_picture_of_too_many_pixels_is_not_opened(tmp_path):
    """A small PNG that says 20,000 x 20,000 is skipped by its header."""
    yolo_folder(tmp_path, {"a": ""})
    Image.new("1", (20_000, 20_000)).save(tmp_path / "images/train/big.png")
    put(tmp_path / "labels/train/big.txt", "")
    assert read_dataset(tmp_path).skipped == {CORRUPT_IMAGE: 1}


def zipped(path: Path, members: dict[str, bytes], links=()) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if name in links:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, data)
    return path


@pytest.mark.parametrize(
    ("members", "links", "message"),
    [
        ({"../a.txt": b""}, (), "leads out"),
        ({"/etc/a.txt": b""}, (), "leads out"),
        ({"..\\a.txt": b""}, (), "leads out"),
        ({"C:\\a.txt": b""}, (), "leads out"),
        ({"a/../../b.txt": b""}, (), "leads out"),
        ({"a\nb.txt": b""}, (), "leads out"),
        ({"x" * 300: b""}, (), "too long"),
        ({"a": b"/etc/passwd"}, ("a",), "is a link"),
        ({"a.txt": b"\0" * 40_000_000}, (), "grows"),
        ({str(n): b"" for n in range(20)}, (), "20 files, more than 10"),
        ({"a": os.urandom(3_000_000)}, (), "more than 2000000"),
    ],
)
def test_an_archive_cannot_write_elsewhere_or_explode(tmp_path, members, links, message):
    """Traversal, links, bombs and floods are refused, and nothing is left behind."""
    archive = zipped(tmp_path / "x.zip", members, links)
    limit = 100_000_000 if message == "grows" else 2_000_000
    with pytest.raises(LabelsInvalid, match=message):
        unpack(archive, tmp_path / "out", max_files=10, max_bytes=limit)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.zip"]


def test_a_good_archive_is_unpacked_and_a_broken_one_is_not(tmp_path):
    """What was zipped comes out; a cut archive and a full folder are LabelsInvalid."""
    yolo_folder(tmp_path / "set", {"a": "0 0.5 0.5 0.2 0.2"})
    members = {p.relative_to(tmp_path / "set").as_posix(): p.read_bytes() for p in (tmp_path / "set").rglob("*.*")}
    archive = zipped(tmp_path / "x.zip", members)
    assert len(read_dataset(unpack(archive, tmp_path / "out")).images) == 1
    with pytest.raises(LabelsInvalid, match="is not empty"):
        unpack(archive, tmp_path / "out")
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(LabelsInvalid, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out2")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=4)
)
RECORDS = st.lists(
    st.dictionaries(
        st.sampled_from(
            [
                "id",
                "image_id",
                "category_id",
                "bbox",
                "iscrowd",
                "name",
                "supercategory",
                "file_name",
                "width",
                "height",
            ]
            + [
                "sample_id",
                "annotator",
                "labelled_at",
                "status",
                "seeded",
                "corrections",
                "score",
                "camera",
                "captured_at",
            ]
        ),
        st.integers(0, 2) | SCALARS | st.lists(st.floats() | st.integers(-5, 200), min_size=4, max_size=4),
    ),
    max_size=4,
)
COCOS = st.fixed_dictionaries({"images": RECORDS | JSON, "annotations": RECORDS | JSON, "categories": RECORDS | JSON})
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(
    st.binary(max_size=200) | COCOS.map(lambda c: json.dumps(c).encode()) | JSON.map(lambda c: json.dumps(c).encode())
)
@example(b'{"images": [{"id": 1e400}], "categories": [], "annotations": []}')
@example(b"[" + b"9" * 5000 + b"]")
def test_fuzzed_coco_raises_nothing_but_labels_invalid(data):
    """Whatever the bytes, a revision is read or refused."""
    s = sample("a")
    try:
        parse_coco(data, "x")
        labels_from_coco(data, {s.sample_id: s, "": s, "a": s}, NAMES, "x")
    except LabelsInvalid as error:
        assert "\n" not in str(error)  # noqa: PT017


@QUIET
@given(COCOS, RECORDS | JSON)
def test_fuzzed_pairs_raise_nothing_but_labels_invalid(tmp_path, truth, results):
    """Whatever the two files hold."""
    try:
        read_coco_pair(*write_pair(tmp_path, truth, results))
    except LabelsInvalid:
        pass


NUMBERS = st.floats().map(str) | st.integers().map(str) | st.sampled_from(["0", "1", "0.5", "-1", "1e999", "0x1", "١"])


@QUIET
@given(st.text(max_size=60) | st.lists(st.lists(NUMBERS, max_size=9).map(" ".join), max_size=5).map("\n".join))
def test_fuzzed_yolo_gives_boxes_inside_or_counts_a_problem(text):
    """Every box that is accepted lies in its image and has an area; refused images are counted."""
    problems = Problems()
    boxes = parse_yolo(text, "x", W, H, NAMES, problems)
    assert (boxes is None) <= bool(problems.counts)
    for b in boxes or ():
        x1, y1, x2, y2 = b.xyxy
        assert 0 <= x1 < x2 <= W
        assert 0 <= y1 < y2 <= H


TAGS = st.sampled_from(["annotation", "object", "bndbox", "xmin", "name", "size", "width", "filename", "difficult"])
XML = st.recursive(
    NUMBERS | st.text("abc&<>", max_size=4),
    lambda inner: st.tuples(TAGS, st.lists(inner, max_size=4)).map(lambda e: f"<{e[0]}>{''.join(e[1])}</{e[0]}>"),
    max_leaves=12,
)


@QUIET
@given(st.binary(max_size=100) | XML.map(lambda x: f"<annotation>{x}</annotation>".encode()))
@example(b'<?xml version="1.0" encoding="klingon"?><annotation/>')
def test_fuzzed_voc_raises_nothing_but_labels_invalid(data):
    """Whatever the bytes, a VOC file is read or refused."""
    try:
        voc_boxes(parse_voc(data, "x"), W, H, None, "x", Problems())
    except LabelsInvalid as error:
        assert "\n" not in str(error)  # noqa: PT017


@QUIET
@given(st.text(max_size=80) | JSON.map(lambda x: yaml.safe_dump({"names": x, "train": "images"})))
def test_fuzzed_data_yaml_raises_nothing_but_labels_invalid(tmp_path, text):
    """Whatever data.yaml says."""
    if not (tmp_path / "images").exists():
        picture(tmp_path / "images/a.jpg")
    (tmp_path / "data.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_dataset(tmp_path)
    except LabelsInvalid as error:
        assert "\n" not in str(error)  # noqa: PT017


@QUIET
@given(st.binary(max_size=300), st.integers(0, 600), st.integers(0, 255))
def test_fuzzed_images_are_read_or_counted(tmp_path, noise, at, byte):
    """Bytes that are no image, and an image with one byte changed."""
    root = tmp_path / "set"
    if not root.exists():
        yolo_folder(root, {"a": ""})
        picture(root / "images/train/b.png")
        put(root / "labels/train/b.txt", "")
    good = picture(tmp_path / "good.png", 8, 8).read_bytes()
    (root / "images/train/a.jpg").write_bytes(noise)
    (root / "images/train/b.png").write_bytes(good[: at % len(good)] + bytes([byte]) + good[at % len(good) + 1 :])
    dataset = read_dataset(root)
    assert dataset.skipped.get(CORRUPT_IMAGE, 0) + len(dataset.images) == 2
