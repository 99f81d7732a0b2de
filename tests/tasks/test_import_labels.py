"""Returns of outside teams: what happens to each kind of them, with the real bucket."""

from __future__ import annotations

import csv
import os
import shutil
import zipfile
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.adapters.labelling import FilesLabelling
from tasks.adapters.labelling.files import FUTURE
from tasks.adapters.labels import yolo_text
from tasks.adapters.labels.coco import ORPHAN, UNKNOWN_IMAGE
from tasks.adapters.labels.dataset import BAD_LINE, MAX_REPORT_LINES, OUTSIDE, UNKNOWN_CLASS, WITHOUT_AREA
from tasks.adapters.labels.returned import TWICE
from tasks.central import Central
from tasks.core import layout
from tasks.core.entities import Label
from tasks.core.errors import LabelsInvalid, ObjectMissing, SettingsError
from tasks.export_labels import export_batch, export_labels
from tasks.import_labels import OLDER, Return, take_in, write_report
from tasks.label import labelling_of, offer_batch, pull_batch
from tasks.opinions import opinions_of
from tasks.quality import quality
from tests.tasks.stages import HEIGHT, WIDTH, a_batch, a_project, a_sample, box, label, seen

CLASSES = ("car", "truck")
LONG_AGO = datetime(2026, 6, 1, tzinfo=timezone.utc)


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path)


def labels_of(project, batch) -> dict[str, Label]:
    """The newest revision."""
    central = Central(project)
    newest = central.bucket.latest_number(partial(layout.labels, batch.batch_id))
    return central.labels(batch, newest) if newest else {}


def yolo(*boxes) -> str:
    return yolo_text(boxes, WIDTH, HEIGHT, CLASSES)


def zipped(path: Path, files: dict[str, str | bytes], moment: datetime | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    if moment is not None:
        os.utime(path, (moment.timestamp(), moment.timestamp()))
    return path


def texts(*pairs) -> dict[str, str]:
    """Label files of samples: pairs of a sample and its boxes."""
    return {f"labels/{sample.sample_id}.txt": yolo(*boxes) for sample, *boxes in pairs}


def given_back(project, path: Path, **options):
    returned = Return(project, "today", path, options.pop("annotator", "acme"), **options)
    return take_in(returned), returned


def exported(project, path: Path) -> Path:
    export_batch(project, "today", path, ("coco", "yolo"), {})
    return path


def test_a_batch_goes_out_and_its_return_is_the_next_revision(project, tmp_path):
    """What the team sent is what the bucket holds, with who, whether it was seeded, and what was corrected."""
    batch = a_batch(project, range(4), unseeded=(a_sample(3).sample_id,))
    one, two, three, blank = batch.samples
    shutil.unpack_archive(exported(project, tmp_path / "today.zip"), tmp_path / "team")
    assert sorted(p.stem for p in (tmp_path / "team/images").iterdir()) == sorted(s.sample_id for s in batch.samples)
    (tmp_path / "team/labels").mkdir()
    for sample, boxes in ((one, [box("car", 10, 10)]), (two, [box("truck", 10, 10)]), (blank, [box("car", 1, 1)])):
        (tmp_path / f"team/labels/{sample.sample_id}.txt").write_text(yolo(*boxes))
    taken, returned = given_back(project, Path(shutil.make_archive(str(tmp_path / "back"), "zip", tmp_path / "team")))
    assert (taken.images, taken.boxes, taken.new, taken.missing, taken.revision) == (3, 3, 3, 1, 1)
    assert not returned.problems.counts
    found = labels_of(project, batch)
    assert set(found) == {one.sample_id, two.sample_id, blank.sample_id}
    assert [(x.annotator, x.seeded, x.corrections) for x in (found[s.sample_id] for s in (one, two, blank))] == [
        ("acme", True, 0), ("acme", True, 1), ("acme", False, 0),
    ]  # fmt: skip
    assert three.sample_id not in found


def test_the_same_return_twice_makes_no_second_revision(project, tmp_path):
    """Also under another name and with another time: what it says is known."""
    batch = a_batch(project, range(2))
    first = zipped(tmp_path / "a.zip", texts((batch.samples[0], box("car", 4, 4)), (batch.samples[1],)))
    assert given_back(project, first)[0].revision == 1
    again, _ = given_back(project, first)
    assert (again.revision, again.new, again.images) == (1, 0, 2)
    later = datetime.now(timezone.utc) - timedelta(days=3)
    copy = zipped(tmp_path / "b.zip", texts((batch.samples[0], box("car", 4, 4))), later)
    assert given_back(project, copy)[0].new == 0
    assert len(Central(project).bucket.list("batches/today/labels/")) == 1


def test_partial_returns_are_merged_and_the_later_one_wins(project, tmp_path):
    """Images that a return does not hold keep what they have; an old zip that comes in late takes nothing back."""
    batch = a_batch(project, range(3))
    one, two, three = batch.samples
    day = partial(lambda n: LONG_AGO + timedelta(days=n))
    given_back(project, zipped(tmp_path / "1.zip", texts((one, box("car", 4, 4)), (two,)), day(1)))
    given_back(project, zipped(tmp_path / "3.zip", texts((two, box("truck", 4, 4))), day(3)))
    found = {key: x.boxes for key, x in labels_of(project, batch).items()}
    assert found == {one.sample_id: (box("car", 4, 4),), two.sample_id: (box("truck", 4, 4),)}
    late, returned = given_back(
        project, zipped(tmp_path / "2.zip", texts((two, box("car", 9, 9)), (three, box("car", 5, 5))), day(2))
    )
    assert (late.new, late.revision, returned.problems.counts) == (1, 3, {OLDER: 1})
    assert two.sample_id in returned.problems.lines[0]
    assert "touch the file" in returned.problems.lines[0]
    found = {key: x.boxes for key, x in labels_of(project, batch).items()}
    assert found == {
        one.sample_id: (box("car", 4, 4),), two.sample_id: (box("truck", 4, 4),), three.sample_id: (box("car", 5, 5),),
    }  # fmt: skip
    with pytest.raises(LabelsInvalid, match="are older"):
        given_back(project, zipped(tmp_path / "0.zip", texts((two, box("car", 2, 2))), day(0)))


def test_a_return_and_the_folder_of_the_batch_do_not_undo_each_other(project, tmp_path):
    """Where the batch is labelled through files, too, the next pulls keep the return, and later files come after it."""
    batch = a_batch(project, range(2))
    one, two = batch.samples
    offer_batch.fn(project, "today", {})
    put = tmp_path / "labelling/today/labels" / f"{one.sample_id}.txt"
    put.write_text(yolo(box("car", 4, 4)))
    os.utime(put, (LONG_AGO.timestamp(),) * 2)
    assert pull_batch.fn(project, "today", 0).revision == 1
    given_back(project, zipped(tmp_path / "x.zip", texts((one, box("truck", 9, 9)), (two,))))
    assert labels_of(project, batch)[one.sample_id].boxes == (box("truck", 9, 9),)
    pulled = pull_batch.fn(project, "today", 2)
    assert (pulled.revision, pulled.problems) == (2, ())
    assert pulled.status.complete
    ahead = datetime.now(timezone.utc) + timedelta(seconds=5)
    put.write_text(yolo(box("car", 1, 1)))
    os.utime(put, (ahead.timestamp(),) * 2)
    assert pull_batch.fn(project, "today", 2).revision == 3
    assert labels_of(project, batch)[one.sample_id].boxes == (box("car", 1, 1),)


def test_a_return_of_somebody_else_is_a_second_opinion(project, tmp_path):
    """Both words are kept and compared; the newer one is the label. The same person again corrects their own."""
    batch = a_batch(project, range(3))
    one, two, three = batch.samples
    first = texts((one, box("car", 10, 10)), (two, box("car", 10, 10)))
    given_back(project, zipped(tmp_path / "a.zip", first, LONG_AGO), annotator="acme")
    assert opinions_of(Central(project), "today") == []
    second = texts((one, box("car", 36, 20)), (three, box("car", 1, 1)))
    given_back(project, zipped(tmp_path / "b.zip", second, LONG_AGO + timedelta(days=1)), annotator="bolt")
    assert labels_of(project, batch)[one.sample_id].annotator == "bolt"
    found = quality(project, labelling_of(project), ["today"])
    assert [(p.first, p.second, p.images, p.f1) for p in found.pairs] == [("acme", "bolt", 1, 0.0)]
    again = texts((one, box("car", 10, 10)))
    given_back(project, zipped(tmp_path / "c.zip", again, LONG_AGO + timedelta(days=2)), annotator="bolt")
    (pair,) = quality(project, labelling_of(project), ["today"]).pairs
    assert pair.f1 == 1.0
    assert [(o.annotator, o.sample_id) for o in opinions_of(Central(project), "today")] == [
        ("acme", one.sample_id), ("bolt", one.sample_id)
    ]  # fmt: skip


def test_accepted_predictions_are_nobodys_opinion(project, tmp_path):
    """A person's return over labels that a model made stands alone."""
    batch = a_batch(project, range(1))
    accepted = label(batch.samples[0], box("car", 10, 10), origin="model", annotator="model 0123", labelled_at=LONG_AGO)
    Central(project).store_labels(batch, [accepted])
    given_back(project, zipped(tmp_path / "a.zip", texts((batch.samples[0], box("car", 36, 20)))))
    assert opinions_of(Central(project), "today") == []


def test_two_who_write_at_once_both_win(project, tmp_path, monkeypatch):
    """A turn takes the number that the import was about to write: the import compares again and takes the next."""
    batch = a_batch(project, range(2))
    one, two = batch.samples
    store, raced = Central.store_labels, []

    def slower(self, batch, labels, after=0):
        if not raced:
            raced.append(store(Central(project), batch, [label(two, box("car", 7, 7))]))
            monkeypatch.setattr(Central, "labels", lambda *_: {})  # it looked before
            monkeypatch.setattr("tasks.adapters.bucket.Bucket.latest_number", lambda *_: 0)
            try:
                return store(self, batch, labels, after)
            finally:
                monkeypatch.undo()
        return store(self, batch, labels, after)

    monkeypatch.setattr(Central, "store_labels", slower)
    taken, _ = given_back(project, zipped(tmp_path / "x.zip", texts((one, box("truck", 9, 9)))))
    assert taken.revision == 2
    assert {key: x.boxes for key, x in labels_of(project, batch).items()} == {
        one.sample_id: (box("truck", 9, 9),), two.sample_id: (box("car", 7, 7),),
    }  # fmt: skip


def test_who_deletes_everything_is_asked(project, tmp_path):
    """Not one box although boxes were sent: nothing is taken; with a word it is, and the revision before stays."""
    batch = a_batch(project, range(3))
    exported(project, tmp_path / "today.zip")
    empty = zipped(tmp_path / "x.zip", texts(*((sample,) for sample in batch.samples)))
    with pytest.raises(LabelsInvalid, match=r"all its 3 images are empty, though 3 of them had boxes.*--allow-empty"):
        given_back(project, empty)
    assert labels_of(project, batch) == {}
    assert given_back(project, empty, allow_empty=True)[0].revision == 1
    assert given_back(project, empty)[0].new == 0  # known by now
    given_back(project, zipped(tmp_path / "y.zip", texts((batch.samples[0], box("car", 3, 3)))))
    with pytest.raises(LabelsInvalid, match="--allow-empty"):
        given_back(project, zipped(tmp_path / "z.zip", texts((batch.samples[0],))))
    taken, _ = given_back(project, zipped(tmp_path / "z.zip", texts((batch.samples[0],))), allow_empty=True)
    assert (taken.emptied, taken.before, taken.revision) == (1, 2, 3)
    kept = Central(project).labels(batch, 2)[batch.samples[0].sample_id]
    assert kept.boxes == (box("car", 3, 3),)


def test_images_that_nothing_was_seen_in_may_come_back_empty(project, tmp_path):
    """Where no boxes were sent, empty is an answer like any other."""
    a_batch(project, [], samples=tuple(a_sample(n, detections=()) for n in range(2)))
    taken, _ = given_back(project, zipped(tmp_path / "x.zip", texts((a_sample(0),), (a_sample(1),))))
    assert (taken.images, taken.boxes, taken.revision) == (2, 0, 1)


def test_clocks_that_disagree_are_told_and_clipped(project, tmp_path):
    """A return from next week is of now; one of no time that exists is taken, too."""
    batch = a_batch(project, range(2))
    ahead = datetime.now(timezone.utc) + timedelta(days=7)
    taken, returned = given_back(project, zipped(tmp_path / "x.zip", texts((batch.samples[0],)), ahead))
    (found,) = labels_of(project, batch).values()
    assert abs(found.labelled_at - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert (taken.revision, returned.problems.counts) == (1, {FUTURE: 1})
    assert f"{ahead:%Y-%m-%d}" in returned.problems.lines[0]
    again, _ = given_back(project, tmp_path / "x.zip")
    assert again.revision == 1
    odd = zipped(tmp_path / "y.zip", texts((batch.samples[1],)))
    os.utime(odd, (-5, -5))
    assert given_back(project, odd)[0].revision == 2


def test_a_class_list_that_changed_meanwhile_leaves_the_batch_as_it_was(project, tmp_path):
    """The batch keeps its list; a class that came later is told with what to do, and a rename has to be said."""
    batch = a_batch(project, range(2))
    grown = project.model_copy(update={"classes": (*CLASSES, "van"), "class_list_version": 2})
    one, two = batch.samples
    files = {"classes.txt": "car\ntruck\nvan\n", f"labels/{one.sample_id}.txt": "2 0.5 0.5 0.5 0.5\n"}
    back = zipped(tmp_path / "x.zip", files | texts((two, box("car", 4, 4))))
    taken, returned = given_back(grown, back)
    assert (taken.images, taken.revision, returned.problems.counts) == (1, 1, {UNKNOWN_CLASS: 1})
    assert "'van' came into the project's list after this batch was made" in returned.problems.lines[0]
    with pytest.raises(SettingsError, match="no class 'lorry': use one of car, truck"):
        given_back(grown, back, renames={"van": "lorry"})
    taken, returned = given_back(grown, back, renames={"van": "truck", "bus": "car"})
    assert (taken.images, returned.renamed) == (2, {"van": 1})
    assert any("--rename bus" in line for line in returned.warnings)
    assert [b.class_name for b in labels_of(project, batch)[one.sample_id].boxes] == ["truck"]
    stored = Central(project).bucket.get(layout.labels("today", 2))
    assert b'"class_list_version": 1' in stored
    assert Central(project).batch("today").class_names == CLASSES


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("7 0.5 0.5 0.2 0.2\n", UNKNOWN_CLASS),
        ("0 0.99 0.5 0.4 0.2\n", OUTSIDE),
        ("0 nan 0.5 0.4 0.2\n", BAD_LINE),
        ("car at the left\n", BAD_LINE),
    ],
)
def test_a_wrong_line_leaves_its_image_as_it_was_and_the_rest_is_taken(project, tmp_path, text, reason):
    """Unknown class, outside, no numbers: the image keeps what it has, and the line is told."""
    batch = a_batch(project, range(2))
    one, two = batch.samples
    given_back(project, zipped(tmp_path / "1.zip", texts((one, box("car", 4, 4))), LONG_AGO))
    files = {f"labels/{one.sample_id}.txt": yolo(box("car", 1, 1)) + text} | texts((two, box("truck", 4, 4)))
    taken, returned = given_back(project, zipped(tmp_path / "2.zip", files))
    assert (taken.images, taken.missing, returned.problems.counts) == (1, 1, {reason: 1})
    assert f"labels/{one.sample_id}.txt:2" in returned.problems.lines[0]
    assert labels_of(project, batch)[one.sample_id].boxes == (box("car", 4, 4),)


def test_a_box_without_area_goes_alone(project, tmp_path):
    """It says nothing; its image and the other boxes are taken."""
    batch = a_batch(project, range(1))
    files = {f"labels/{batch.samples[0].sample_id}.txt": yolo(box("car", 4, 4)) + "0 0.5 0.5 0 0.2\n"}
    taken, returned = given_back(project, zipped(tmp_path / "x.zip", files))
    assert (taken.boxes, returned.problems.counts) == (1, {WITHOUT_AREA: 1})


def test_an_image_twice_and_one_of_another_batch(project, tmp_path):
    """Twice and different: the image waits. Of another batch: told. Nothing usable: an error that says why."""
    batch = a_batch(project, range(1))
    name = f"{batch.samples[0].sample_id}.txt"
    files = {f"a/{name}": yolo(box("car", 4, 4)), f"b/{name}": yolo(box("truck", 4, 4)), f"{'ab' * 10}.txt": ""}
    returned = Return(project, "today", zipped(tmp_path / "x.zip", files), "acme")
    with pytest.raises(
        LabelsInvalid, match="nothing in it can be used: 1 x image that is not in the batch, 1 x image th"
    ):
        take_in(returned)
    assert returned.problems.counts == {UNKNOWN_IMAGE: 1, TWICE: 1}
    assert labels_of(project, batch) == {}
    with pytest.raises(ObjectMissing):
        take_in(Return(project, "tomorrow", returned.source, "acme"))
    with pytest.raises(SettingsError, match="--annotator"):
        take_in(Return(project, "today", returned.source, " "))


def test_ten_thousand_wrong_lines_are_counted_told_in_part_and_soon(project, tmp_path):
    """The report holds the first thousand, says how many there are of each kind, and what is right is taken."""
    batch = a_batch(project, range(2))
    one, two = batch.samples
    wrong = "".join(f"{n} 0.5 0.5 0.1 0.1\n" for n in range(2, 9_002))
    files = {f"labels/{one.sample_id}.txt": wrong} | texts((two, box("car", 4, 4)))
    rows = ",\n".join(f'{{"image_id": {n}, "category_id": 1, "bbox": [1, 1, 2, 2]}}' for n in range(1000))
    files["labels/x.json"] = f'{{"images": [], "categories": [], "annotations": [\n{rows}\n]}}'
    began = datetime.now(timezone.utc)
    taken, returned = given_back(project, zipped(tmp_path / "x.zip", files))
    report = write_report(returned.source, returned.problems)
    assert (datetime.now(timezone.utc) - began).total_seconds() < 5
    assert (taken.images, returned.problems.counts) == (1, {UNKNOWN_CLASS: 9000, ORPHAN: 1000})
    lines = report.read_text().splitlines()
    assert len(lines) == MAX_REPORT_LINES + 1
    assert "and 9000 more; in all 10000" in lines[-1]
    with (tmp_path / "x.zip.problems.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == MAX_REPORT_LINES
    assert {row["file"] for row in rows} == {f"labels/{one.sample_id}.txt"}
    assert [row["line"] for row in rows[:2]] == ["1", "2"]
    returned.problems.counts.clear()
    assert write_report(returned.source, returned.problems) is None
    assert sorted(p.name for p in tmp_path.glob("x.zip*")) == ["x.zip"]


def test_names_in_a_report_are_no_formulas(project, tmp_path):
    """A spreadsheet that opens the report runs nothing that a return was named."""
    batch = a_batch(project, range(1))
    files = {"=HYPERLINK(1).docx": "", "@x.bin": ""} | texts((batch.samples[0], box("car", 4, 4)))
    _, returned = given_back(project, zipped(tmp_path / "x.zip", files))
    write_report(returned.source, returned.problems)
    with (tmp_path / "x.zip.problems.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["'=HYPERLINK(1).docx", "'@x.bin"]


def test_finished_labels_come_back_as_they_went_out(project, tmp_path):
    """Exported in all formats, corrected in one of them by somebody else, taken in: only what changed is new."""
    batch = a_batch(project, range(2))
    one, two = batch.samples
    Central(project).store_labels(batch, [label(one, box("car", 4, 4)), label(two, status="skipped", reason="fog")])
    done = export_labels(project, "today", tmp_path / "out.zip", ("coco", "labelstudio"))
    assert (done.images, done.boxes, done.left_out) == (2, 1, ())
    shutil.unpack_archive(tmp_path / "out.zip", tmp_path / "in")
    (tmp_path / "in/labelstudio.json").unlink()
    path = tmp_path / "in/annotations/instances_default.json"
    path.write_text(path.read_text().replace('"bbox": [4.0', '"bbox": [5.0'))
    taken, _ = given_back(project, tmp_path / "in", annotator="kim")
    found = labels_of(project, batch)
    assert (taken.images, taken.skipped, taken.revision) == (2, 1, 2)
    assert found[one.sample_id].boxes[0].xyxy == (5, 4, 25, 24)
    assert found[one.sample_id].annotator == "kim"
    assert found[one.sample_id].labelled_at > label(one).labelled_at  # not when the label that it began with was made
    assert found[two.sample_id].reason == "fog"


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.integers(0, 3), st.integers(0, 3), max_size=4), min_size=1, max_size=4))
def test_any_sequence_of_returns_ends_with_the_last_word_of_each_image(tmp_path_factory, returns):
    """Against the obvious reference, a dictionary: images times what was said of them, in any parts and order."""
    folder = tmp_path_factory.mktemp("project")
    project = a_project(folder)
    batch = a_batch(project, range(4))
    known: dict[int, int] = {}
    for n, said in enumerate(returns):
        files = texts(*((batch.samples[i], box("car", 1 + 3 * place, 1)) for i, place in said.items()))
        path = zipped(folder / f"{n}.zip", files | {"classes.txt": "car\ntruck\n"}, LONG_AGO + timedelta(days=n))
        if not said:
            with pytest.raises(LabelsInvalid, match="holds no labels"):
                given_back(project, path)
            continue
        taken, _ = given_back(project, path)
        assert taken.new == sum(known.get(i) != place for i, place in said.items())
        known |= said
    found = {key: x.boxes[0].xyxy[0] for key, x in labels_of(project, batch).items()}
    assert found == {batch.samples[i].sample_id: 1 + 3 * place for i, place in known.items()}


def test_what_people_saw_is_remembered_from_the_first_export(project, tmp_path):
    """Other thresholds later change neither the zip nor the count of corrections; the folder of files is the same."""
    sample = a_sample(0, detections=(seen("car", 0.9), seen("car", 0.3, (40, 20, 60, 40))))
    batch = a_batch(project, [0], samples=(sample,))
    first = export_batch(project, "today", tmp_path / "a.zip", ("coco",), {"car": 0.5})
    second = export_batch(project, "today", tmp_path / "b.zip", ("coco",), {"car": 0.1})
    assert (first.boxes, second.boxes) == (1, 1)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert [len(x.boxes) for x in FilesLabelling(tmp_path / "labelling").seeds(batch).values()] == [1]
