"""The review dataset, its evaluations and its saved views, in a real FiftyOne against its own matching."""

from __future__ import annotations

from dataclasses import replace
from datetime import timezone

import numpy as np
import pytest

from tasks.adapters import review
from tasks.core.entities import Label, Rule
from tasks.core.errors import NotEnoughData, RecordInvalid
from tasks.core.matching import match
from tests.adapters.review_yard import CLASSES, THRESHOLDS, yard

# --- the dataset -----------------------------------------------------------------------------------------------------


def contents(name):
    """What the dataset holds, without FiftyOne's own ids and times of samples."""
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    dataset.reload()
    own = {"_id", "_rand", "_dataset_id", "created_at", "last_modified_at"}
    samples = [sample.to_dict() for sample in dataset.sort_by("sample_id")]
    return [{field: value for field, value in sample.items() if field not in own} for sample in samples]


@pytest.mark.slow
def test_syncing_is_idempotent_and_rebuilds_a_lost_database(tmp_path, database):
    """The same items again change nothing; after a loss they bring back the same content and evaluation."""
    import fiftyone as fo

    items, labelled, results = yard(tmp_path, 30)
    matches = match(results)

    def build():
        counts = review.sync_dataset("idempotent", items, CLASSES)
        review.write_evaluation("idempotent", "newest", labelled, matches, CLASSES, THRESHOLDS)
        return counts

    assert build() == review.SyncCounts(added=30)
    before = contents("idempotent")
    assert review.sync_dataset("idempotent", iter(items), CLASSES) == review.SyncCounts(unchanged=30)
    assert contents("idempotent") == before
    fo.delete_dataset("idempotent")
    assert build() == review.SyncCounts(added=30)
    assert contents("idempotent") == before
    sample = fo.load_dataset("idempotent").match(fo.ViewField("sample_id") == items[1].sample.sample_id).first()
    assert sample.filepath == str(items[1].image_path)
    assert (sample.strategy, sample.matched, sample.camera) == ("random", ["random", "car low"], "gate-1")
    assert (sample.split, sample.batch, sample.model_version) == ("train", "batch-0", "0123456789abcdef")
    assert sample.captured_at.replace(tzinfo=timezone.utc) == items[1].sample.captured_at
    assert len(sample.predictions.detections) == len(items[1].predictions) - 1  # without the one below the floor
    box = items[1].label.boxes[0].xyxy
    assert sample.ground_truth.detections[0].bounding_box == pytest.approx(
        [box[0] / 400, box[1] / 400, (box[2] - box[0]) / 400, (box[3] - box[1]) / 400]
    )


@pytest.mark.slow
def test_only_what_changed_is_rewritten_and_reviewers_fields_stay(tmp_path, database):
    """A sample whose label came is updated; a reviewer's field, and samples that were not given, stay."""
    import fiftyone as fo

    items, _, _ = yard(tmp_path, 12)
    review.sync_dataset("changes", items[:10], CLASSES)
    dataset = fo.load_dataset("changes")
    dataset.set_values("human", ["looks odd"] * 10)
    labelled = Label(sample_id=items[4].sample.sample_id, annotator="ben", labelled_at=items[4].sample.captured_at)
    missing = replace(items[11], image_path=tmp_path / "gone.jpg")
    counts = review.sync_dataset(
        "changes", [*items[1:4], replace(items[4], label=labelled), items[10], missing], CLASSES
    )
    assert counts == review.SyncCounts(added=1, updated=1, unchanged=3, skipped=1)
    dataset.reload()
    sample = dataset.match(fo.ViewField("sample_id") == items[4].sample.sample_id).first()
    assert (sample.label_status, sample.annotator, sample.human) == ("done", "ben", "looks odd")
    assert sample.ground_truth.detections == []  # reviewed and found empty is a label
    assert len(dataset) == 11
    assert review.remove_samples("changes", [items[0].sample.sample_id, "0" * 20]) == 1
    assert len(dataset) == 10


@pytest.mark.slow
def test_two_samples_in_one_file_are_refused(tmp_path, database):
    """Two samples that name one image file are an error with both ids, for FiftyOne would show one of them twice."""
    items, _, _ = yard(tmp_path, 2)
    with pytest.raises(RecordInvalid, match=rf"{items[0].sample.sample_id} and {items[1].sample.sample_id}.*0\.jpg"):
        review.sync_dataset("twice", [items[0], replace(items[1], image_path=items[0].image_path)], CLASSES)


# --- evaluations and views -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_evaluation_equals_fiftyones_own(tmp_path, database):
    """Every box's outcome, the counts, the metrics and the patches equal those of `evaluate_detections`."""
    import fiftyone as fo

    items, labelled, results = yard(tmp_path, 40)
    review.sync_dataset("equal", items, CLASSES)
    assert (
        review.write_evaluation("equal", "ours", labelled, match(results), CLASSES, THRESHOLDS) == len(labelled) == 32
    )
    dataset = fo.load_dataset("equal")
    view = dataset.match(fo.ViewField("label_status") == "done")
    native = view.evaluate_detections("predictions", "ground_truth", eval_key="native", classes=list(CLASSES), iou=0.5)
    for field in ("ground_truth", "predictions"):
        for suffix in ("", "_id"):
            mine, theirs = view.values([f"{field}.detections.ours{suffix}", f"{field}.detections.native{suffix}"])
            assert mine == theirs
        mine, theirs = view.values([f"{field}.detections.ours_iou", f"{field}.detections.native_iou"], unwind=True)
        assert [iou is None for iou in mine] == [iou is None for iou in theirs]
        both = [(a, b) for a, b in zip(mine, theirs) if a is not None]
        assert len(both) > 20
        assert [a for a, _ in both] == pytest.approx([b for _, b in both], abs=1e-4)
    for count in ("tp", "fp", "fn"):
        assert view.values(f"ours_{count}") == view.values(f"native_{count}")
    run = dataset.load_evaluation_results("ours")
    assert run.metrics() == pytest.approx(native.metrics())
    assert run.report() == native.report()
    patches = dataset.to_evaluation_patches("ours").count_values("type")
    assert patches == dataset.to_evaluation_patches("native").count_values("type")
    assert min(patches.values()) > 5  # there are hits, misses and false alarms to compare


@pytest.mark.slow
def test_saved_views_hold_what_their_names_say(tmp_path, database):
    """The views' counts equal the matching's: misses in the rules' bands, blind ones, false alarms, to review."""
    items, labelled, results = yard(tmp_path, 40, seed=1)
    matches = match(results)
    review.sync_dataset("views", items, CLASSES)
    review.write_evaluation("views", "newest", labelled, matches, CLASSES, THRESHOLDS)
    none = {"images": 0, "images_with_miss": 0, "new_images": 0, "new_images_with_miss": 0}
    rules = [
        Rule(class_name="car", low=0.1, high=0.54, **none),  # reaches above its threshold, where nothing is missed
        Rule(class_name="bus", low=0.05, high=0.3, **none),
    ]
    for _ in range(2):  # saving again replaces
        views = review.save_views(
            "views", eval_key="newest", thresholds=THRESHOLDS, rules=rules, newest_batch="batch-3"
        )
    truths = matches.truths
    in_band = ((truths.class_id == 0) & (truths.confidence >= 0.1) & (truths.confidence < 0.5)) | (
        (truths.class_id == 2) & (truths.confidence >= 0.05) & (truths.confidence < 0.3)
    )
    found = matches.detections
    threshold = np.array([THRESHOLDS[name] for name in CLASSES])
    blind = truths.detection < 0
    assert {view.slug: view.count for view in views} == {
        "to-review": 8,
        "newest-batch": 10,
        "misses-in-the-suggested-band": len(np.unique(truths.image[in_band])),
        "misses-in-the-suggested-band-patches": in_band.sum(),
        "blind-misses": len(np.unique(truths.image[blind])),
        "blind-misses-patches": blind.sum(),
        "false-alarms": (~found.is_true & (found.confidence >= threshold[found.class_id])).sum(),
    }
    assert in_band.sum() > 5
    assert blind.sum() > 0

    import fiftyone as fo

    dataset = fo.load_dataset("views")
    missed = blind | (truths.confidence < threshold[truths.class_id])
    by_image = np.bincount(truths.image[missed], minlength=len(labelled))
    assert dict(zip(*dataset.values(["sample_id", "misses"]))) == {
        item.sample.sample_id: dict(zip(labelled, by_image.tolist())).get(item.sample.sample_id) for item in items
    }
    kinds = dataset.count_values("ground_truth.detections.newest_blind")
    assert {k: v for k, v in kinds.items() if k} == dict(zip(*np.unique(truths.blind[blind], return_counts=True)))
    assert dataset.load_saved_view("Blind misses, patches").count() == blind.sum()

    again = review.save_views("views", eval_key="newest", thresholds=THRESHOLDS, confidence_floor=0.05)
    reach = (truths.confidence >= 0.05) & (truths.confidence < threshold[truths.class_id])
    counts = {view.slug: view.count for view in again}
    assert counts["misses-within-reach"] == len(np.unique(truths.image[reach]))
    assert counts["misses-within-reach-patches"] == reach.sum() > 0
    assert not dataset.has_saved_view("Misses in the suggested band")


@pytest.mark.slow
def test_an_evaluation_of_other_images_is_refused(tmp_path, database):
    """An evaluation none of whose images is in the dataset is an error that names both, not an empty run."""
    review.sync_dataset("strangers", yard(tmp_path, 3)[0], CLASSES)
    with pytest.raises(NotEnoughData, match=r"'newest'.*'strangers'"):
        review.write_evaluation("strangers", "newest", ["f" * 20], match([]), CLASSES, THRESHOLDS)
