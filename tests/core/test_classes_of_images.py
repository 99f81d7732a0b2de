"""Classification against a slow reference: misses, bands and blind ones of images with one label and with several."""

import time
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.bands import evaluate, has_miss, missed, misses_by_image, out_of_reach
from tasks.core.errors import DataError, LabelsInvalid
from tasks.core.matching import ClassifiedImage, Matches, match_classes

NAMES = ("cat", "dog", "owl")
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def classified(probability, labels):
    return ClassifiedImage(np.array(probability, np.float64), np.array(labels, np.int64))


def evaluated(images, *, top_only, **options):
    matches = match_classes([classified(*image) for image in images], top_only=top_only)
    clusters = [f"cluster-{number}" for number in range(len(images))]
    options = {"replicates": 50, "task": "classification", **options}
    return evaluate(matches, clusters, NAMES, created_at=NOW, **options)


# Few levels, so that ties, sums that are not 1 and probabilities below the floor are frequent.
levels = st.sampled_from([0.0, 0.004, 0.005, 0.02, 0.1, 0.25, 0.4, 0.5, 0.6, 0.9, 1.0])
probabilities = st.tuples(levels, levels, levels)
one_label = st.lists(st.tuples(probabilities, st.lists(st.integers(0, 2), max_size=1)), max_size=8)
several_labels = st.lists(st.tuples(probabilities, st.lists(st.integers(0, 2), unique=True)), max_size=8)


# --- the slow references, straight from EVALUATION ------------------------------------------------------------------


def top_of(probability):
    best = max(range(3), key=lambda c: (probability[c], -c))
    return best if probability[best] >= 0.005 else None


@given(one_label)
@settings(deadline=None)
def test_with_one_label_a_miss_is_an_image_whose_top_class_is_another(images):
    """Misses, blind ones, bands and precision of each class equal those counted image by image."""
    evaluation = evaluated(images, top_only=True)
    for class_id, name in enumerate(NAMES):
        of_class = evaluation.classes[name]
        given_to_it = [p[class_id] for p, labels in images if class_id in labels]
        lost = [p[class_id] for p, labels in images if class_id in labels and top_of(p) != class_id]
        assert of_class.ground_truths == len(given_to_it)
        assert of_class.misses == len(lost)
        assert of_class.blind == of_class.blind_unseen == sum(p < 0.005 for p in lost)
        assert of_class.out_of_reach == sum(p < 0.05 for p in lost)
        for band in of_class.bands:
            assert band.misses == sum(band.low <= p < band.high or band.high == p == 1 for p in lost)
        answers = [labels == [class_id] for p, labels in images if top_of(p) == class_id]
        assert of_class.precision == (pytest.approx(sum(answers) / len(answers)) if answers else None)
        assert of_class.threshold == 0.5


@given(several_labels, st.tuples(levels, levels, levels))
@settings(deadline=None)
def test_with_several_labels_a_miss_lies_below_its_threshold(images, thresholds):
    """At any thresholds a label is missed exactly when its class has less than that or less than the floor."""
    matches = match_classes([classified(*image) for image in images], top_only=False)
    truths = [(p[c], c) for p, labels in images for c in labels]
    expected = [p < thresholds[c] or p < 0.005 for p, c in truths]
    assert missed(matches, np.array(thresholds)).tolist() == expected
    reach = [miss and p < 0.05 for (p, _), miss in zip(truths, expected)]
    assert out_of_reach(matches, np.array(thresholds), 0.05).tolist() == reach


@given(several_labels | one_label, st.booleans())
@settings(deadline=None)
def test_misses_and_hits_are_all_ground_truths_and_bands_and_blind_are_all_misses(images, fitted):
    """Nothing is counted twice or lost, with fitted and with given thresholds, for one label and for several."""
    top_only = all(len(labels) <= 1 for _, labels in images)
    thresholds = None if fitted else {"cat": 0.25, "dog": 0.9}
    evaluation = evaluated(images, top_only=top_only, thresholds=thresholds)
    for of_class in evaluation.classes.values():
        hits = round((of_class.recall or 0) * of_class.ground_truths)
        assert of_class.misses + hits == of_class.ground_truths
        assert sum(band.misses for band in of_class.bands) + of_class.blind == of_class.misses
        assert all(low.high == high.low for low, high in zip(of_class.bands, of_class.bands[1:]))


@given(one_label, st.randoms())
@settings(deadline=None)
def test_the_order_of_images_changes_nothing(images, random):
    """The same images in another order have the same evaluation, its id included."""
    shuffled = list(images)
    random.shuffle(shuffled)
    assert evaluated(shuffled, top_only=True) == evaluated(images, top_only=True)


@given(several_labels)
@settings(deadline=None)
def test_candidates_are_all_classes_from_the_floor_up(images):
    """Detections hold every class of at least 0.005 by image and probability, true where the image has that label."""
    matches = match_classes([classified(*image) for image in images], top_only=False)
    rows = [
        (n, c, p[c], c in labels)
        for n, (p, labels) in enumerate(images)
        for c in sorted(range(3), key=lambda c: (-p[c], c))
        if p[c] >= 0.005
    ]
    found = matches.detections
    columns = (found.image, found.class_id, found.confidence, found.is_true)
    assert list(zip(*(column.tolist() for column in columns))) == rows
    taken = matches.truths.detection >= 0
    assert (found.truth[matches.truths.detection[taken]] == np.flatnonzero(taken)).all()


# --- single cases ----------------------------------------------------------------------------------------------------


def test_a_top_class_counts_whatever_its_probability():
    """Three classes at 0.4, 0.35 and 0.25: the first is found though below 0.5, the second is missed at 0.35."""
    evaluation = evaluated([((0.4, 0.35, 0.25), [0]), ((0.4, 0.35, 0.25), [1])], top_only=True)
    assert (evaluation.classes["cat"].misses, evaluation.classes["dog"].misses) == (0, 1)
    assert [band.misses for band in evaluation.classes["dog"].bands if band.low == 0.3] == [1]
    assert evaluation.classes["cat"].precision == 0.5
    assert evaluation.recall == 0.5
    assert evaluation.task == "classification"


def test_of_equally_probable_classes_the_first_is_the_top_one():
    """A tie at 0.5 is the first class's, and the other's miss has a band of its own above the threshold."""
    evaluation = evaluated([((0.5, 0.5, 0.0), [1])], top_only=True)
    bands = evaluation.classes["dog"].bands
    assert (bands[-1].low, bands[-1].high, bands[-1].misses) == (0.5, 1.0, 1)
    assert evaluated([((0.5, 0.5, 0.0), [0])], top_only=True).classes["cat"].misses == 0


def test_an_image_of_no_class_makes_its_answer_false():
    """Without a label there is no ground truth; the top class is a false alarm."""
    evaluation = evaluated([((0.9, 0.05, 0.05), []), ((0.8, 0.1, 0.1), [0])], top_only=True)
    assert evaluation.classes["cat"].precision == 0.5
    assert (evaluation.classes["cat"].ground_truths, evaluation.recall) == (1, 1.0)


def test_thresholds_of_several_labels_are_fitted():
    """With a label at 0.3 above all false alarms at 0.2, the threshold of best F1 is 0.3."""
    images = [((0.3, 0, 0), [0]), ((0.2, 0.9, 0), [1]), ((0.2, 0, 0), [])]
    evaluation = evaluated(images, top_only=False)
    assert evaluation.classes["cat"].threshold == 0.3
    assert evaluation.classes["cat"].precision == evaluation.classes["cat"].recall == 1.0


def test_misses_of_an_image_are_counted_by_image():
    """Two labels of one image that are both missed are two misses of that image."""
    matches = match_classes([classified((0.1, 0.1, 0.9), [0, 1]), classified((0.9, 0, 0), [0])], top_only=False)
    thresholds = np.full(3, 0.5)
    assert misses_by_image(matches, thresholds).tolist() == [2, 0]
    assert has_miss(matches, thresholds).tolist() == [True, False]


def test_the_outcome_survives_its_columns():
    """What is written as tables and read again says the same, that only the top class counts included."""
    matches = match_classes([classified((0.4, 0.35, 0.25), [1]), classified((0, 0, 0), [2])], top_only=True)
    again = Matches.from_columns(2, matches.columns(), top_only=True)
    assert missed(again, np.full(3, 0.5)).tolist() == missed(matches, np.full(3, 0.5)).tolist() == [True, True]


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5])
def test_what_is_no_probability_is_refused(bad):
    """NaN and numbers outside of 0 to 1 name the class and the number."""
    with pytest.raises(DataError, match=r"class 1: probability .* within 0\.\.1"):
        classified((0.1, bad, 0.2), [0])


@pytest.mark.parametrize(("labels", "says"), [([3], "class 3"), ([-1], "class -1"), ([1, 1], "given twice")])
def test_labels_that_do_not_fit_are_refused(labels, says):
    """A class that is not in the list, and one that an image has twice."""
    with pytest.raises(LabelsInvalid, match=says):
        classified((0.1, 0.2, 0.3), labels)


def test_images_that_do_not_fit_together_are_refused():
    """Several labels where only the top class counts, and lists of different lengths, are named."""
    with pytest.raises(LabelsInvalid, match="image 1: has 2 labels"):
        match_classes([classified((0.1, 0.2), [0]), classified((0.1, 0.2), [0, 1])], top_only=True)
    with pytest.raises(DataError, match=r"\[2, 3\] probabilities"):
        match_classes([classified((0.1, 0.2), [0]), classified((0.1, 0.2, 0), [0])], top_only=True)


def test_five_million_probabilities_are_matched_in_seconds():
    """5,000 images with 1,000 classes, five million probabilities, are matched in at most 2 s."""
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(1000, 0.02), 5000)
    images = [ClassifiedImage(row, np.array([label])) for row, label in zip(rows, rng.integers(0, 1000, 5000))]
    start = time.perf_counter()
    matches = match_classes(images, top_only=True)
    assert time.perf_counter() - start < 2
    assert len(matches.truths) == 5000
