"""Data sets of others are read, and what is bad in them is skipped, counted and named."""

from __future__ import annotations

import json

import pytest
import yaml
from label_files import H, W, box, coco_content, picture, put, yolo_folder
from PIL import Image

from tasks.adapters.labels import (
    read_dataset,
    voc_bytes,
)
from tasks.adapters.labels.dataset import (
    BAD_LINE,
    CORRUPT_IMAGE,
    MISSING_IMAGE,
    OTHER_SIZE,
    OUTSIDE,
    UNKNOWN_CLASS,
    UNLABELLED,
    WITHOUT_AREA,
)
from tasks.core.errors import LabelsInvalid

# --- data sets of others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["images/{}", "{}/images"])
def test_both_yolo_layouts_are_read(tmp_path, layout):
    """Splits follow data.yaml; the validation split calibrates; an empty label file is an image without objects."""
    for split in ("train", "val", "test"):
        folder = tmp_path / layout.format(split)
        for n in range(2):
            picture(folder / f"{split}{n}.jpg")
            text = "1 0.5 0.5 0.25 0.5\n" if n else ""
            put(tmp_path / layout.replace("images", "labels").format(split) / f"{split}{n}.txt", text)
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
