"""Matching against a slow reference, and the properties that everything after it relies on."""

import sys
import time
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.entities import Detections
from tasks.core.errors import DataError, LabelsInvalid
from tasks.core.matching import (
    MATCHING_FLOOR,
    MAX_DETECTIONS,
    GroundTruths,
    ImageResult,
    Matches,
    match,
    match_image,
)

NAMES = ("car", "bus", "person")


def image(detections=(), truths=(), crowds=()):
    """An ImageResult from `(box, class, confidence)` detections and `(box, class)` ground truths and crowd regions."""
    labelled = [*truths, *crowds]
    return ImageResult(
        Detections(
            np.array([box for box, _, _ in detections], np.float32).reshape(-1, 4),
            np.array([confidence for _, _, confidence in detections], np.float32),
            np.array([class_id for _, class_id, _ in detections], np.int64),
            NAMES,
        ),
        GroundTruths(
            np.array([box for box, _ in labelled], np.float64).reshape(-1, 4),
            np.array([class_id for _, class_id in labelled], np.int64),
            np.array([False] * len(truths) + [True] * len(crowds), np.bool_),
        ),
    )


# --- the slow reference, straight from the definition -----------------------------------------------------------------


def area(box):
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def intersection(a, b):
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a, b):
    both = intersection(a, b)
    return both / (area(a) + area(b) - both) if both else 0.0


def slow_match(detections, truths, crowds=()):
    """`(s, blind kind, best IoU)` for each ground truth, `(confidence, true, ignored)` for each detection in turn."""
    detections = [(box, class_id, float(np.float32(s))) for box, class_id, s in detections]
    detections = sorted((d for d in detections if d[2] >= 0.005), key=lambda d: (-d[2], d[0], d[1]))[:300]
    taker = {}
    outcome = []
    for box, class_id, confidence in detections:
        free = [
            (-iou(box, truth), truth, row)
            for row, (truth, truth_class) in enumerate(truths)
            if row not in taker and truth_class == class_id and iou(box, truth) >= 0.5
        ]
        if free:
            taker[min(free)[2]] = confidence
        in_crowd = any(
            crowd_class == class_id and area(box) and intersection(box, crowd) / area(box) >= 0.5
            for crowd, crowd_class in crowds
        )
        outcome.append((confidence, bool(free), not free and in_crowd))
    found = []
    for row, (truth, truth_class) in enumerate(truths):
        same = [iou(box, truth) for box, class_id, _ in detections if class_id == truth_class]
        other = [iou(box, truth) for box, class_id, _ in detections if class_id != truth_class]
        if row in taker:
            kind = ""
        elif any(0.1 <= value < 0.5 for value in same):
            kind = "localisation"
        elif any(value >= 0.5 for value in other):
            kind = "classification"
        else:
            kind = "unseen"
        found.append((taker.get(row), kind, max(same, default=0.0)))
    return found, outcome


def outcome_of(matches):
    """A Matches of one image in the form of `slow_match`."""
    truths, detections = matches.truths, matches.detections
    found = [
        (None if np.isnan(s) else s, str(kind), best)
        for s, kind, best in zip(truths.confidence.tolist(), truths.blind, truths.best_iou.tolist())
    ]
    columns = (detections.confidence, detections.is_true, detections.is_ignored)
    return found, list(zip(*(column.tolist() for column in columns)))


# Few places, sizes, classes and confidences, so that overlaps and ties of all kinds are frequent.
boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h), *(st.sampled_from([0, 2, 4, 6]),) * 2, *(st.sampled_from([4, 6, 8]),) * 2
)
classes = st.integers(0, 2)
confidences = st.sampled_from([0.0, 0.004, 0.006, 0.05, 0.2, 0.2, 0.5, 0.5, 0.9, 1.0])
detection_lists = st.lists(st.tuples(boxes, classes, confidences), max_size=8)
truth_lists = st.lists(st.tuples(boxes, classes), max_size=5)
crowd_lists = st.lists(st.tuples(boxes, classes), max_size=2)
images = st.tuples(detection_lists, truth_lists, crowd_lists)


@given(images)
@settings(deadline=None)
def test_matching_an_image_is_what_the_page_says(content):
    """Confidences, blind kinds, IoUs, true and ignored detections equal those of the slow reference."""
    matches = match([image(*content)])
    found, outcome = outcome_of(matches)
    slow_found, slow_outcome = slow_match(*content)
    assert [f[:2] for f in found] == [f[:2] for f in slow_found]
    assert [f[2] for f in found] == pytest.approx([f[2] for f in slow_found])
    assert outcome == slow_outcome


@given(st.lists(images, max_size=5))
@settings(deadline=None)
def test_images_do_not_see_each_other(contents):
    """Matching many images at once gives what each of them gives alone."""
    together = match([image(*content) for content in contents])
    assert together.images == len(contents)
    for number, content in enumerate(contents):
        alone = match([image(*content)])
        of_image = Matches(
            1,
            together.truths[together.truths.image == number],
            together.detections[together.detections.image == number],
        )
        assert outcome_of(of_image) == outcome_of(alone)


@given(images)
@settings(deadline=None)
def test_the_two_sides_name_each_other(content):
    """A true detection and the ground truth that it took point to each other's rows, and share confidence and class."""
    matches = match([image(*content)])
    truths, detections = matches.truths, matches.detections
    taken = np.flatnonzero(truths.detection >= 0)
    takers = truths.detection[taken]
    assert (detections.truth[takers] == taken).all()
    assert sorted(takers) == np.flatnonzero(detections.is_true).tolist()
    assert (detections.confidence[takers] == truths.confidence[taken]).all()
    assert (detections.class_id[takers] == truths.class_id[taken]).all()


@given(images, st.sampled_from([0.006, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0]))
@settings(deadline=None)
def test_cutting_after_matching_is_matching_after_cutting(content, threshold):
    """At every threshold, the ground truths that one match at the floor finds are those of a match of the survivors."""
    detections, truths, crowds = content
    whole = match([image(*content)])
    cut = match([image([d for d in detections if float(np.float32(d[2])) >= threshold], truths, crowds)])
    found = whole.truths.confidence >= threshold
    assert found.tolist() == (~np.isnan(cut.truths.confidence)).tolist()
    kept = whole.detections[whole.detections.confidence >= threshold]
    assert kept.is_true.tolist() == cut.detections.is_true.tolist()
    assert kept.is_ignored.tolist() == cut.detections.is_ignored.tolist()


@given(images, st.floats(0.005, 1))
@settings(deadline=None)
def test_hits_and_misses_are_all_ground_truths(content, threshold):
    """At every threshold each ground truth is a hit or a miss, and each hit has exactly one true detection."""
    matches = match([image(*content)])
    hits = (matches.truths.confidence >= threshold).sum()
    misses = ((matches.truths.confidence < threshold) | np.isnan(matches.truths.confidence)).sum()
    assert hits + misses == len(content[1])
    assert hits == (matches.detections.is_true & (matches.detections.confidence >= threshold)).sum()


@given(st.lists(images, min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_input_changes_nothing(contents, random):
    """Shuffled images, detections and ground truths give the same matches, box for box."""

    def by_content(contents, names):
        matches = match([image(*content) for content in contents])
        found, outcome = matches.truths, matches.detections
        columns = (found.class_id, found.confidence, found.best_iou, found.blind)
        lines = [(names[i], tuple(box), *rest) for i, box, *rest in zip(found.image, found.xyxy.tolist(), *columns)]
        columns = (outcome.class_id, outcome.confidence, outcome.is_true, outcome.is_ignored)
        more = [(names[i], tuple(box), *rest) for i, box, *rest in zip(outcome.image, outcome.xyxy.tolist(), *columns)]
        return sorted(map(repr, lines)), sorted(map(repr, more))

    order = list(range(len(contents)))
    random.shuffle(order)
    shuffled = [tuple(random.sample(part, len(part)) for part in contents[i]) for i in order]
    assert by_content(contents, range(len(contents))) == by_content(shuffled, order)


fine_confidences = st.sampled_from(
    [0.004, 0.005, 0.2, np.nextafter(0.2, 1), np.nextafter(0.2, 0), 0.2 + 1e-9, 0.9, 1.0]
)
far_boxes = st.tuples(*(st.sampled_from([-1e6, -3.0, -0.0, 0.0, 0.1, np.nextafter(0.1, 1), 5.0]),) * 4)


@given(st.lists(st.lists(st.tuples(far_boxes, classes, fine_confidences), max_size=12), max_size=4))
@settings(deadline=None)
def test_detections_are_ranked_as_by_sorting_them_one_by_one(contents):
    """By image, confidence, coordinates and class, to the last digit of a double, wherever the boxes lie."""
    columns = [
        (
            np.array([box for box, _, _ in content], np.float64).reshape(-1, 4),
            np.array([confidence for _, _, confidence in content], np.float64),
            np.array([class_id for _, class_id, _ in content], np.int64),
        )
        for content in contents
    ]
    matches = match([ImageResult(Detections(*column, NAMES), GroundTruths.empty()) for column in columns])
    ranked = matches.detections
    found = list(zip(*(c.tolist() for c in (ranked.image, ranked.confidence, ranked.xyxy, ranked.class_id))))
    slowly = [
        (number, confidence, list(box), class_id)
        for number, content in enumerate(contents)
        for box, class_id, confidence in sorted(
            content, key=lambda d: (-d[2], d[0][0], d[0][1], d[0][2], d[0][3], d[1])
        )
        if confidence >= MATCHING_FLOOR
    ]
    assert found == slowly


# --- cases worked out by hand ----------------------------------------------------------------------------------------


def test_the_most_confident_detection_takes_the_object_and_its_duplicate_is_false():
    """Two detections of one object: the higher confidence is true even if the other one fits better."""
    object_ = (0, 0, 10, 10)
    matches = match([image([(object_, 0, 0.3), ((0, 0, 10, 8), 0, 0.6)], [(object_, 0)])])
    assert matches.truths.confidence[0] == pytest.approx(0.6)
    assert matches.detections.is_true.tolist() == [True, False]
    assert matches.truths.best_iou[0] == 1.0


def test_a_detection_whose_best_object_is_taken_takes_the_next_one():
    """With two overlapping objects the second detection goes to the free one, if IoU allows it."""
    left, right = (0, 0, 10, 10), (2, 0, 12, 10)
    matches = match([image([(left, 0, 0.9), (left, 0, 0.8)], [(left, 0), (right, 0)])])
    assert matches.truths.confidence.tolist() == pytest.approx([0.9, 0.8])


def test_blind_kinds_are_tested_in_their_order():
    """Badly placed goes before misnamed, misnamed before unseen."""
    truth = (0, 0, 10, 10)
    near, exact_other = ((0, 0, 10, 3), 0, 0.4), (truth, 1, 0.9)
    assert match([image([near, exact_other], [(truth, 0)])]).truths.blind.tolist() == ["localisation"]
    assert match([image([exact_other], [(truth, 0)])]).truths.blind.tolist() == ["classification"]
    assert match([image([((50, 50, 60, 60), 0, 0.9)], [(truth, 0)])]).truths.blind.tolist() == ["unseen"]


def test_a_crowd_region_is_neither_hit_nor_missed_and_forgives_detections_inside_it():
    """A crowd has no row; a detection half inside it is ignored, unless it took a ground truth."""
    crowd, truth = (0, 0, 100, 100), (10, 10, 20, 20)
    inside, across, outside = (50, 50, 60, 60), (95, 0, 105, 10), (96, 0, 106, 10)
    matches = match(
        [image([(truth, 0, 0.9), (inside, 0, 0.8), (across, 0, 0.7), (outside, 0, 0.6), (inside, 1, 0.5)],
               [(truth, 0)], [(crowd, 0)])]
    )  # fmt: skip
    assert len(matches.truths) == 1
    assert matches.detections.is_true.tolist() == [True, False, False, False, False]
    assert matches.detections.is_ignored.tolist() == [False, True, True, False, False]


def test_only_the_most_confident_300_detections_of_an_image_take_part():
    """The 301st detection is left out, although it would have found the object."""
    elsewhere = [((100, 100, 110, 110), 0, 0.5)] * MAX_DETECTIONS
    truth = (0, 0, 10, 10)
    matches = match([image([*elsewhere, (truth, 0, 0.4)], [(truth, 0)])])
    assert len(matches.detections) == MAX_DETECTIONS
    assert np.isnan(matches.truths.confidence).all()


def test_an_iou_of_exactly_a_half_is_a_match():
    """IoU >= 0.5, not above."""
    matches = match([image([((0, 0, 10, 5), 0, 0.9)], [((0, 0, 10, 10), 0)])])
    assert matches.detections.is_true.tolist() == [True]


def test_a_detection_without_area_is_legal_and_false():
    """It overlaps nothing, not even a crowd region around it."""
    matches = match([image([((5, 5, 5, 5), 0, 0.9)], [((0, 0, 10, 10), 0)], [((0, 0, 10, 10), 0)])])
    assert matches.detections.is_true.tolist() == [False]
    assert matches.detections.is_ignored.tolist() == [False]
    assert matches.truths.best_iou.tolist() == [0.0]


def test_nothing_is_matched_to_nothing():
    """No image, and images without boxes, give empty columns and keep their number."""
    assert match([]).images == 0
    empty = match([image(), image()])
    assert (empty.images, len(empty.truths), len(empty.detections)) == (2, 0, 0)
    reviewed = match_image(Detections.empty(NAMES), GroundTruths.empty())
    assert (reviewed.images, len(reviewed.truths)) == (1, 0)


@given(st.lists(images, max_size=3))
@settings(deadline=None, max_examples=20)
def test_columns_survive_the_way_into_a_table_and_back(contents):
    """`columns` gives one-dimensional arrays of equal length, and `from_columns` all of the matches."""
    matches = match([image(*content) for content in contents])
    tables = matches.columns()
    for rows, table in ((len(matches.truths), tables["truths"]), (len(matches.detections), tables["detections"])):
        assert {column.shape for column in table.values()} == {(rows,)}
    again = Matches.from_columns(matches.images, tables)
    for name, table in again.columns().items():
        for column, values in table.items():
            np.testing.assert_array_equal(values, tables[name][column])


@given(st.lists(images, max_size=7), st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_images_matched_a_few_at_a_time_are_matched_as_all_at_once(contents, at_once):
    """How many images are looked at together changes no column: rows that point at others point at the same ones."""
    results = [image(*content) for content in contents]
    together = match(results)
    with mock.patch.object(sys.modules["tasks.core.matching.match"], "IMAGES_AT_ONCE", at_once):
        apart = match(results)
    assert apart.images == together.images
    for name, table in together.columns().items():
        for column, values in table.items():
            np.testing.assert_array_equal(apart.columns()[name][column], values)
            assert apart.columns()[name][column].dtype == values.dtype


@pytest.mark.parametrize("confidence", [float("nan"), float("inf"), 1.5, -0.1])
def test_a_confidence_that_is_none_is_refused_with_its_row(confidence):
    """A model's nan must not be taken for a blind miss."""
    with pytest.raises(DataError, match=r"detection 1: confidence .*check the model's output"):
        image([((0, 0, 1, 1), 0, 0.5), ((0, 0, 1, 1), 0, confidence)])


def test_a_detection_at_no_place_is_refused():
    """Coordinates must be finite."""
    with pytest.raises(DataError, match="detection 0"):
        image([((0, 0, float("nan"), 1), 0, 0.5)])


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 5, 1, 9), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1)])
def test_a_ground_truth_without_area_is_refused_with_its_row(box):
    """Such a box could never be found and would count as a miss for ever."""
    with pytest.raises(LabelsInvalid, match=r"ground truth 1: box .* correct or remove"):
        image([], [((0, 0, 9, 9), 0), (box, 0)])


def test_a_ground_truth_of_no_class_is_refused():
    """A negative class id is what a failed look-up leaves behind."""
    with pytest.raises(LabelsInvalid, match="class -1 is not in the project's class list"):
        image([], [((0, 0, 9, 9), -1)])


def test_columns_of_unequal_length_are_refused():
    """One row of each column for every box."""
    with pytest.raises(LabelsInvalid, match="one row of each"):
        GroundTruths(np.ones((2, 4)), np.zeros(1, np.int64), np.zeros(1, np.bool_))


# --- speed -----------------------------------------------------------------------------------------------------------


def crowded_images(count, random):
    """Images of 100 detections and about five objects of five classes."""

    def some(n):
        corner = random.uniform(0, 500, (n, 2))
        return np.concatenate([corner, corner + random.uniform(20, 140, (n, 2))], axis=1)

    for _ in range(count):
        objects = int(random.poisson(5))
        truths, classes = some(objects), random.integers(0, 5, objects)
        xyxy = np.concatenate([truths + random.normal(0, 5, truths.shape), some(max(0, 100 - objects))])
        class_id = np.concatenate([classes, random.integers(0, 5, len(xyxy) - objects)])
        confidence = np.concatenate([random.beta(2, 2, objects), random.beta(0.4, 4, len(xyxy) - objects)])
        yield ImageResult(
            Detections(xyxy.astype(np.float32), confidence.clip(0.005, 1).astype(np.float32), class_id, NAMES),
            GroundTruths(truths, classes, np.zeros(objects, np.bool_)),
        )


@pytest.mark.slow
def test_five_thousand_images_are_matched_in_three_seconds():
    """5,000 images x 100 predictions take under 3 s of processor time."""
    results = list(crowded_images(5000, np.random.default_rng(0)))
    start = time.process_time()
    matches = match(results)
    assert time.process_time() - start < 3
    assert matches.images == 5000
    assert matches.detections.is_true.mean() > 0.03
