"""Masks and keypoints: run lengths and similarities against pixel by pixel references, and matching by box first."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.entities import Detections
from tasks.core.errors import DataError, LabelsInvalid
from tasks.core.masks import Mask, mask_iou
from tasks.core.matching import GroundTruths, ImageResult, match, match_image
from tasks.core.matching.shapes import COCO_SIGMAS, keypoint_similarity, sigmas_of

NAMES = ("car", "bus")
SIDE = 12


def mask(rows):
    return Mask.of_pixels(np.array(rows, bool))


pixel_arrays = (
    st.integers(0, 2**16)
    .map(lambda seed: np.random.default_rng(seed))
    .map(lambda rng: rng.random((5, 7)) < rng.choice([0, 0.1, 0.5, 0.9, 1]))
)


# --- masks -----------------------------------------------------------------------------------------------------------


@given(pixel_arrays)
@settings(deadline=None)
def test_run_lengths_hold_the_pixels(pixels):
    """Pixels to runs and back; area and box are those of the pixels."""
    found = Mask.of_pixels(pixels)
    np.testing.assert_array_equal(found.pixels(), pixels)
    assert found.area == pixels.sum()
    y, x = np.nonzero(pixels)
    assert found.xyxy == ((x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else (0, 0, 0, 0))


@given(pixel_arrays, pixel_arrays)
@settings(deadline=None)
def test_the_iou_of_masks_is_that_of_their_pixels(a, b):
    """Intersection over union pixel by pixel, 0 where there is no pixel, the same in both directions."""
    union = (a | b).sum()
    expected = (a & b).sum() / union if union else 0.0
    first, second = Mask.of_pixels(a), Mask.of_pixels(b)
    assert mask_iou(first, second) == mask_iou(second, first) == pytest.approx(expected)


def test_runs_that_do_not_fill_the_image_are_refused():
    """Too few, too many and negative runs; masks of different images."""
    for counts in ([5], [5, 8], [13, -1]):
        with pytest.raises(DataError, match="image of 3 x 4"):
            Mask((3, 4), np.array(counts))
    with pytest.raises(DataError, match="not of one image"):
        mask_iou(mask([[1, 0]]), mask([[1], [0]]))


# --- keypoints -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**16), st.sampled_from([1, 4, 17]), st.floats(0, 5000))
@settings(deadline=None)
def test_keypoint_similarity_is_cocos_formula(seed, count, area):
    """The mean over labelled keypoints of exp(-d^2 / (2 area (2 sigma)^2)); None when none is labelled."""
    rng = np.random.default_rng(seed)
    truth, found = rng.uniform(0, 50, (count, 3)), rng.uniform(0, 50, (count, 3))
    truth[:, 2] = rng.integers(0, 3, count)
    sigmas = COCO_SIGMAS if count == 17 else [1 / count] * count
    parts = [
        math.exp(-((a - x) ** 2 + (b - y) ** 2) / (2 * (area + np.spacing(1)) * (2 * sigma) ** 2))
        for (x, y, v), (a, b, _), sigma in zip(truth, found, sigmas)
        if v > 0
    ]
    similarity = keypoint_similarity(truth, found, area)
    assert similarity == (pytest.approx(sum(parts) / len(parts)) if parts else None)
    np.testing.assert_array_equal(sigmas_of(count), sigmas)


def test_different_numbers_of_keypoints_cannot_be_compared():
    """The line names both numbers."""
    with pytest.raises(DataError, match="3 detected for 2"):
        keypoint_similarity(np.ones((2, 3)), np.ones((3, 3)), 10)


# --- matching --------------------------------------------------------------------------------------------------------


def box_mask(box, share):
    """The left `share` of a box, in whole pixels."""
    x1, y1, x2, y2 = (int(v) for v in box)
    pixels = np.zeros((SIDE, SIDE), bool)
    pixels[y1:y2, x1 : x1 + max(round((x2 - x1) * share), 0)] = True
    return Mask.of_pixels(pixels)


def image(detections, truths, *, crowds=(), masks=True):
    """`(box, class, confidence, share)` and `(box, class, share)`: masks cover that share of their box."""
    labelled = [*truths, *crowds]
    return ImageResult(
        Detections(
            np.array([box for box, *_ in detections], np.float32).reshape(-1, 4),
            np.array([s for _, _, s, _ in detections], np.float32),
            np.array([c for _, c, _, _ in detections], np.int64),
            NAMES,
            masks=tuple(box_mask(box, share) for box, *_, share in detections) if masks else None,
        ),
        GroundTruths(
            np.array([box for box, *_ in labelled], np.float64).reshape(-1, 4),
            np.array([c for _, c, _ in labelled], np.int64),
            np.array([False] * len(truths) + [True] * len(crowds), np.bool_),
            masks=tuple(box_mask(box, share) for box, _, share in labelled),
        ),
    )


boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h), *(st.sampled_from([0, 2, 4]),) * 2, *(st.sampled_from([4, 8]),) * 2
)
shares = st.sampled_from([0.0, 0.25, 0.5, 1.0])
found_lists = st.lists(st.tuples(boxes, st.integers(0, 1), st.sampled_from([0.004, 0.1, 0.5, 0.9]), shares), max_size=6)
truth_lists = st.lists(st.tuples(boxes, st.integers(0, 1), shares), max_size=4)
crowd_lists = st.lists(st.tuples(boxes, st.integers(0, 1), shares), max_size=1)


@given(found_lists, truth_lists, crowd_lists)
@settings(deadline=None)
def test_a_pair_of_another_shape_is_taken_apart(detections, truths, crowds):
    """By box first; then pairs with a mask IoU below 0.5 are blind and false, all others stay as they are."""
    plain = match([image(detections, truths, crowds=crowds, masks=False)])
    full = match([image(detections, truths, crowds=crowds)])
    ranked = plain.detections.row
    for n, (box, _, share) in enumerate(truths):
        taker = int(plain.truths.detection[n])
        if taker < 0:
            assert (full.truths.detection[n], full.truths.blind[n]) == (-1, plain.truths.blind[n])
            continue
        found_box, _, _, found_share = detections[ranked[taker]]
        a, b = box_mask(box, share).pixels(), box_mask(found_box, found_share).pixels()
        union = (a | b).sum()
        if union and (a & b).sum() / union >= 0.5:
            assert (full.truths.detection[n], full.truths.blind[n]) == (taker, "")
            assert full.truths.confidence[n] == plain.truths.confidence[n]
            assert full.detections.is_true[taker]
        else:
            assert (full.truths.detection[n], full.truths.blind[n]) == (-1, "localisation")
            assert np.isnan(full.truths.confidence[n])
            assert not full.detections.is_true[taker]
            assert full.detections.truth[taker] == -1
    assert full.detections.is_true.sum() == (full.truths.detection >= 0).sum()
    assert not (full.detections.is_true & full.detections.is_ignored).any()


@given(found_lists, truth_lists, st.sampled_from([0.05, 0.3, 0.7]))
@settings(deadline=None)
def test_one_pass_serves_every_threshold_of_masks_too(detections, truths, threshold):
    """What is found at a threshold is what a matcher finds that never saw the detections below it."""
    everything = match([image(detections, truths)])
    cut = match([image([d for d in detections if np.float32(d[2]) >= threshold], truths)])
    found = everything.truths.confidence >= threshold
    np.testing.assert_array_equal(found, cut.truths.detection >= 0)


def test_keypoints_far_off_are_a_miss():
    """OKS below 0.5 takes a pair apart; where no keypoint is labelled, or one side has none, the box decides."""
    box, near = np.array([[0, 0, 10, 10]]), np.array([[[5, 5, 2], [6, 6, 2]]], np.float64)

    def found(keypoints, truth):
        detections = Detections(
            box.astype(np.float32), np.array([0.9], np.float32), np.array([0]), NAMES, keypoints=keypoints
        )
        truths = GroundTruths(box, np.array([0]), np.array([False]), keypoints=truth, area=np.array([100.0]))
        return str(match_image(detections, truths).truths.blind[0])

    far, unlabelled = near + np.array([60, 0, 0]), near * np.array([1, 1, 0])
    assert found(near, near) == ""
    assert found(far, near) == "localisation"
    assert found(far, unlabelled) == found(None, near) == found(far, None) == ""


def test_shapes_that_are_not_one_of_each_box_are_refused():
    """Masks, keypoints and areas of another number, keypoints that are no numbers."""
    box = np.array([[0, 0, 10, 10]])
    columns = box, np.array([0]), np.array([False])
    with pytest.raises(LabelsInvalid, match="2 masks for 1 boxes"):
        GroundTruths(*columns, masks=(None, None))
    with pytest.raises(LabelsInvalid, match="keypoints are"):
        GroundTruths(*columns, keypoints=np.zeros((2, 4, 3)))
    with pytest.raises(LabelsInvalid, match="areas"):
        GroundTruths(*columns, area=np.array([-1.0]))
    detections = Detections(box.astype(np.float32), np.ones(1, np.float32), np.array([0]), NAMES, masks=())
    with pytest.raises(DataError, match="0 masks for 1 boxes"):
        ImageResult(detections, GroundTruths(*columns))
    nan = Detections(
        box.astype(np.float32), np.ones(1, np.float32), np.array([0]), NAMES, keypoints=np.full((1, 2, 3), np.nan)
    )
    with pytest.raises(DataError, match="finite"):
        ImageResult(nan, GroundTruths(*columns))


def test_rows_take_their_shapes_with_them():
    """A mask, a slice or an index picks boxes, masks and keypoints of the same rows; scaling leaves masks out."""
    masks = (mask([[1, 0]]), mask([[0, 1]]))
    keypoints = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    found = Detections(
        np.zeros((2, 4), np.float32),
        np.ones(2, np.float32),
        np.zeros(2, np.int64),
        NAMES,
        masks=masks,
        keypoints=keypoints,
    )
    for rows in (np.array([False, True]), slice(1, 2), np.array([1])):
        assert found[rows].masks == (masks[1],)
        np.testing.assert_array_equal(found[rows].keypoints, keypoints[1:])
    half = found.scaled(0.5, 2)
    assert half.masks is None
    np.testing.assert_array_equal(half.keypoints[0], [[0, 2, 2], [1.5, 8, 5]])
