"""Thresholds, bands and blind misses against slow references, and what is stated for too little data."""

import time
from datetime import datetime, timezone
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.bands import (
    BAND_EDGES,
    evaluate,
    has_miss,
    misses_by_image,
    out_of_reach,
    threshold_column,
    tile_bands,
)
from tasks.core.bootstrap import cluster_bootstrap
from tasks.core.entities import Detections
from tasks.core.errors import DataError
from tasks.core.matching import GroundTruths, ImageResult, match
from tasks.core.thresholds import FBeta, best_threshold, operating_thresholds

NAMES = ("car", "bus")
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def image(objects=(), alarms=(), ignored=()):
    """An image of `(class, s)` objects, s None where blind, and `(class, confidence)` false and ignored detections.

    Every box has a place of its own, so that who is matched to whom is known without matching.
    """
    truths, detections = [], []
    for row, (class_id, s) in enumerate(objects):
        truths.append((row * 20, class_id, False))
        if s is not None:
            detections.append((row * 20, class_id, s))
    detections += [(1000 + row * 20, class_id, s) for row, (class_id, s) in enumerate(alarms)]
    detections += [(5000 + row * 20, class_id, s) for row, (class_id, s) in enumerate(ignored)]
    truths += [(5000 + row * 20, class_id, True) for row, (class_id, _) in enumerate(ignored)]

    def boxes(items):
        return np.array([(x, 0, x + 10, 10) for x, *_ in items], np.float32).reshape(-1, 4)

    return ImageResult(
        Detections(
            boxes(detections),
            np.array([s for _, _, s in detections], np.float32),
            np.array([class_id for _, class_id, _ in detections], np.int64),
            NAMES,
        ),
        GroundTruths(
            boxes(truths),
            np.array([class_id for _, class_id, _ in truths], np.int64),
            np.array([crowd for *_, crowd in truths], np.bool_),
        ),
    )


def evaluated(contents, clusters=None, **options):
    """The evaluation of images as `image` takes them, each its own cluster unless said."""
    matches = match([image(*content) for content in contents])
    clusters = clusters or [f"cluster-{number}" for number in range(len(contents))]
    return evaluate(matches, clusters, NAMES, created_at=NOW, **{"replicates": 200, **options})


levels = st.sampled_from([0.006, 0.01, 0.02, 0.04, 0.05, 0.15, 0.2, 0.25, 0.3, 0.45, 0.5, 0.8])
levels = levels.map(lambda s: float(np.float32(s)))
detected = st.tuples(st.integers(0, 1), levels)
objects = st.tuples(st.integers(0, 1), st.none() | levels)
contents = st.tuples(st.lists(objects, max_size=5), st.lists(detected, max_size=4), st.lists(detected, max_size=1))
content_lists = st.lists(contents, max_size=6)


# --- the slow references ---------------------------------------------------------------------------------------------


def scores(contents, class_id):
    """`(s of each object, confidence of each false detection)` of a class."""
    found = [s for objects, _, _ in contents for c, s in objects if c == class_id]
    alarms = [s for _, alarms, _ in contents for c, s in alarms if c == class_id]
    return found, alarms


def f_beta_at(t, found, alarms, beta):
    hits = sum(s is not None and s >= t for s in found)
    false = sum(s >= t for s in alarms)
    precision, recall = hits / (hits + false), hits / len(found)
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall) if hits else 0.0


@given(content_lists, st.sampled_from([0.5, 1.0, 2.0]))
@settings(deadline=None)
def test_the_operating_threshold_is_the_best_of_all_achieved_confidences(contents, beta):
    """F-beta of precision and recall is highest at the threshold, and lower at every achieved confidence above it."""
    thresholds = operating_thresholds(match([image(*content) for content in contents]), 2, FBeta(beta))
    for class_id in (0, 1):
        found, alarms = scores(contents, class_id)
        if all(s is None for s in found):
            assert thresholds[class_id] == 0.5
            continue
        achieved = {t: f_beta_at(t, found, alarms, beta) for t in {*found, *alarms} - {None}}
        best = max(achieved.values())
        assert thresholds[class_id] in achieved
        assert achieved[thresholds[class_id]] == pytest.approx(best)
        assert all(value < best + 1e-12 for value in achieved.values())
        assert all(value < best - 1e-12 for t, value in achieved.items() if t > thresholds[class_id])


@given(content_lists, st.none() | st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1)))
@settings(deadline=None)
def test_counts_are_those_of_the_page(contents, thresholds):
    """Misses, blind ones, bands, reach, precision and recall equal a count by hand; bands + blind = misses."""
    evaluation = evaluated(contents, thresholds=thresholds, replicates=20)
    for class_id, name in enumerate(NAMES):
        c = evaluation.classes[name]
        if thresholds is not None:
            assert c.threshold == thresholds.get(name, 0.5)
            assert c.threshold_interval == (c.threshold, c.threshold)
        found, alarms = scores(contents, class_id)
        missed = [s for s in found if s is None or s < c.threshold]
        assert (c.ground_truths, c.misses, c.blind) == (len(found), len(missed), found.count(None))
        assert c.blind == c.blind_localisation + c.blind_classification + c.blind_unseen == c.blind_unseen
        assert c.out_of_reach == sum(s is None or s < 0.05 for s in missed)
        for band in c.bands:
            assert band.misses == sum(s is not None and band.low <= s < band.high for s in missed)
            assert band.recall_lost == (band.misses / len(found) if found else 0)
        assert sum(band.misses for band in c.bands) + c.blind == c.misses
        hits = len(found) - len(missed)
        kept = hits + sum(s >= c.threshold for s in alarms)
        assert c.recall == (hits / len(found) if found else None)
        assert c.precision == (hits / kept if kept else None)


@given(content_lists)
@settings(deadline=None)
def test_misses_of_an_image_count_every_class(contents):
    """`misses_by_image` and `has_miss` count objects at the thresholds of their own classes."""
    thresholds = {"car": 0.3, "bus": 0.2}
    matches = match([image(*content) for content in contents])
    column = threshold_column(thresholds, NAMES)
    by_hand = [sum(s is None or s < column[c] for c, s in objects) for objects, _, _ in contents]
    assert misses_by_image(matches, column).tolist() == by_hand
    assert has_miss(matches, column).tolist() == [count > 0 for count in by_hand]


@given(st.floats(0, 1))
@settings(deadline=None)
def test_bands_tile_from_the_floor_to_the_threshold(threshold):
    """They meet end to end, have a width, use the page's edges, and end at the threshold."""
    bands = tile_bands(threshold)
    assert bool(bands) == (threshold > 0.005)
    if bands:
        assert bands[0][0] == 0.005
        assert bands[-1][1] == threshold
        assert all(low < high for low, high in bands)
        assert all(one[1] == other[0] for one, other in pairwise(bands))
        assert {edge for band in bands for edge in band} == {e for e in BAND_EDGES if e < threshold} | {threshold}


@given(st.lists(contents, min_size=1, max_size=6), st.integers(1, 30), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_images_and_clusters_changes_nothing(contents, copies, random):
    """Shuffled images give the same evaluation to the last digit, intervals included, by clusters or by images."""
    contents = contents * copies
    clusters = [f"camera {number // 2}" for number in range(len(contents))]
    order = random.sample(range(len(contents)), len(contents))
    first = evaluated(contents, clusters)
    second = evaluated([contents[i] for i in order], [clusters[i] for i in order])
    assert first == second


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_of_equally_good_thresholds_the_highest_is_taken():
    """One hit at 0.8 of four (F1 0.4) equals two hits among six at 0.3: fewer false alarms win."""
    content = ([(0, 0.8), (0, 0.3), (0, None), (0, None)], [(0, 0.4)] * 4, [])
    assert best_threshold(match([image(*content)])) == pytest.approx(0.8)


def test_detections_in_crowds_are_no_false_alarms():
    """They lower no precision and move no threshold."""
    objects = [(0, 0.6), (0, 0.4)]
    evaluation = evaluated([(objects, [], [(0, 0.5), (0, 0.9)])])
    assert evaluation.classes["car"].threshold == pytest.approx(0.4)
    assert evaluation.precision == 1.0


def test_pooled_recall_and_precision_count_objects_of_all_classes():
    """2 of 3 objects found by 3 detections, one of them false."""
    contents = [([(0, 0.6), (1, 0.6)], [(1, 0.9)], []), ([(0, 0.4)], [], [])]
    evaluation = evaluated(contents, thresholds={"car": 0.5, "bus": 0.5})
    assert evaluation.recall == pytest.approx(2 / 3)
    assert evaluation.precision == pytest.approx(2 / 3)


def test_below_the_device_floor_a_miss_is_out_of_reach():
    """Out of reach are blind misses and those whose detection the device drops; a hit below the floor is none."""
    matches = match([image([(0, None), (0, 0.02), (0, 0.2), (0, 0.9), (1, 0.02)])])
    thresholds = threshold_column({"car": 0.5, "bus": 0.01}, NAMES)
    assert out_of_reach(matches, thresholds, 0.05).tolist() == [True, True, False, False, False]


def test_a_class_that_the_model_never_detects_is_blind_at_a_threshold_of_one_half():
    """It is named in the warnings, and its interval says that nothing is known of the threshold."""
    evaluation = evaluated([([(0, 0.7), (1, None)], [], [])] * 25)
    bus = evaluation.classes["bus"]
    assert (bus.threshold, bus.recall, bus.precision, bus.misses, bus.blind) == (0.5, 0.0, None, 25, 25)
    assert bus.threshold_interval == (0.0, 1.0)
    assert "no true detection, so the threshold is 0.5: bus" in evaluation.warnings


def test_a_class_without_ground_truths_has_no_recall():
    """Nothing is missed, nothing is known: recall is None, its bands are empty and as wide as can be."""
    evaluation = evaluated([([(0, 0.7)], [(1, 0.6)], [])] * 25)
    bus = evaluation.classes["bus"]
    assert (bus.ground_truths, bus.recall, bus.recall_interval, bus.precision) == (0, None, None, 0.0)
    assert {band.interval for band in bus.bands} == {(0.0, 1.0)}
    assert "no ground truth, so no recall: bus" in evaluation.warnings


def test_one_image_has_counts_but_no_intervals():
    """A bootstrap of a single image would pretend to certainty."""
    evaluation = evaluated([([(0, 0.7), (0, None)], [], [])])
    car = evaluation.classes["car"]
    assert (car.recall, car.recall_interval, car.threshold_interval) == (0.5, (0.0, 1.0), (0.0, 1.0))
    assert "1 images: the intervals say nothing" in evaluation.warnings


def test_no_image_gives_an_empty_evaluation_that_says_so():
    """No recall, no precision, no misses, and a warning."""
    evaluation = evaluated([])
    assert (evaluation.images, evaluation.recall, evaluation.recall_interval, evaluation.precision) == (
        0,
        None,
        None,
        None,
    )
    assert all((c.misses, c.recall, c.threshold) == (0, None, 0.5) for c in evaluation.classes.values())
    assert "0 images: the intervals say nothing" in evaluation.warnings


def test_few_clusters_fall_back_to_images_and_say_so():
    """19 clusters are drawn as images with a warning; 20 are drawn as clusters."""
    contents = [([(0, 0.7)], [], [])] * 40
    few = evaluated(contents, [f"c{i % 19}" for i in range(40)])
    assert (few.bootstrap_unit, few.clusters) == ("image", 19)
    assert any("19 clusters" in warning for warning in few.warnings)
    enough = evaluated(contents, [f"c{i % 20}" for i in range(40)])
    assert (enough.bootstrap_unit, enough.clusters, enough.warnings) == (
        "cluster",
        20,
        ("no ground truth, so no recall: bus",),
    )


def test_clusters_that_differ_widen_the_interval():
    """The same boxes, all found or all missed within a cluster, say less than when they are mixed."""
    found, missed = [(0, 0.9)] * 10, [(0, None)] * 10
    mixed = evaluated([(found[:5] + missed[:5], [], [])] * 40).classes["car"].recall_interval
    apart = evaluated([(found, [], []), (missed, [], [])] * 20).classes["car"].recall_interval
    assert mixed == (0.5, 0.5)
    assert apart[1] - apart[0] > 0.2


def test_what_does_not_fit_together_is_refused():
    """A cluster for each image, a name for each class."""
    matches = match([image([(1, 0.5)])])
    with pytest.raises(DataError, match="2 clusters for 1 images"):
        evaluate(matches, ["a", "b"], NAMES, created_at=NOW)
    with pytest.raises(DataError, match="class id 1 is beyond the 1 names"):
        evaluate(matches, ["a"], NAMES[:1], created_at=NOW)


def test_an_evaluation_is_named_by_its_content():
    """Another date leaves the id alone, another figure changes it."""
    content = [([(0, 0.7)], [], [])]
    matches = match([image(*content[0])])
    later = evaluate(matches, ["a"], NAMES, created_at=datetime(2027, 1, 1, tzinfo=timezone.utc), replicates=200)
    assert evaluated(content, ["a"]).evaluation == later.evaluation
    assert evaluated(content, ["a"], coco={"AP50": 0.5}).evaluation != later.evaluation


# --- intervals -------------------------------------------------------------------------------------------------------


def test_recall_intervals_hold_the_truth_as_often_as_they_say():
    """Of 200 samples of 40 clusters, 90 to 99 of 100 intervals hold the recall of the world that they come from."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        contents = []
        for _ in range(40):
            chance = random.beta(4, 2)  # of a cluster; 2/3 on average
            objects = [(0, 0.9 if random.random() < chance else None) for _ in range(8)]
            contents.append((objects, [], []))
        low, high = evaluated(contents, thresholds={}).classes["car"].recall_interval
        held += low <= 2 / 3 <= high
    assert 0.90 <= held / 200 <= 0.99


def test_threshold_intervals_are_those_of_refitting_on_every_replicate():
    """Fitted by the fast way, the interval equals the percentiles of thresholds fitted on redrawn images."""
    random = np.random.default_rng(3)
    contents = [
        (
            [(0, float(np.float32(s))) for s in random.beta(3, 2, 2)],
            [(0, float(np.float32(s))) for s in random.beta(2, 3, 2)],
            [],
        )
        for _ in range(25)
    ]
    contents.sort(key=lambda content: content[0])
    clusters = [str(number) for number in range(25)]
    matches = match([image(*content) for content in contents])
    refitted = []
    for draw in np.random.default_rng(1).integers(0, 25, (1000, 25)):
        refitted.append(best_threshold(match([image(*contents[i]) for i in draw])))
    fast = evaluate(matches, clusters, NAMES, created_at=NOW).classes["car"].threshold_interval
    assert fast == pytest.approx(tuple(np.percentile(refitted, (2.5, 97.5))), abs=0.03)


def test_draws_are_whole_units_with_replacement():
    """Each replicate draws as many units as there are, and units vary in how often they are drawn."""
    bootstrap = cluster_bootstrap([f"c{i // 2}" for i in range(60)], replicates=500)
    assert (bootstrap.unit, bootstrap.units) == ("cluster", 30)
    assert (bootstrap.draws.sum(axis=1) == 30).all()
    assert bootstrap.draws.var() == pytest.approx(29 / 30, abs=0.05)
    assert bootstrap.replicates(bootstrap.sums(np.ones(60)))[:, 0].tolist() == [60.0] * 500


@pytest.mark.slow
def test_matching_and_bands_of_five_thousand_images_take_three_seconds():
    """5,000 images x 100 predictions, bootstrap of 1,000 replicates included, take under 3 s of processor time."""
    random = np.random.default_rng(0)
    results = []
    for _ in range(5000):
        hits = [(int(c), s) for c, s in zip(random.integers(0, 2, 5), random.beta(2, 2, 5))]
        alarms = [(int(c), s) for c, s in zip(random.integers(0, 2, 95), random.beta(0.4, 4, 95).clip(0.005))]
        results.append(image(hits, alarms))
    clusters = [f"c{number // 10}" for number in range(5000)]
    start = time.process_time()
    evaluate(match(results), clusters, NAMES, created_at=NOW)
    assert time.process_time() - start < 3
