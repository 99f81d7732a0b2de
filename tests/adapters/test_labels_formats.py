"""Labels of many images in every format: written piece by piece, and read back to the pixel or refused."""

from __future__ import annotations

import contextlib
import json
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from label_files import NAMES, NOW, H, W, box, boxes_in, picture, put, sample

from tasks.adapters.labels import (
    FORMATS,
    Classes,
    LabelledImage,
    LabelSet,
    Problems,
    parts_of,
    percent_box,
    pixels_box,
    read_dataset,
    read_labels,
    read_labelstudio,
    read_returned,
    unpack,
)
from tasks.adapters.labels.coco import ORPHAN, UNKNOWN_IMAGE
from tasks.adapters.labels.dataset import BAD_LINE, OTHER_SIZE, OUTSIDE, UNKNOWN_CLASS, WITHOUT_AREA
from tasks.adapters.labels.labelstudio_json import regions_of, task_of
from tasks.adapters.labels.lines import lines_of_entries
from tasks.adapters.labels.returned import LINK, SAID_AGAIN, TWICE, UNKNOWN_FILE, UNTOUCHED
from tasks.core.entities import Label
from tasks.core.errors import LabelsInvalid

SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def label(s, *boxes, **fields) -> Label:
    return Label(**{"sample_id": s.sample_id, "boxes": boxes, "annotator": "kim", "labelled_at": NOW, **fields})


def written(folder: Path, form: str, labels: LabelSet) -> Path:
    for name, pieces in parts_of(form, labels):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(pieces))
    return folder


def read(folder: Path, *samples, classes=NAMES, **options):
    classes = Classes(classes, options.pop("renames", {}), options.pop("later", ()))
    known = {s.sample_id: s for s in samples}
    return read_returned(folder, known, classes, annotator="kim", labelled_at=NOW, **options)


# --- round trips ------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(SIZES, st.data())
def test_percents_come_back_to_the_ten_thousandth_of_a_pixel(size, data):
    """Any box of any image, on a grid of 1/10,000 pixel, is exactly itself after the way through Label Studio."""
    width, height = size
    corners = st.integers(0, 10_000).map(lambda n: n / 10_000)
    (x1, x2), (y1, y2) = (
        sorted(round(v * side, 4) for v in data.draw(st.tuples(corners, corners))) for side in (width, height)
    )
    assert pixels_box(percent_box((x1, y1, x2, y2), width, height), width, height) == (x1, y1, x2, y2)
    x, y, w, h = percent_box((0, 0, width, height), width, height)
    assert (x, y, w, h) == (0, 0, 100, 100)


@settings(max_examples=25, deadline=None)
@given(st.data())
@pytest.mark.parametrize("form", FORMATS)
def test_labels_of_many_images_come_back_equal(tmp_path_factory, form, data):
    """Odd sizes, empty and skipped images, crowds: all that a format has a word for is read as it was written."""
    folder = tmp_path_factory.mktemp("set")
    images = []
    for n in range(data.draw(st.integers(1, 4))):
        width, height = data.draw(st.tuples(st.integers(2, 700), st.integers(2, 700)))
        s, skipped = sample(f"{n}", width, height), data.draw(st.booleans()) if n else False
        boxes = () if skipped else data.draw(boxes_in(width, height))
        images.append(LabelledImage(s, label(s, *boxes, status="skipped" if skipped else "done")))
    labels = LabelSet("today", images, NAMES)
    found = read(written(folder, form, labels), *(one.sample for one in images))
    wanted = {one.sample.sample_id: one.label for one in images}
    if form in ("yolo", "voc"):
        wanted = {key: one for key, one in wanted.items() if one.status == "done"}
    if form == "yolo":
        wanted = {
            key: one.model_copy(update={"boxes": tuple(b for b in one.boxes if not b.crowd)})
            for key, one in wanted.items()
        }
    assert {one.sample_id: one for one in found.labels} == wanted
    assert not found.problems.counts


def test_all_formats_fit_into_one_folder_which_is_a_dataset(tmp_path):
    """Written beside `images/` with their splits, each is what other programs look for, and says the same."""
    images = []
    for n, split in enumerate(("train", "val", "test")):
        s = sample(f"{n}")
        images.append(LabelledImage(s, label(s, box("car", 1.25, 2, 30, 40), box("bus", 5, 6, 70, 60)), split))
    labels = LabelSet("0123456789abcdef", images, NAMES, 3)
    seen = {}
    for form in ("yolo", "coco", "voc"):
        folder = written(tmp_path / form, form, labels)
        for one in images:
            picture(folder / one.image)
        found = read_dataset(folder)
        assert (found.format, found.skipped) == (form, {})
        seen[form] = sorted((i.path.stem, i.split, i.boxes) for i in found.images)
    assert seen["yolo"] == seen["coco"] == seen["voc"]
    assert {split for _, split, _ in seen["yolo"]} == {"train", "calibration", "test"}
    for form in FORMATS:
        written(tmp_path / "all", form, labels)
    together = read(tmp_path / "all", *(one.sample for one in images))
    assert {one.sample_id: one.boxes for one in together.labels} == {i.sample.sample_id: i.label.boxes for i in images}
    assert not together.problems.counts


def test_equal_labels_give_equal_bytes_and_an_entry_a_line(tmp_path):
    """What goes out can be compared, and the line of a problem is that of its box."""
    images = [LabelledImage(s, label(s, box("car", 1, 2, 3, 4))) for s in map(sample, "ab")]
    for form in FORMATS:
        one, two = (written(tmp_path / f"{form}{n}", form, LabelSet("b", images, NAMES)) for n in (1, 2))
        for path in one.rglob("*.*"):
            assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
    data = (tmp_path / "coco1/annotations/instances_default.json").read_bytes()
    lines = data.decode().splitlines()
    known = lines_of_entries(data)
    assert [json.loads(lines[n - 1].rstrip(","))["bbox"] for n in known["annotations"]] == [[1, 2, 2, 2]] * 2
    assert [json.loads(lines[n - 1].rstrip(","))["id"] for n in known["images"]] == [1, 2]


def test_what_label_studio_says_of_people_and_images_is_kept(tmp_path):
    """Who, when, how long; cancelled is skipped; two people are two labels; no annotation is no label."""
    a, b, c = sample("a"), sample("b"), sample("c")
    tasks = [task_of(n, s, f"/data/upload/1/8f3a-{s.sample_id}.jpg") for n, s in enumerate((a, b, c), 1)]
    for task in tasks[:2]:
        del task["meta"]
    by_kim = {"completed_by": {"email": "kim@x"}, "result": regions_of([box("car", 1, 2, 9, 9)], a), "lead_time": 12.5,
              "updated_at": "2026-03-01T10:00:00.123456Z"}  # fmt: skip
    answers = [{"type": "choices", "value": {"choices": ["blurred"]}}, {"type": "relation", "from_id": "x"}]
    tasks[0]["annotations"] = [by_kim, {"completed_by": 7, "result": answers}]
    tasks[1]["annotations"] = [{"result": [], "was_cancelled": True}]
    tasks[2]["drafts"] = [by_kim]
    found, problems = read_labelstudio(
        json.dumps(tasks).encode(), {s.sample_id: s for s in (a, b, c)}, NAMES, "x.json", annotator="acme",
        labelled_at=NOW,
    )  # fmt: skip
    assert not problems.counts
    assert [(x.sample_id, x.annotator, x.status, len(x.boxes), x.lead_seconds) for x in found] == [
        (a.sample_id, "kim@x", "done", 1, 12.5),
        (a.sample_id, "7", "done", 0, None),
        (b.sample_id, "acme", "skipped", 0, None),
    ]
    assert found[0].labelled_at == NOW - timedelta(hours=2, minutes=30) + timedelta(seconds=-1, milliseconds=118)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": {"rotation": 3}}, BAD_LINE),
        ({"image_rotation": 90}, BAD_LINE),
        ({"value": {"x": "left"}}, BAD_LINE),
        ({"value": {"width": -3}}, BAD_LINE),
        ({"value": {"x": float("nan")}}, BAD_LINE),
        ({"value": {"rectanglelabels": ["car", "bus"]}}, BAD_LINE),
        ({"value": {"rectanglelabels": None, "polygonlabels": ["car"]}, "type": "polygonlabels"}, BAD_LINE),
        ({"value": {"rectanglelabels": ["plane"]}}, UNKNOWN_CLASS),
        ({"value": {"x": 90}}, OUTSIDE),
        ({"value": {"width": 0}}, WITHOUT_AREA),
        ({"original_width": 2 * W}, OTHER_SIZE),
    ],
)
def test_regions_that_are_no_boxes_are_counted(change, reason):
    """Turned, of no one class, outside, of another size: the image is refused; without area only the box."""
    s = sample("a")
    good, bad = regions_of([box("car", 10, 10, 60, 60), box("bus", 10, 10, 60, 60)], s)
    bad = {**bad, **change, "value": {**bad["value"], **change.get("value", {})}}
    task = {"data": {"image": f"{s.sample_id}.jpg"}, "annotations": [{"result": [good, bad]}]}
    found, problems = read_labelstudio(
        json.dumps([task]).encode(), {s.sample_id: s}, NAMES, "x", annotator="a", labelled_at=NOW
    )
    assert problems.counts == {reason: 1}
    assert [len(x.boxes) for x in found] == ([1] if reason == WITHOUT_AREA else [])
    assert "tasks[0]: region 1" in problems.lines[0]


# --- returns ----------------------------------------------------------------------------------------------------------


def test_every_wrong_line_of_a_return_is_told_with_its_file_and_line(tmp_path):
    """Not only the first of a file: whoever mends it mends all of it."""
    s, t, u = sample("s"), sample("t"), sample("u")
    put(
        tmp_path / f"labels/{s.sample_id}.txt",
        "9 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n0 3 3 1 1\nnonsense\n0 0.5 0.5 0 0",
    )
    xml = f"""<annotation><filename>{t.sample_id}.jpg</filename>
<object><name>plane</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>
<object><name>car</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>500</xmax><ymax>5</ymax></bndbox></object>
</annotation>"""
    put(tmp_path / f"labels/{t.sample_id}.xml", xml)
    labels = LabelSet("b", [LabelledImage(u, label(u, *[box("car", 1, 2, 3, 4)] * 3))], NAMES)
    coco = json.loads(b"".join(next(iter(parts_of("coco", labels)))[1]))
    coco["annotations"][1]["bbox"] = [90, 1, 50, 2]
    coco["annotations"].append({"image_id": 77, "category_id": 1, "bbox": [1, 1, 2, 2]})
    put(tmp_path / "labels/all.json", json.dumps(coco, indent=1))
    found = read(tmp_path, s, t, u)
    assert found.labels == []
    assert found.problems.counts == {UNKNOWN_CLASS: 2, OUTSIDE: 3, BAD_LINE: 1, WITHOUT_AREA: 1, ORPHAN: 1}
    text = (tmp_path / "labels/all.json").read_text().splitlines()
    places = [problem.where for problem in found.problems.first]
    for n in (1, 3, 4, 5):
        assert f"labels/{s.sample_id}.txt:{n}" in places
    assert {f"labels/{t.sample_id}.xml:{n}: object {n - 2}" for n in (2, 3)} <= set(places)
    (bad,) = [place for place in places if "annotations[1]" in place]
    line = int(bad.split(":")[1])
    assert text[line - 1].strip() == "{"
    assert '"id": 2' in text[line]
    assert bad.endswith(f"annotations[1] of {u.sample_id}")


def test_an_image_that_is_there_twice_counts_when_both_agree(tmp_path):
    """COCO and YOLO of one image are one label, in COCO's digits; where they differ nobody knows which is right."""
    s, t = sample("s"), sample("t")
    images = [
        LabelledImage(x, label(x, box("car", 1.234, 2, 30, 40), box("bus", 3, 3, 9, 9, crowd=True))) for x in (s, t)
    ]
    for form in FORMATS:
        written(tmp_path / form, form, LabelSet("b", images, NAMES))
    put(tmp_path / f"yolo/labels/{t.sample_id}.txt", "0 0.5 0.5 0.1 0.1\n")
    found = read(tmp_path, s, t)
    assert [(x.sample_id, x.boxes) for x in found.labels] == [(s.sample_id, images[0].label.boxes)]
    assert found.passed_over[SAID_AGAIN] == 3
    assert found.problems.counts == {TWICE: 1}
    assert f"yolo/labels/{t.sample_id}.txt says something else" in found.problems.lines[0]


def test_an_image_that_is_twice_in_one_file_is_no_later_wins(tmp_path):
    """Two records of one image in a COCO file that differ are a problem, not a lost label."""
    s = sample("s")
    record = {"file_name": f"{s.sample_id}.jpg", "width": W, "height": H}
    content = {"images": [{"id": 1, **record}, {"id": 2, **record}], "categories": [{"id": 1, "name": "car"}],
               "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}]}  # fmt: skip
    put(tmp_path / "x.json", json.dumps(content))
    found = read(tmp_path, s)
    assert (found.labels, found.problems.counts) == ([], {TWICE: 1})


def test_what_was_sent_and_comes_back_unchanged_is_not_taken_for_a_label(tmp_path):
    """In `pre_annotations` only what was changed counts; what lies elsewhere counts as it is, and goes before it."""
    samples = same, changed, moved, blank = [sample(name) for name in ("same", "changed", "moved", "blank")]
    seeds = {s.sample_id: label(s, box("car", 10, 10, 40, 40)) for s in samples if s is not blank}
    sent = LabelSet("b", [LabelledImage(s, seeds[s.sample_id]) for s in (same, changed, moved)], NAMES, seeds=True)
    for form in FORMATS:
        written(tmp_path / "pre_annotations" / form, form, sent)
    put(tmp_path / f"pre_annotations/yolo/labels/{changed.sample_id}.txt", "1 0.5 0.5 0.5 0.5\n")
    put(tmp_path / f"pre_annotations/yolo/labels/{blank.sample_id}.txt", "0 0.5 0.5 0.5 0.5\n")
    put(tmp_path / f"labels/{moved.sample_id}.txt", "2 0.5 0.5 0.5 0.5\n")
    found = read(tmp_path, *samples, seeds=seeds)
    names = {x.sample_id: [b.class_name for b in x.boxes] for x in found.labels}
    assert names == {changed.sample_id: ["bus"], blank.sample_id: ["car"], moved.sample_id: [NAMES[2]]}
    assert found.passed_over[UNTOUCHED] == 1
    assert not found.problems.counts
    taken = {x.sample_id for x in read(tmp_path, *samples, seeds=seeds, untouched=True).labels}
    assert taken == {same.sample_id, *names}
    unknown = {x.sample_id for x in read(tmp_path, *samples).labels}  # nobody knows what was sent
    assert unknown == {moved.sample_id}


def test_class_lists_lie_nearest_to_their_files(tmp_path):
    """Programs write classes.txt beside the labels, in an order of their own."""
    s, t = sample("s"), sample("t")
    put(tmp_path / f"a/{s.sample_id}.txt", "0 0.5 0.5 0.5 0.5\n")
    put(tmp_path / "a/classes.txt", "bus\ncar\n")
    put(tmp_path / f"b/{t.sample_id}.txt", "0 0.5 0.5 0.5 0.5\n")
    names = {x.sample_id: x.boxes[0].class_name for x in read(tmp_path, s, t).labels}
    assert names == {s.sample_id: "bus", t.sample_id: "car"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_class_that_came_later_is_told_with_what_to_do_and_renames_are_explicit(tmp_path, form):
    """The batch keeps its list: its image waits, until somebody says which class was meant."""
    s, t = sample("s"), sample("t")
    images = [
        LabelledImage(s, label(s, box("van", 1, 1, 30, 30))),
        LabelledImage(t, label(t, box("car", 1, 1, 30, 30))),
    ]
    written(tmp_path, form, LabelSet("b", images, (*NAMES, "van")))
    found = read(tmp_path, s, t, later=("van",))
    assert [x.sample_id for x in found.labels] == [t.sample_id]
    assert found.problems.counts == {UNKNOWN_CLASS: 1}
    assert "'van' came into the project's list after this batch was made: label" in found.problems.lines[0]
    if form == "yolo":
        for name in ("classes.txt", "data.yaml"):
            (tmp_path / name).unlink()
        assert "'van' came into" in read(tmp_path, s, t, later=("van",)).problems.lines[0]
        written(tmp_path, form, LabelSet("b", images, (*NAMES, "van")))
    renamed = read(tmp_path, s, t, renames={"van": "bus"})
    assert {x.boxes[0].class_name for x in renamed.labels} == {"bus", "car"}
    assert (renamed.renamed, renamed.problems.counts) == ({"van": 1}, {})
    plain = read(tmp_path, s, t)
    assert plain.problems.counts == {UNKNOWN_CLASS: 1}


def test_one_bad_file_of_a_return_concerns_no_other(tmp_path):
    """A broken JSON, a link, a document, somebody else's image: each is a line, and the rest is taken."""
    s = sample("s")
    put(tmp_path / f"labels/{s.sample_id}.txt", "")
    put(tmp_path / "labels/broken.json", '{"images": [')
    put(tmp_path / "labels/results.json", "[1, 2]")
    put(tmp_path / "labels/notes.docx", "")
    put(tmp_path / f"labels/{'ab' * 10}.xml", "<annotation/>")
    put(tmp_path / "__MACOSX/._x.txt", "")
    picture(tmp_path / f"images/{s.sample_id}.jpg")
    (tmp_path / "labels/link.txt").symlink_to("/etc/passwd")
    found = read(tmp_path, s)
    assert [x.boxes for x in found.labels] == [()]
    assert found.problems.counts == {BAD_LINE: 2, UNKNOWN_FILE: 1, UNKNOWN_IMAGE: 1, LINK: 1}
    assert found.passed_over == {"files of an operating system": 1, "images": 1}


# --- what files must not be able to do --------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
VALUES = st.fixed_dictionaries({}, optional={
    **{side: st.floats() | st.integers(-5, 120) | JSON for side in ("x", "y", "width", "height")},
    "rotation": st.integers(0, 1) | JSON, "rectanglelabels": st.lists(st.sampled_from(NAMES) | JSON, max_size=2) | JSON,
})  # fmt: skip
REGIONS = st.fixed_dictionaries({}, optional={
    "type": st.sampled_from(["rectanglelabels", "choices", "relation"]) | JSON, "value": VALUES | JSON,
    "original_width": st.just(W) | JSON, "image_rotation": st.just(0) | JSON,
    "meta": JSON | st.just({"text": ["crowd"]}),
})  # fmt: skip
ANSWERS = st.fixed_dictionaries({}, optional={
    "result": st.lists(REGIONS, max_size=3) | JSON, "was_cancelled": st.booleans() | JSON,
    "completed_by": st.integers() | st.just({"email": "k"}) | JSON, "lead_time": st.floats() | JSON,
    "updated_at": st.just("2026-03-01T10:00:00Z") | JSON,
})  # fmt: skip
TASKS = st.lists(st.fixed_dictionaries(
    {"data": st.dictionaries(st.sampled_from(["image", "sample_id"]), st.just(sample("a").sample_id) | JSON) | JSON},
    optional={"annotations": st.lists(ANSWERS | JSON, max_size=3) | JSON, "meta": JSON},
) | JSON, max_size=3)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100) | (TASKS | JSON).map(lambda c: json.dumps(c).encode()))
@example(b'[{"data": {"image": null}, "annotations": [{"result": []}]}]')
def test_fuzzed_label_studio_is_read_counted_or_refused(data):
    """Whatever the bytes: labels lie in their image, and every task that says something is a label or a problem."""
    s = sample("a")
    problems = Problems()
    with contextlib.suppress(LabelsInvalid):
        found, problems = read_labelstudio(data, {s.sample_id: s}, NAMES, "x", annotator="kim", labelled_at=NOW)
        said = {n for n, task in enumerate(json.loads(data)) if task.get("annotations") and
                isinstance(task["annotations"], list)}  # fmt: skip
        told = {n for n in said for problem in problems.first if f"tasks[{n}]" in problem.where}
        assert len(said - told) <= len(found)
        for one in (b for x in found for b in x.boxes):
            x1, y1, x2, y2 = one.xyxy
            assert 0 <= x1 < x2 <= W
            assert 0 <= y1 < y2 <= H
    assert all("\n" not in line for line in problems.lines)


MEMBERS = st.sampled_from([
    "labels/a.txt", "labels/a.json", "labels/a.xml", "classes.txt", "data.yaml", "pre_annotations/a.json", "a/b/c.json",
    f"labels/{sample('a').sample_id}.txt", f"labels/{sample('b').sample_id}.xml", "x.bin", ".hidden.json",
    "images/a.jpg",
])  # fmt: skip
CONTENTS = st.binary(max_size=40) | st.sampled_from([
    b"0 0.5 0.5 0.1 0.1\n", b"", b"car\nbus\n", b"names: [car]", b"<annotation/>", b'{"images": [], "categories": []}',
]) | TASKS.map(lambda c: json.dumps(c).encode())  # fmt: skip


@QUIET
@given(st.dictionaries(MEMBERS, CONTENTS, max_size=6), st.binary(max_size=30), st.integers(0, 400))
def test_fuzzed_returns_are_taken_or_told(tmp_path_factory, members, noise, cut):
    """Any zip of any files, also one that was damaged: in is taken or reported, and LabelsInvalid the only error."""
    folder = tmp_path_factory.mktemp("return")
    samples = {x.sample_id: x for x in (sample("a"), sample("b"))}
    with zipfile.ZipFile(folder / "x.zip", "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    whole = (folder / "x.zip").read_bytes()
    found = None
    with contextlib.suppress(LabelsInvalid):
        found = read_returned(
            unpack(folder / "x.zip", folder / "in"), samples, Classes(NAMES), annotator="k", labelled_at=NOW, seeds={}
        )
    if found is not None:
        for sample_id in samples:
            if any(sample_id in name for name in members):
                told = any(sample_id in str(line) for line in found.problems.lines)
                assert told or any(x.sample_id == sample_id for x in found.labels)
        unread = sum(found.passed_over.values()) - found.passed_over[SAID_AGAIN] - found.passed_over[UNTOUCHED]
        assert found.files + unread == len(members)
    (folder / "y.zip").write_bytes(whole[: cut % (len(whole) + 1)] + noise + whole[cut % (len(whole) + 1) :])
    with contextlib.suppress(LabelsInvalid):
        read_labels(unpack(folder / "y.zip", folder / "again"), samples, NAMES, annotator="k", labelled_at=NOW)
