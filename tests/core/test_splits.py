"""Splits are leak-free whatever comes in, and in whatever order."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.entities import DatasetEntry, Label, LabelBox, Sample
from tasks.core.splits import (
    SKIPPED,
    TOO_CLOSE,
    LabelledSample,
    assign_split,
    build_entries,
    cluster_of,
    dataset_version_of,
    fingerprint,
    is_random_edition,
    newest_edition,
    source_group_of,
    split_of_cluster,
)

START = datetime(2026, 3, 1, 8, 0, tzinfo=timezone.utc)


def sample(key: str, *, camera="gate", device="pi-1", at=START, random_slice=True, source="", tags=()) -> Sample:
    sha = hashlib.sha256(key.encode()).hexdigest()
    return Sample(
        sample_id=sha[:20], sha256=sha, device=device, camera=camera, captured_at=at, width=64, height=48,
        source=source, strategy="random", matched=("random",), tags=tags, probability=0.1,
        random_slice=random_slice, model_version="stub", settings_version="all/1",
    )  # fmt: skip


def labelled(s: Sample, *, batch="b-1", revision=1, status="done", boxes=(), at=START) -> LabelledSample:
    label = Label(sample_id=s.sample_id, status=status, boxes=boxes, annotator="ann", labelled_at=at)
    return LabelledSample(s, label, batch, revision, f"devices/{s.device}/samples/{s.sample_id}.jpg")


def splits_of(entries: list[DatasetEntry]) -> dict[str, str]:
    return {e.sample.sample_id: e.split for e in entries}


def hour_in(split: str, camera="gate", device="pi-1") -> datetime:
    """The first hour after START whose cluster of the camera falls into `split`."""
    for n in range(1000):
        at = START + timedelta(hours=n)
        if split_of_cluster(cluster_of(sample("x", camera=camera, device=device, at=at))) == split:
            return at
    raise AssertionError("the hash never draws this split")


@st.composite
def worlds(draw) -> list[LabelledSample]:
    """Labelled samples of a few cameras and imports, crowded into a few hours so that rules collide."""
    items = []
    for n in range(draw(st.integers(1, 40))):
        imported = draw(st.booleans()) and draw(st.booleans())
        group = draw(st.integers(0, 4))
        s = sample(
            f"image-{n}",
            camera="import" if imported else draw(st.sampled_from(["gate", "yard"])),
            device=draw(st.sampled_from(["pi-1", "pi-2"])),
            at=START + timedelta(minutes=draw(st.integers(0, 400))),
            random_slice=draw(st.booleans()),
            source=f"train/photo{group}_jpg.rf.{n:032x}.jpg" if imported else "",
            tags=draw(st.sampled_from([(), ("split:test",), ("split:val",), ("split:train",)])),
        )
        status = "skipped" if draw(st.integers(0, 9)) == 0 else "done"
        items.append(labelled(s, status=status, revision=draw(st.integers(1, 3))))
    return items


def test_clusters_are_camera_and_hour_or_the_photograph_itself():
    """Frames of a camera share a cluster for an hour; imported photographs stand alone, their copies with them."""
    late = sample("b", at=START + timedelta(minutes=59))
    assert cluster_of(sample("a")) == cluster_of(late) == "pi-1/gate@2026-03-01T08"
    assert cluster_of(sample("c", at=START + timedelta(minutes=60))) != cluster_of(late)
    assert cluster_of(sample("d", device="pi-2")) != cluster_of(late)
    one, two = sample("e", camera="import"), sample("f", camera="import")
    assert cluster_of(one) == f"image:{one.sample_id}" != cluster_of(two)
    copy = sample("g", camera="import", source="train/images/yard_jpg.rf.0123456789abcdef0123456789abcdef.jpg")
    assert cluster_of(copy) == "image:yard_jpg"


def test_the_hash_gives_the_stated_shares_and_never_changes():
    """40% of clusters test, 20% calibrate, 40% train; the draw is pinned, for it must outlive releases of ours."""
    drawn = [split_of_cluster(f"pi/gate@{n}") for n in range(20_000)]
    assert drawn.count("test") / 20_000 == pytest.approx(0.4, abs=0.015)
    assert drawn.count("calibration") / 20_000 == pytest.approx(0.2, abs=0.015)
    assert [split_of_cluster(c) for c in ("a", "b", "c", "d", "e")] == [
        "test", "calibration", "test", "train", "test",
    ]  # fmt: skip


def test_only_the_random_slice_tests_or_calibrates():
    """A sample that a rule chose trains, whatever its hour; an imported split stays what it was."""
    at = hour_in("test")
    assert assign_split(sample("a", at=at)) == "test"
    assert assign_split(sample("a", at=at, random_slice=False)) == "train"
    assert assign_split(sample("b", camera="import", tags=("split:val",), random_slice=False)) == "calibration"
    assert assign_split(sample("b", camera="import", tags=("split:train",))) == "train"
    assert assign_split(sample("a", at=at, tags=("split:train",))) == "test", "a device cannot choose its split"


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_no_cluster_of_the_random_slice_lies_in_two_splits(world):
    """Clusters of the random slice are split as a whole (some of their images may be excluded)."""
    entries, _ = build_entries([i for i in world if not i.sample.tags])
    seen: dict[str, set[str]] = {}
    for e in entries:
        if e.sample.random_slice and e.split != "excluded":
            seen.setdefault(e.cluster, set()).add(e.split)
    assert all(len(splits) == 1 for splits in seen.values())


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_no_training_image_lies_near_a_held_out_one_of_its_camera(world):
    """Against every pair: train and held-out images of a camera are more than ten minutes apart, and only those go."""
    entries, left_out = build_entries(world)
    live = [e for e in entries if e.sample.camera != "import"]

    def near(a, b):
        same = (a.sample.device, a.sample.camera) == (b.sample.device, b.sample.camera)
        return same and abs(a.sample.captured_at - b.sample.captured_at) <= timedelta(minutes=10)

    held_out = [e for e in live if e.split in ("test", "calibration")]
    for e in live:
        if e.split in ("train", "excluded"):
            assert any(near(e, h) for h in held_out) == (e.split == "excluded")
    assert left_out.get(TOO_CLOSE, 0) == sum(e.split == "excluded" for e in entries)
    assert left_out.get(SKIPPED, 0) == len({i.sample.sample_id for i in world}) - len(entries)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_order_changes_nothing(world, random):
    """Shuffled input gives the same entries, counts and fingerprint."""
    shuffled = list(world)
    random.shuffle(shuffled)
    assert build_entries(world) == build_entries(shuffled)
    entries = build_entries(world)[0]
    mixed = list(entries)
    random.shuffle(mixed)
    assert fingerprint(mixed) == fingerprint(entries)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(worlds(), worlds())
def test_once_test_never_training(first, second):
    """Whatever batches come after, a test image stays test with its edition, and new ones form the next edition."""
    before, _ = build_entries(first)
    renamed = [labelled(sample(f"late-{i.sample.sample_id}", **_traits(i.sample)), batch="b-2") for i in second]
    after, _ = build_entries(first + renamed, before)
    now = {e.sample.sample_id: e for e in after}
    for e in before:
        if e.split == "test":
            assert (now[e.sample.sample_id].split, now[e.sample.sample_id].edition) == ("test", e.edition)
    known = {e.sample.sample_id for e in before if e.split == "test"}
    new = {e.edition for e in after if e.split == "test" and e.sample.sample_id not in known}
    assert new <= {newest_edition(before) + 1}
    assert all((e.edition > 0) == (e.split == "test") for e in after)


def _traits(s: Sample) -> dict:
    return {
        "camera": s.camera, "device": s.device, "at": s.captured_at, "random_slice": s.random_slice,
        "source": s.source, "tags": s.tags,
    }  # fmt: skip


def test_a_test_image_whose_tag_was_taken_away_still_never_trains():
    """Once test, never training, even when the same photograph is imported again as training data."""
    as_test = labelled(sample("p", camera="import", tags=("split:test",), random_slice=False))
    before, _ = build_entries([as_test])
    again = labelled(sample("p", camera="import", tags=("split:train",), random_slice=False), batch="b-2")
    after, _ = build_entries([again], before)
    assert [(e.split, e.edition) for e in after] == [("test", 1)]


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_copies_of_a_photograph_share_the_strictest_split(world):
    """Augmented copies never straddle a split: all go where the strictest of them must be."""
    entries, _ = build_entries(world)
    order = {"excluded": 0, "train": 1, "calibration": 2, "test": 3}
    for group in {e.source_group for e in entries if e.source_group}:
        members = [e for e in entries if e.source_group == group]
        strictest = max((assign_split(e.sample) for e in members), key=order.get)
        assert {e.split for e in members} == {strictest}
        assert len({e.cluster for e in members}) == 1


def test_a_photograph_joins_its_augmented_copies():
    """The source itself, imported beside copies of it, follows them into the test split."""
    copy = labelled(sample("a", camera="import", source="bus_jpg.rf." + "a" * 32 + ".jpg", tags=("split:test",)))
    source = labelled(sample("b", camera="import", source="raw/bus.jpg", tags=("split:train",)))
    other = labelled(sample("c", camera="import", source="raw/car.jpg", tags=("split:train",)))
    entries, _ = build_entries([copy, source, other])
    got = {e.sample.source: (e.split, e.source_group) for e in entries}
    assert got["raw/bus.jpg"] == ("test", "bus_jpg")
    assert got["raw/car.jpg"] == ("train", "")


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("yard_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "yard_jpg"),
        ("train/images/yard_jpg.rf.0123456789abcdef0123456789abcdef.png", "yard_jpg"),
        ("yard.jpg", ""),
        ("clip.mp4#12", ""),
        ("x.rf.jpg", ""),
    ],
)
def test_augmented_copies_are_known_by_their_name(name, group):
    """Roboflow writes `name.rf.<hash>.jpg`; nothing else is taken for a copy."""
    assert source_group_of(name) == group


def test_the_latest_revision_wins_and_a_skip_is_counted():
    """A later revision replaces the boxes; skipped there, the image leaves the dataset."""
    car, bus = (LabelBox(class_name=n, xyxy=(1, 2, 3, 4)) for n in ("car", "bus"))
    s, t = sample("a"), sample("b")
    entries, left_out = build_entries(
        [
            labelled(s, revision=2, boxes=(bus,)),
            labelled(s, revision=1, boxes=(car,)),
            labelled(t, revision=1, boxes=(car,)),
            labelled(t, revision=2, status="skipped"),
        ]
    )
    assert [(e.sample.sample_id, e.label.boxes, e.revision) for e in entries] == [(s.sample_id, (bus,), 2)]
    assert left_out == {SKIPPED: 1}


def test_the_newest_of_two_batches_wins():
    """An image labelled in two batches keeps what was said last."""
    car = LabelBox(class_name="car", xyxy=(1, 2, 3, 4))
    old = labelled(sample("a"), batch="b-9", revision=7, at=START)
    new = labelled(sample("a"), batch="b-1", revision=1, boxes=(car,), at=START + timedelta(hours=1))
    for order in ([old, new], [new, old]):
        assert build_entries(order)[0][0].label.boxes == (car,)


def test_the_same_bytes_in_two_imported_splits_are_test():
    """A photograph that an imported dataset holds both as training and as test image tests."""
    train = labelled(sample("p", camera="import", tags=("split:train",)), batch="b-2", at=START + timedelta(1))
    test = labelled(sample("p", camera="import", tags=("split:test",)), batch="b-1")
    assert list(splits_of(build_entries([train, test])[0]).values()) == ["test"]


def test_a_legacy_edition_is_not_random():
    """An imported test split is marked, one drawn by hash is not."""
    legacy, _ = build_entries([labelled(sample("p", camera="import", tags=("split:test",)))])
    drawn, _ = build_entries([labelled(sample("q", at=hour_in("test")))])
    assert (is_random_edition(legacy), is_random_edition(drawn)) == (False, True)


def test_the_fingerprint_sees_images_labels_and_splits():
    """A moved box, another split or another image change it; who labelled it does not. The id is its start."""
    at = hour_in("test")
    car = LabelBox(class_name="car", xyxy=(1, 2, 3, 4))
    base = build_entries([labelled(sample("a", at=at), boxes=(car,))])[0]
    moved = build_entries([labelled(sample("a", at=at), boxes=(car.model_copy(update={"xyxy": (1, 2, 3, 5)}),))])[0]
    other = build_entries([labelled(sample("b", at=at), boxes=(car,))])[0]
    resplit = [base[0].model_copy(update={"split": "train", "edition": 0})]
    prints = {fingerprint(e) for e in (base, moved, other, resplit)}
    assert len(prints) == 4
    renamed = [base[0].model_copy(update={"label": base[0].label.model_copy(update={"annotator": "someone"})})]
    assert fingerprint(renamed) == fingerprint(base)
    assert dataset_version_of(fingerprint(base)) == fingerprint(base)[:16]
    expected = json.dumps([base[0].sample.sha256, "test", 1, [["car", [1.0, 2.0, 3.0, 4.0], False]]])
    assert fingerprint(base) == hashlib.sha256(expected.replace(" ", "").encode() + b"\n").hexdigest()
