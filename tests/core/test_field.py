"""Recall and precision in the field: weights, intervals, who answered, what is refused and what is told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.bootstrap import cluster_bootstrap
from tasks.core.entities import Detection, Label, LabelBox, Sample, content_id, detections_from_records
from tasks.core.errors import DataError, NotEnoughData
from tasks.core.field import Asked, by_version, each_once, effective_images, field_recall, figures, labelled_probability
from tasks.core.field.hajek import counts_of, weights_of
from tasks.core.matching import GroundTruths, ImageResult, match
from tasks.core.settings import SamplingSettings

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
NAMES = ("car", "truck")
MODEL = "0123456789abcdef"
EXPLORE = {"name": "explore", "type": "random", "traffic_percentage": 0.1}
CLOSE = {"name": "close", "type": "close_to_threshold", "threshold": 0.4, "epsilon": 0.2, "probability": 1.0}


def settings_of(*strategies, **others) -> SamplingSettings:
    rules = strategies or (EXPLORE, CLOSE)
    return SamplingSettings.model_validate(
        {"sampling_strategies": rules, "thresholds": {"car": 0.5, "truck": 0.4}, **others}
    )


HERE, THERE, ELSEWHERE = (10.0, 10.0, 30.0, 30.0), (40.0, 10.0, 60.0, 30.0), (70.0, 10.0, 90.0, 30.0)


def seen(name: str, confidence: float, xyxy=HERE) -> Detection:
    return Detection(class_name=name, confidence=confidence, xyxy=xyxy)


def box(name: str, xyxy=HERE) -> LabelBox:
    return LabelBox(class_name=name, xyxy=xyxy)


def asked(number: int, detections=(), boxes=(), *, status="done", batch="b", **fields) -> Asked:
    """A sample and its label; boxes None: nobody has looked at it yet."""
    digest = content_id(str(number)) * 4
    sample = Sample.model_validate(
        {
            "sample_id": digest[:20], "sha256": digest, "device": "pi", "camera": "gate",
            "captured_at": NOON + timedelta(hours=number), "width": 100, "height": 100, "detections": detections,
            "strategy": "close", "matched": ("close",), "probability": 0.5, "random_slice": False,
            "model_version": MODEL, "settings_version": "all/1", **fields,
        }
    )  # fmt: skip
    if boxes is None:
        return Asked(sample, None, batch)
    label = Label(sample_id=sample.sample_id, status=status, boxes=tuple(boxes), annotator="ann", labelled_at=NOON)
    return Asked(sample, label, batch)


def truths_of(label: Label, class_names) -> GroundTruths:
    """As central lays them out: boxes of other classes are left out."""
    rows = [
        (one.xyxy, class_names.index(one.class_name), one.crowd) for one in label.boxes if one.class_name in class_names
    ]
    xyxy = np.array([row[0] for row in rows], np.float64).reshape(-1, 4)
    return GroundTruths(
        xyxy, np.array([row[1] for row in rows], np.int64), np.array([row[2] for row in rows], np.bool_)
    )


def found(*items: Asked, settings=None, class_names=NAMES, **others):
    return field_recall(items, settings or settings_of(), class_names, truths_of=truths_of, **others)


HIT = {"detections": (seen("car", 0.9),), "boxes": (box("car"),)}
MISS = {"detections": (seen("car", 0.3),), "boxes": (box("car"),)}
FALSE_ALARM = {"detections": (seen("car", 0.8),), "boxes": ()}


# --- the estimates ---------------------------------------------------------------------------------------------------


def test_an_image_stands_for_as_many_frames_as_it_was_unlikely():
    """By hand: a hit of weight 10, a miss and a false alarm of weight 2: recall 10/12, precision 10/12, 14 frames."""
    items = [
        asked(0, **HIT, probability=0.1, random_slice=True),
        asked(1, **MISS, probability=0.5),
        asked(2, **FALSE_ALARM, probability=0.5),
    ]
    answer = found(*items)
    assert answer.refused == ""
    assert answer.frames == pytest.approx(14)
    assert answer.figures.recall.value == pytest.approx(10 / 12)
    assert answer.figures.precision.value == pytest.approx(10 / 12)
    assert answer.figures.effective_images == pytest.approx(14**2 / (100 + 4 + 4))
    assert answer.figures.largest_weight == pytest.approx(10 / 14)
    assert (answer.figures.objects, answer.figures.misses, answer.figures.detections) == (2, 1, 2)
    assert answer.classes["car"].recall == answer.figures.recall
    assert (answer.classes["truck"].recall, answer.classes["truck"].images) == (None, 0)


def test_p_is_the_product_of_kept_delivered_and_labelled():
    """Kept with 0.5, delivered with 0.5, one of two labelled: each stands for eight frames."""
    items = [
        asked(0, **HIT, probability_delivered=0.5),
        asked(1, boxes=None, probability_delivered=0.5),
    ]
    assert found(*items).frames == pytest.approx(8)


def test_thresholds_are_held_against_confidences_as_they_were_recorded():
    """A threshold fitted in float32 and a confidence recorded with six digits meet: at the threshold is found."""
    sharp = float(np.float32(0.4100001))
    items = [asked(0, (seen("car", round(sharp, 6)),), (box("car"),)), asked(1, **MISS)]
    assert found(*items, settings=settings_of(thresholds={"car": sharp})).figures.misses == 1


@st.composite
def worlds(draw):
    """Images with detections and boxes at three places, and any probabilities."""
    confidence = st.sampled_from([0.05, 0.3, 0.399, 0.4, 0.5, 0.9])
    images = draw(st.integers(1, 8))
    places, names = st.sampled_from([HERE, THERE, ELSEWHERE]), st.sampled_from(NAMES)
    return [
        asked(
            number,
            tuple(seen(*one) for one in draw(st.lists(st.tuples(names, confidence, places), max_size=4))),
            tuple(box(*one) for one in draw(st.sets(st.tuples(names, places), max_size=4))),
            probability=draw(st.sampled_from([0.01, 0.1, 0.5, 1.0])),
            random_slice=draw(st.booleans()),
            camera=draw(st.sampled_from(["gate", "yard"])),
        )
        for number in range(images)
    ]


def slow_sums(items, threshold) -> tuple[float, float, float]:
    """Weighted objects, hits and detections, image by image, in plain loops."""
    objects = hits = reported = 0.0
    for item in items:
        result = ImageResult(detections_from_records(item.sample.detections, NAMES), truths_of(item.label, NAMES))
        matches = match([result])
        weight = 1 / item.sample.probability
        for class_id, s in zip(matches.truths.class_id, matches.truths.confidence):
            objects += weight
            hits += weight * bool(s >= threshold[NAMES[class_id]] - 1e-7)
        for one in item.sample.detections:
            reported += weight * (one.confidence >= threshold[one.class_name])
    return objects, hits, reported


@settings(max_examples=60)
@given(worlds())
def test_the_estimates_are_those_of_plain_loops(items):
    """Pooled, by class and by camera the sums agree with a loop over images, and every interval holds its figure."""
    answer = found(*items, replicates=50)
    objects, hits, reported = slow_sums(items, {"car": 0.5, "truck": 0.4})
    pooled = answer.figures
    assert (pooled.recall is None) == (objects == 0)
    assert (pooled.precision is None) == (reported == 0)
    if objects:
        assert pooled.recall.value == pytest.approx(hits / objects)
    if reported:
        assert pooled.precision.value == pytest.approx(hits / reported)
    assert 1 <= pooled.effective_images <= pooled.images + 1e-9
    for one in (pooled, *answer.classes.values(), *answer.cameras.values()):
        for estimate in (one.recall, one.precision):
            assert estimate is None or 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert sum(one.objects for one in answer.classes.values()) == pooled.objects
    assert sum(one.misses for one in answer.cameras.values()) == pooled.misses
    assert sum(one.images for one in answer.cameras.values()) == pooled.images == len(items)


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_samples_changes_nothing(items, random):
    """Samples come from many batches, in any order."""
    shuffled = list(items)
    random.shuffle(shuffled)
    assert found(*shuffled, replicates=20) == found(*items, replicates=20)


def test_intervals_hold_the_truth_in_about_95_of_100_worlds():
    """300 worlds of 150 clusters, some of which are hard: the interval of recall holds the true one in 91 to 98%."""
    random, held, worlds = np.random.default_rng(3), 0, 300
    for world in range(worlds):
        hard = random.random(1500) < 0.3
        objects = random.poisson(2, 1500).astype(float)
        hits = random.binomial(objects.astype(int), np.where(hard, 0.5, 0.95)).astype(float)
        probability = np.where(hard, 0.5, 0.05)
        kept = random.random(1500) < probability
        hours = [f"gate@{n // 10}" for n in np.flatnonzero(kept)]
        bootstrap = cluster_bootstrap(hours, replicates=200, seed=world)
        recall = figures(objects[kept], hits[kept], hits[kept], 1 / probability[kept], bootstrap).recall
        held += recall.low <= hits.sum() / objects.sum() <= recall.high
    assert 0.91 <= held / worlds <= 0.99


# --- stated answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "low"),
    [(1, 0.025), (2, 0.025**0.5), (30, 0.025 ** (1 / 30))],
)
def test_without_a_miss_the_interval_is_the_exact_one(images, low):
    """No replicate can show a miss that no image has; the lower end is Clopper and Pearson's for so many images."""
    recall = found(*[asked(n, **HIT) for n in range(images)]).figures.recall
    assert (recall.value, recall.high) == (1, 1)
    assert recall.low == pytest.approx(low, abs=1e-6)


def test_of_one_image_with_a_hit_and_a_miss_nothing_is_known():
    """One image with recall 1/2 says nothing of other images: 0 to 1, and the warning says so."""
    answer = found(asked(0, (seen("car", 0.9),), (box("car"), box("car", THERE))))
    recall = answer.figures.recall
    assert (recall.value, recall.low, recall.high) == (0.5, 0, 1)
    assert any(line.startswith("few images: 1 with") for line in answer.warnings)


def test_effective_images_are_all_of_equal_weights_and_fewer_of_unequal_ones():
    """Kish: n for equal weights, near 1 where one image has them all, 0 for none."""
    assert effective_images(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_images(np.array([1000.0, 1, 1])) == pytest.approx(1, abs=0.01)
    assert effective_images(np.zeros(0)) == 0


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.1, float("nan")])
def test_a_probability_that_is_none_is_an_error(bad):
    """A weight cannot be made of it; the message names the image."""
    with pytest.raises(DataError, match="image 1: inclusion probability"):
        weights_of(np.array([0.5, bad]))


NAN = Detection.model_construct(class_name="car", confidence=float("nan"), xyxy=HERE)


def broken(item: Asked, **fields) -> Asked:
    """Past the checks of the record, as from a program that makes samples itself."""
    return Asked(item.sample.model_copy(update=fields), item.label, item.batch_id)


@pytest.mark.parametrize(
    "bad",
    [
        broken(asked(9, **HIT), probability=0.0),
        broken(asked(9, **HIT), probability=float("nan")),
        broken(asked(9, **HIT), detections=(NAN,)),
        asked(9, (seen("car", 0.9, (float("nan"), 1, 5, 5)),), (box("car"),)),
        asked(9, (), (box("car", (5.0, 5.0, 5.0, 9.0)),)),
    ],
    ids=["p is 0", "p is nan", "confidence is nan", "box is nan", "label without area"],
)  # fmt: skip
def test_an_image_that_cannot_be_used_is_left_out_and_stood_for(bad):
    """The others of its batch and stratum carry its frames, and a warning names it."""
    good = [asked(n, **HIT) for n in range(3)]
    answer = found(*good, bad)
    assert (answer.labelled, answer.unusable) == (3, 1)
    assert answer.frames == pytest.approx(4 / 0.5)
    assert any("1 image cannot be used" in line and bad.sample.sample_id in line for line in answer.warnings)
    assert "can be used" in found(bad).refused


def test_boxes_of_unknown_classes_are_left_out_and_told():
    """A class that the project dropped is neither object nor miss."""
    answer = found(asked(0, **HIT), asked(1, (), (box("bus"), box("bus", THERE))))
    assert answer.figures.objects == 1
    assert "boxes of classes that the project does not have are left out: 2 'bus'" in answer.warnings


def test_no_object_and_no_detection_give_no_figure():
    """Empty images are labels too: recall and precision are None, the frames are known."""
    answer = found(*[asked(n) for n in range(3)])
    assert answer.refused == ""
    assert (answer.figures.recall, answer.figures.precision) == (None, None)
    assert answer.frames == 6


# --- who answered ----------------------------------------------------------------------------------------------------


def test_labelled_images_stand_for_those_of_their_batch_and_stratum():
    """2 of 4 random and 1 of 3 chosen in batch a; all of batch b."""
    batches = ["a"] * 7 + ["b"] * 2
    random_slice = np.array([1, 1, 1, 1, 0, 0, 0, 1, 0], bool)
    labelled = np.array([1, 1, 0, 0, 1, 0, 0, 1, 1], bool)
    answer = labelled_probability(batches, random_slice, labelled)
    assert answer[labelled] == pytest.approx([1 / 2, 1 / 2, 1 / 3, 1, 1])
    assert np.isnan(answer[~labelled]).all()


def test_a_batch_without_an_answer_in_a_stratum_is_stood_for_by_the_others():
    """Batch a has no labelled random image of 2, batch b both of 2: each of b's counts twice."""
    answer = labelled_probability(["a", "a", "b", "b"], np.ones(4, bool), np.array([0, 0, 1, 1], bool))
    assert answer[2:] == pytest.approx([0.5, 0.5])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_labelled_images_stand_for_all_that_were_asked_about(rows):
    """In each stratum the sum of 1 / p_labelled is the number of its images; without an answer it is an error."""
    batches = [row[0] for row in rows]
    random_slice, labelled = (np.array([row[k] for row in rows], bool) for k in (1, 2))
    strata = [random_slice, ~random_slice]
    if any(s.any() and not labelled[s].any() for s in strata):
        with pytest.raises(NotEnoughData, match="is labelled"):
            labelled_probability(batches, random_slice, labelled)
        return
    answer = labelled_probability(batches, random_slice, labelled)
    for stratum in strata:
        assert np.nansum(1 / answer[stratum]) == pytest.approx(stratum.sum())


def test_a_batch_that_nobody_has_begun_is_no_evidence():
    """Its frames are not stood for: it is another time, about which nobody has said anything yet."""
    answer = found(asked(0, **HIT), asked(1, boxes=None, batch="open"), asked(2, boxes=None, batch="open"))
    assert (answer.asked, answer.waiting, answer.frames) == (1, 0, 2)


def test_skipped_and_waiting_images_are_told():
    """Both are stood for by the labelled ones of their batch, which is an assumption."""
    answer = found(asked(0, **HIT), asked(1, status="skipped"), asked(2, boxes=None))
    assert (answer.asked, answer.labelled, answer.skipped, answer.waiting) == (3, 1, 1, 1)
    assert answer.frames == pytest.approx(6)
    for start in ("1 image of 3 was skipped by people", "1 image of 3 is not labelled yet"):
        assert any(line.startswith(start) for line in answer.warnings)


def test_a_sample_in_two_batches_is_one_frame():
    """The newest label counts; an unlabelled copy does not hide a labelled one."""
    first, again = asked(0, **HIT), asked(0, **MISS, batch="again")
    newer = again.label.model_copy(update={"labelled_at": NOON + timedelta(hours=1)})
    again = Asked(again.sample, newer, "again")
    assert each_once([again, first]) == each_once([first, again]) == [again]
    waiting = asked(0, boxes=None, batch="a")
    assert each_once([waiting, first]) == [first]
    assert found(first, again).frames == 2


# --- refused ---------------------------------------------------------------------------------------------------------

BUDGET = {"name": "m", "type": "expected_misses", "weights": {"car": [0.1] * 6}, "images_a_day": 10}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (settings_of(CLOSE), "draw at random from all frames neither"),
        (settings_of({**EXPLORE, "limits": [{"type": "daily", "value": 9}]}, CLOSE), "neither"),
        (settings_of({**EXPLORE, "traffic_percentage": 0}, CLOSE), "neither"),
        (settings_of({**BUDGET, "exploration": 0, "allow_no_exploration": True}), "neither"),
        (settings_of(EXPLORE, persist_predictions=False), "persist_predictions: false"),
        (settings_of(EXPLORE), ""),
        (settings_of(BUDGET), ""),
        (settings_of({**BUDGET, "exploration": 0, "allow_no_exploration": True}, EXPLORE), ""),
    ],
)
def test_field_recall_is_refused_where_some_frames_could_not_be_kept(settings, reason):
    """Without a draw on every frame, or without what the model saw, there is a reason in the place of figures."""
    answer = found(asked(0, **HIT), settings=settings)
    assert (answer.figures is None) == bool(reason)
    assert bool(answer.refused) == bool(reason)
    assert reason in answer.refused


def test_a_stub_missed_nothing_that_it_could_have_found():
    """Before there is a model, there is nothing to be said of it."""
    assert "no model" in found(asked(0, model_version="stub", boxes=(box("car"),))).refused


def test_nothing_labelled_is_refused_with_what_is_missing():
    """No answer at all, only skips, or a whole stratum without an answer."""
    assert found(asked(0, boxes=None)).refused == "no image is labelled yet"
    assert found(asked(0, status="skipped")).refused == "no image is labelled yet, and 1 are skipped"
    chosen_only = found(asked(0, **HIT), asked(1, boxes=None, random_slice=True))
    assert "none of the 1 images drawn at random is labelled" in chosen_only.refused


def test_versions_are_never_mixed():
    """Samples of two models, or of two settings, in one estimate are an error; they are grouped the newest first."""
    items = [asked(0, **HIT), asked(1, **HIT, settings_version="all/2"), asked(2, **HIT, model_version="f" * 16)]
    with pytest.raises(DataError, match="3 model and settings versions"):
        found(*items)
    assert list(by_version(items)) == [("f" * 16, "all/1"), (MODEL, "all/2"), (MODEL, "all/1")]


# --- told ------------------------------------------------------------------------------------------------------------


def told(*items, **others) -> str:
    return "\n".join(found(*items, **others).warnings)


def test_a_reader_is_told_what_the_figure_rests_on():
    """Few images, one that dominates, clocks, seeds, a full outbox, duplicates: each in a sentence, none unasked."""
    many = [asked(n, **(HIT if n % 3 else MISS)) for n in range(40)]
    assert told(*many) == ""
    heavy = told(*many[1:], asked(0, **HIT, probability=0.01))
    assert f"one image, {many[0].sample.sample_id}, stands for" in heavy
    assert "few images" in heavy
    assert "whose clock was not right" in told(*many, asked(90, clock_suspect=True))
    assert "outbox that was full" in told(*many, asked(90, probability_delivered=0.9))
    assert "near-duplicates" in told(*many, settings=settings_of(duplicates={"enabled": True}))
    seeded = Asked(many[0].sample, many[0].label.model_copy(update={"seeded": True}), "b")
    assert "1 image was labelled with the model's own boxes in view" in told(seeded, *many[1:])
    same_hour = [asked(n, **HIT, captured_at=NOON + timedelta(minutes=n)) for n in range(40)]
    assert "1 clusters (camera x hour) are fewer than 20" in told(*same_hour)


def test_counts_are_by_image_and_class():
    """(images, classes): objects, those found, and detections that are reported."""
    item = asked(0, (seen("car", 0.9), seen("truck", 0.3, THERE)), (box("car"), box("truck", THERE)))
    result = ImageResult(detections_from_records(item.sample.detections, NAMES), truths_of(item.label, NAMES))
    counts = counts_of(match([result, result]), np.array([0.5, 0.4]))
    assert counts.objects.tolist() == [[1, 1], [1, 1]]
    assert counts.hits.tolist() == counts.detections.tolist() == [[1, 0], [1, 0]]
