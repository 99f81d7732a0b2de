"""What is said of people's labels: agreement with gold and one another, corrections by kind, person and strategy."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial

import pytest

from flows.labels_quality import lines_of
from tasks.adapters import review
from tasks.adapters.labelling import FilesLabelling
from tasks.central import Central
from tasks.core import layout
from tasks.core.allocation.cells import NOTHING_IN_DOUBT
from tasks.core.entities import STUB, Release, Turn
from tasks.core.errors import LabellingUnavailable, ReviewUnavailable, SettingsError
from tasks.core.people.agreement import Disputed
from tasks.core.settings import SamplingSettings
from tasks.label import labelling_of, offer_batch, pull_batch
from tasks.opinions import keep_opinions, opinions_of
from tasks.people import add_gold
from tasks.quality import DISPUTED, Quality, quality, save_view
from tasks.turn import save_turn
from tests.adapters.review_yard import CLASSES, yard
from tests.conftest import edgeloop
from tests.tasks.stages import NOON, a_batch, a_project, a_sample, box, label, put_images, seen

SHOWN = box("car", 10, 10)  # what the model saw, and people begin with


@pytest.fixture
def project(tmp_path):
    return a_project(tmp_path, labelling={"folder": str(tmp_path / "labelling"), "near_duplicates": False})


def offered(project, count=12, **fields):
    """A batch that people have."""
    batch = a_batch(project, range(count), **fields)
    offer_batch.fn(project, batch.batch_id, {})
    return batch


def a_release(number, thresholds):
    return Release(
        group="all",
        number=number,
        created_at=NOON,
        model_version=STUB,
        class_names=("car", "truck"),
        settings=SamplingSettings(enabled=False),
        thresholds=thresholds,
        reason="of a test",
    )


def of(found, name):
    return next(row for row in found.annotators if row.name == name)


def test_corrections_are_told_by_kind_person_and_strategy(project):
    """Added, removed, moved and renamed boxes are those that were drawn; blank and skipped images count for none."""
    batch = offered(project, 5, unseeded=())
    one, two, three, four, five = batch.samples
    Central(project).store_labels(
        batch,
        [
            label(one, SHOWN),
            label(two, box("car", 13, 10), box("truck", 40, 0), annotator="eve"),
            label(three, box("truck", 10, 10), annotator="eve"),
            label(four, annotator="eve", lead_seconds=30.0),
            label(five, status="skipped", annotator="eve", lead_seconds=10.0),
        ],
    )
    found = quality(project, labelling_of(project), ["today"])
    eve = of(found, "eve")
    assert (eve.images, eve.skipped, eve.boxes, eve.lead_seconds) == (3, 1, 3, 20.0)
    done = eve.corrections
    assert (done.shown, done.added, done.removed, done.moved, done.renamed) == (3, 1, 1, 1, 1)
    assert of(found, "ann").corrections.total == 0
    assert (found.by_strategy["random"].images, found.by_strategy["random"].corrections.total) == (4, 4)
    assert found.pairs == ()
    assert found.disputed == ()
    assert of(found, "eve").gold is None


def test_corrections_are_told_by_the_band_of_the_image_at_the_thresholds_that_its_device_had(project):
    """A release whose threshold lies below a detection has nothing in doubt; without a release 0.5 is it."""
    for number, threshold in ((1, 0.5), (2, 0.2)):
        Central(project).bucket.create_record(layout.release("all", number), a_release(number, {"truck": threshold}))
    samples = [
        a_sample(0, settings_version="all/1"),
        a_sample(1, settings_version="all/2"),
        a_sample(2, settings_version="all/9"),
        a_sample(3, settings_version="all/1", detections=(seen("car", 0.9), seen("truck", 0.12))),
    ]
    put_images(project, samples, range(4))
    batch = offered(project, 0, samples=tuple(samples), unseeded=())
    said = [label(one, SHOWN, box("truck", 40, 0)) for one in batch.samples]
    Central(project).store_labels(batch, said)
    found = quality(project, labelling_of(project), ["today"])
    assert {name: (one.images, one.corrections.added) for name, one in found.by_band.items()} == {
        "0.1 to 0.2": (1, 1), "0.3 to 0.5": (2, 2), NOTHING_IN_DOUBT: (1, 1)
    }  # fmt: skip
    assert list(found.by_band)[-1] == NOTHING_IN_DOUBT
    assert sum(one.images for one in found.by_band.values()) == found.by_strategy["random"].images
    lines = lines_of(found)
    assert [line.split()[0] for line in lines if line.startswith(("band", "0.1", "0.3", "nothing"))] == [
        *("band", "0.1", "0.3", "nothing")
    ]


def test_images_that_people_label_unlike_one_another_are_listed_the_least_alike_first(project):
    """Mean F1 over all pairs of people: below 0.8 it is disputed; who agrees, and who labels alone, is not."""
    batch = offered(project, 4)
    one, two, three, four = batch.samples
    said = [label(two, SHOWN), label(three, SHOWN), label(four, SHOWN)]
    said += [label(two, box("car", 36, 20), annotator="eve"), label(three, SHOWN, annotator="eve")]
    said += [label(three, SHOWN, box("truck", 40, 0), annotator="kim")]
    said += [label(one, SHOWN), label(one, SHOWN, box("car", 36, 20), box("truck", 1, 20), annotator="zoe")]
    keep_opinions(Central(project), "today", said)
    found = quality(project, labelling_of(project), ["today"])
    assert [(d.sample_id, d.f1, d.annotators) for d in found.disputed] == [
        (two.sample_id, 0.0, ("ann", "eve")),
        (one.sample_id, 0.5, ("ann", "zoe")),
        (three.sample_id, pytest.approx((1 + 2 / 3 + 2 / 3) / 3), ("ann", "eve", "kim")),
    ]
    assert any(line.startswith(f"{two.sample_id}  0.00  ann, eve") for line in lines_of(found))


@pytest.mark.slow
def test_disputed_images_are_a_view_of_the_app(tmp_path, database):
    """In their order, under a link; before the App has the project's dataset it is told where that comes from."""
    import fiftyone as fo

    project = a_project(tmp_path, project="disputes")
    items, _, _ = yard(tmp_path, 4)
    found = Quality((), disputed=tuple(Disputed(items[n].sample.sample_id, 0.1 * n, ("a", "b")) for n in (3, 1)))
    with pytest.raises(ReviewUnavailable, match="no dataset 'disputes'"):
        save_view(project, found)
    review.sync_dataset("disputes", items, CLASSES)
    assert save_view(project, found) == "/datasets/disputes?view=low-agreement"
    view = fo.load_dataset("disputes").load_saved_view(DISPUTED)
    assert view.values("sample_id") == [one.sample_id for one in found.disputed]


def test_people_are_held_against_gold_and_each_other_and_who_differs_is_named(project):
    """Somebody who labels another place in every image stands out against gold and colleagues; the others do not."""
    first = offered(project, 12, batch_id="first")
    central = Central(project)
    central.store_labels(first, [label(one, SHOWN) for one in first.samples])
    add_gold(project, "first", [one.sample_id for one in first.samples], "lead")
    again = a_batch(project, range(12), batch_id="again")
    said = []
    for one in again.samples:
        said += [label(one, box("car", 11, 10), annotator="eve"), label(one, box("car", 36, 20), annotator="zoe")]
        said += [label(one, box("car", 10, 11), annotator="kim", labelled_at=NOON + timedelta(hours=1))]
    keep_opinions(central, "again", said)
    found = quality(project, labelling_of(project), ["again"])
    assert of(found, "eve").gold.f1 == 1
    assert of(found, "zoe").gold.f1 == 0
    assert of(found, "zoe").others.images == 24
    assert [(pair.first, pair.second, pair.f1) for pair in found.pairs] == [
        ("eve", "kim", 1), ("eve", "zoe", 0), ("kim", "zoe", 0)
    ]  # fmt: skip
    assert [line for line in found.warnings if line.startswith("zoe agrees with gold by 0.00 (0.00 to 0.24)")]
    assert not [line for line in found.warnings if line.startswith(("eve agrees with gold", "kim agrees with gold"))]


def test_somebody_who_changes_nothing_is_named(project):
    """Fifty boxes as the model drew them are worth a look, forty-nine are not."""
    batch = offered(project, 51)
    said = [label(one, SHOWN) for one in batch.samples]
    Central(project).store_labels(batch, said[:49])
    assert quality(project, labelling_of(project), ["today"]).warnings == ()
    Central(project).store_labels(batch, said)
    (line,) = quality(project, labelling_of(project), ["today"]).warnings
    assert line.startswith("ann left all 51 boxes as the model drew them")


def test_each_persons_word_is_kept_and_one_is_taken(project, monkeypatch):
    """Three labels of an image: all are stored, the loop takes the one that agrees best, progress counts one image."""
    batch = offered(project, 3)
    one = batch.samples[0]
    said = [
        label(one, box("car", 10, 10), annotator="ann"),
        label(one, box("car", 11, 10), annotator="eve"),
        label(one, box("truck", 40, 20), annotator="zoe", labelled_at=NOON + timedelta(minutes=1)),
    ]
    monkeypatch.setattr(FilesLabelling, "pull", lambda *_: said)
    pulled = pull_batch.fn(project, "today", 0)
    assert (pulled.status.done, pulled.progress.done, pulled.revision) == (1, 1, 1)
    assert {row.annotator for row in pulled.progress.annotators} == {"ann", "eve", "zoe"}
    stored = Central(project).labels(batch, 1)[one.sample_id]
    assert stored.annotator in ("ann", "eve")
    assert [word.annotator for word in opinions_of(Central(project), "today")] == ["ann", "eve", "zoe"]
    monkeypatch.setattr(FilesLabelling, "pull", lambda *_: said[:1])  # the place has forgotten two of them
    assert pull_batch.fn(project, "today", 1).revision == 1
    assert len(opinions_of(Central(project), "today")) == 3
    assert Central(project).bucket.latest_number(partial(layout.opinions, "today")) == 1


def test_opinions_of_two_who_write_at_once_are_all_there(project, monkeypatch):
    """Between the look and the write somebody else writes: both are in the next number."""
    batch = offered(project, 2)
    central, (one, two) = Central(project), batch.samples
    of_one = [label(one, annotator=name) for name in ("ann", "eve")]
    of_two = [label(two, annotator=name) for name in ("ann", "eve")]
    create, raced = type(central.bucket).create_lines, []

    def slower(bucket, key, records):
        if not raced:
            raced.append(key)
            keep_opinions(central, "today", of_two)
        return create(bucket, key, records)

    monkeypatch.setattr(type(central.bucket), "create_lines", slower)
    keep_opinions(central, "today", of_one)
    assert len(opinions_of(central, "today")) == 4


def test_a_place_that_does_not_answer_is_a_warning_and_an_unknown_batch_an_error(project, monkeypatch):
    """What people were shown is not known then, and agreement is; a batch that there is not is one line."""
    batch = offered(project, 2)
    Central(project).store_labels(batch, [label(one, SHOWN) for one in batch.samples])

    def away(*_):
        raise LabellingUnavailable("the server does not answer")

    monkeypatch.setattr(FilesLabelling, "seeds", away)
    found = quality(project, labelling_of(project), ["today"])
    assert found.warnings == ("batch today: what people were shown is not known: the server does not answer",)
    assert found.by_strategy == {}
    with pytest.raises(SettingsError, match="'gone': there is none of that name"):
        quality(project, labelling_of(project), ["gone"])


@pytest.mark.slow
def test_the_command_prints_tables_and_json(project, tmp_path):
    """Tables for people, an object for programs, of the batches that the loop knows."""
    batch = offered(project, 3)
    save_turn.fn(project, Turn(number=1, started_at=NOON, finished_at=NOON, batches={"today": 1}))
    (tmp_path / "project.json").write_text(project.model_dump_json())

    def run(*words):
        return edgeloop("labels", "quality", *words, "--config", "project.json", cwd=tmp_path)

    assert run().stderr == "nobody has labelled anything yet\n"
    Central(project).store_labels(batch, [label(one, SHOWN) for one in batch.samples])
    said = run()
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[0].split() == [
        *("annotator", "images", "skipped", "boxes", "shown", "added", "removed", "moved", "renamed"),
        *("s", "an", "image", "with", "gold", "with", "others"),
    ]
    assert "random" in said.stdout
    told = json.loads(run("today", "--json").stdout)
    assert told["annotators"][0]["corrections"]["shown"] == 3
    assert run("gone").returncode == 2
