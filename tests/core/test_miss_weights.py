"""Miss weights and expected misses, against slow references straight from the formulas and against the device's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.errors import DataError
from tasks.core.matching import GroundTruths, ImageResult, match
from tasks.core.sampling.misses import MissWeights, total
from tasks.core.settings import ExpectedMisses, SamplingSettings
from tasks.core.settings.sampling import MISS_BINS
from tasks.core.suggestion.rules import candidates_of_matches
from tasks.core.suggestion.weights import expected_misses, fit_weights
from tests.core.suggestion_yard import BLIND, EASY, HARD, NAMES, image, worlds

FLOOR = 0.05
thresholds = st.tuples(*[st.sampled_from([0.01, 0.05, 0.1, 0.22, 0.4, 0.5, 0.8])] * 2).map(np.array)


def slow_bin(confidence, threshold):
    """The number of the bin that a detection lies in, or none."""
    if confidence < FLOOR or confidence >= threshold:
        return None
    return max((k for k, low in enumerate(MISS_BINS) if low <= confidence), default=None)


def slow_weights(matches, images, limits):
    """Counted detection by detection."""
    true, n = np.zeros((2, len(MISS_BINS))), np.zeros((2, len(MISS_BINS)))
    rows = matches.detections
    for row in range(len(rows)):
        k = slow_bin(rows.confidence[row], limits[rows.class_id[row]])
        if k is not None and images[rows.image[row]] and not rows.is_ignored[row]:
            n[rows.class_id[row], k] += 1
            true[rows.class_id[row], k] += bool(rows.is_true[row])
    weights = np.zeros_like(n)
    for k in range(len(MISS_BINS)):
        pooled = true[:, k].sum() / n[:, k].sum() if n[:, k].sum() else 0.0
        for c in range(2):
            weights[c, k] = (true[c, k] + 10 * pooled) / (n[c, k] + 10)
    return weights


@given(worlds, thresholds, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_weights_are_the_smoothed_share_of_real_objects(contents, limits, random):
    """Of every class and bin, on any part of the images, as a count detection by detection has it; within 0..1."""
    matches = match([image(*content) for content in contents])
    some = np.array([random.random() < 0.7 for _ in contents])
    fitted = fit_weights(matches, some, limits, NAMES, FLOOR)
    assert fitted == pytest.approx(slow_weights(matches, some, limits))
    assert ((fitted >= 0) & (fitted <= 1)).all()
    everything = np.ones(len(contents), np.bool_)
    assert (
        fit_weights(matches, None, limits, NAMES, FLOOR) == fit_weights(matches, everything, limits, NAMES, FLOOR)
    ).all()


@given(worlds, thresholds)
@settings(deadline=None, max_examples=60)
def test_expected_misses_are_those_of_the_device(contents, limits):
    """The same figure for every image as the sampler on the device computes from the settings, to the last digit."""
    matches = match([image(*content) for content in contents])
    weights = fit_weights(matches, None, limits, NAMES, FLOOR)
    found = expected_misses(candidates_of_matches(matches, FLOOR), weights, limits, FLOOR)
    strategy = ExpectedMisses(
        name="misses", type="expected_misses", images_a_day=1, weights=dict(zip(NAMES, map(tuple, weights.tolist())))
    )
    obeyed = SamplingSettings(
        sampling_strategies=(strategy,), thresholds=dict(zip(NAMES, limits.tolist())), confidence_floor=FLOOR
    )
    device, rows = MissWeights(strategy, obeyed, NAMES), matches.detections
    for number in range(len(contents)):
        own = rows.image == number
        assert found[number] == total(device.of(rows.confidence[own], rows.class_id[own]))


def test_weights_by_hand():
    """4 of 6 cars at 0.22 are real, no person is seen: cars have (4 + 10 * 2/3) / 16, persons all classes' 2/3."""
    contents = [HARD] * 4 + [([], [(0, 0.22)])] * 2 + [EASY, BLIND]
    matches = match([image(*content) for content in contents])
    weights = fit_weights(matches, None, np.array([0.5, 0.5]), NAMES, FLOOR)
    assert weights[:, 3] == pytest.approx([(4 + 20 / 3) / 16, 2 / 3])
    assert not weights[:, [0, 1, 2, 4, 5]].any()  # nothing was seen there
    assert fit_weights(matches, None, np.array([0.2, 0.5]), NAMES, FLOOR)[0, 3] == 0  # found, so not missed
    found = expected_misses(candidates_of_matches(matches, FLOOR), weights, np.array([0.5, 0.5]), FLOOR)
    assert found == pytest.approx([2 / 3] * 6 + [0, 0], abs=1e-6)


def test_what_lies_in_a_crowd_is_neither_real_nor_false():
    """A detection in a crowd region says nothing of how often such detections are objects."""
    seen = image([], [(0, 0.22)])
    crowd = GroundTruths(np.array([[900.0, 0, 1200, 10]]), np.array([0]), np.array([True]))
    matches = match([ImageResult(seen.detections, crowd), image(*HARD)])
    weights = fit_weights(matches, None, np.array([0.5, 0.5]), NAMES, FLOOR)
    assert weights[0, 3] == 1


def test_a_class_list_of_another_length_is_refused():
    """Thresholds of three classes do not fit images of two."""
    matches = match([image(*HARD), image([(1, 0.3)])])
    with pytest.raises(DataError, match="3 thresholds"):
        fit_weights(matches, None, np.full(3, 0.5), NAMES, FLOOR)
    with pytest.raises(DataError, match="class ids up to 1"):
        fit_weights(matches, None, np.full(1, 0.5), NAMES[:1], FLOOR)
