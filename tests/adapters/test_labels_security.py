"""Nothing in a label file or an archive can do more than raise LabelsInvalid."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from label_files import NAMES, H, W, box, coco_content, picture, put, sample, yolo_folder
from PIL import Image

from tasks.adapters.labels import (
    labels_from_coco,
    read_coco_pair,
    read_dataset,
    unpack,
    voc_bytes,
)
from tasks.adapters.labels.coco import parse_coco
from tasks.adapters.labels.dataset import (
    BAD_LINE,
    CORRUPT_IMAGE,
    MISSING_IMAGE,
    Problems,
)
from tasks.adapters.labels.voc import parse_voc, voc_boxes
from tasks.adapters.labels.yolo import parse_yolo
from tasks.core.errors import LabelsInvalid

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
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())
KEYS = (
    "id image_id category_id bbox iscrowd name supercategory file_name width height sample_id annotator labelled_at "
    "status seeded corrections score camera captured_at"
)
BBOXES = st.lists(st.floats() | st.integers(-5, 200), min_size=4, max_size=4)
RECORDS = st.lists(st.dictionaries(st.sampled_from(KEYS.split()), st.integers(0, 2) | SCALARS | BBOXES), max_size=4)
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


@pytest.mark.slow
@QUIET
@given(COCOS, RECORDS | JSON)
def test_fuzzed_pairs_raise_nothing_but_labels_invalid(tmp_path, truth, results):
    """Whatever the two files hold."""
    with contextlib.suppress(LabelsInvalid):
        read_coco_pair(put(tmp_path / "g.json", json.dumps(truth)), put(tmp_path / "p.json", json.dumps(results)))


NUMBERS = (
    st.floats().map(str) | st.integers().map(str) | st.sampled_from(["0", "1", "0.5", "-1", "1e999", "0x1", "\u0661"])
)


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
