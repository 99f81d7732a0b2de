"""Boxes against slow references that are written straight from the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tasks.core.boxes import NMS_BLOCK, Letterbox, areas, clip_boxes, iou_matrix, nms

coordinates = st.floats(-50, 700, allow_nan=False, width=32)


@st.composite
def boxes(draw, most=12):
    """Boxes (n, 4) on a coarse grid, so that equal, touching and empty ones are common."""
    n = draw(st.integers(0, most))
    corners = draw(hnp.arrays(np.float32, (n, 2), elements=st.integers(0, 12).map(float)))
    sides = draw(hnp.arrays(np.float32, (n, 2), elements=st.integers(0, 6).map(float)))
    return np.concatenate([corners, corners + sides], axis=1)


def slow_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return intersection / union if union > 0 else 0.0


def slow_nms(xyxy, confidence, class_id, iou):
    rows = sorted(range(len(xyxy)), key=lambda i: (-confidence[i], *xyxy[i], class_id[i]))
    kept = []
    for row in rows:
        same_class = [k for k in kept if class_id[k] == class_id[row]]
        if all(slow_iou(xyxy[k].astype(float), xyxy[row].astype(float)) <= iou for k in same_class):
            kept.append(row)
    return kept


@given(boxes(), boxes())
def test_iou_matrix_is_the_definition_for_every_pair(a, b):
    """Every cell is intersection over union, and 0 where neither box has an area."""
    expected = [[slow_iou(x.astype(float), y.astype(float)) for y in b] for x in a]
    np.testing.assert_allclose(iou_matrix(a, b), np.reshape(expected, (len(a), len(b))), rtol=0, atol=1e-12)


@given(boxes())
def test_iou_is_symmetric_and_one_with_itself(a):
    """IoU does not depend on the order, and a box with an area overlaps itself wholly."""
    matrix = iou_matrix(a, a)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), (areas(a) > 0).astype(float))


@given(boxes(most=40), st.data())
def test_nms_keeps_what_the_greedy_definition_keeps(xyxy, data):
    """The same rows in the same order as taking boxes one by one, best first, ties by coordinates."""
    n = len(xyxy)
    confidence = np.array(data.draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=n, max_size=n)), np.float32)
    class_id = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int64)
    iou = data.draw(st.sampled_from([0.1, 0.3, 0.6, 0.95]))
    kept = nms(xyxy, confidence, class_id, iou)
    expected = slow_nms(xyxy, confidence, class_id, iou)
    # Rows that are equal in everything are the same detection: compare what was kept, not which copy of it.
    for column in (xyxy, confidence, class_id):
        np.testing.assert_array_equal(column[kept], column[expected])


@pytest.mark.parametrize("n", [NMS_BLOCK - 1, NMS_BLOCK, NMS_BLOCK + 1, 3 * NMS_BLOCK + 7])
def test_nms_is_the_same_across_blocks(n):
    """Candidates are compared across the borders of the blocks that NMS works in, with and without a limit."""
    rng = np.random.default_rng(n)
    corners = rng.uniform(0, 120, (n, 2)).astype(np.float32)
    xyxy = np.concatenate([corners, corners + rng.uniform(10, 60, (n, 2)).astype(np.float32)], axis=1)
    confidence, class_id = rng.random(n).astype(np.float32), rng.integers(0, 3, n)
    expected = slow_nms(xyxy, confidence, class_id, 0.5)
    assert nms(xyxy, confidence, class_id, 0.5).tolist() == expected
    assert nms(xyxy, confidence, class_id, 0.5, limit=20).tolist() == expected[:20]


@given(boxes(most=30), st.randoms(use_true_random=False))
def test_nms_does_not_depend_on_the_order_of_its_input(xyxy, random):
    """Shuffled candidates give the same boxes, also when all confidences are equal."""
    confidence, class_id = np.full(len(xyxy), 0.5, np.float32), np.zeros(len(xyxy), np.int64)
    shuffled = list(range(len(xyxy)))
    random.shuffle(shuffled)
    kept, again = nms(xyxy, confidence, class_id, 0.4), nms(xyxy[shuffled], confidence, class_id, 0.4)
    np.testing.assert_array_equal(xyxy[kept], xyxy[shuffled][again])


def test_an_overlap_of_exactly_the_limit_is_kept():
    """Suppression needs an IoU above the limit, as in torchvision."""
    xyxy = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], np.float32)
    assert nms(xyxy, np.array([0.9, 0.8]), np.zeros(2, int), 0.5).tolist() == [0, 1]
    assert nms(xyxy, np.array([0.9, 0.8]), np.zeros(2, int), 0.49).tolist() == [0]


@given(hnp.arrays(np.float32, (5, 4), elements=coordinates), st.integers(1, 640), st.integers(1, 640))
def test_clipped_boxes_lie_in_the_image_and_inner_ones_stay(xyxy, width, height):
    """Coordinates are cut to the image, those inside are untouched, and the input is not changed."""
    before = xyxy.copy()
    clipped = clip_boxes(xyxy, width, height)
    limits = np.array([width, height, width, height], np.float32)
    np.testing.assert_array_equal(xyxy, before)
    np.testing.assert_array_equal(clipped, np.minimum(np.maximum(xyxy, 0), limits))
    assert clipped.dtype == xyxy.dtype


@settings(max_examples=200)
@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([(256, 256), (416, 416), (384, 640), (640, 640)]))
@pytest.mark.parametrize("arrange", [Letterbox.top_left, Letterbox.centred])
def test_a_letterbox_fits_and_maps_the_picture_back(arrange, height, width, input_size):
    """The scaled picture lies inside the input and touches two of its sides; its corners map to the image's corners."""
    letterbox = arrange((height, width), input_size)
    (rows, columns), (left, top) = letterbox.resized, letterbox.pad
    assert 0 <= left <= input_size[1] - columns
    assert 0 <= top <= input_size[0] - rows
    # Rounding down a product such as 0.65 * 640 may lose a pixel, as in YOLOX itself.
    assert min(input_size[0] - rows, input_size[1] - columns) <= 1
    picture = np.array([[left, top, left + columns, top + rows]], np.float32)
    tolerance = 1 if arrange == Letterbox.centred else 1 + 1 / letterbox.scale[0]
    np.testing.assert_allclose(letterbox.to_image(picture), [[0, 0, width, height]], rtol=1e-5, atol=tolerance)


@given(st.integers(2, 2000), st.integers(2, 2000), st.data())
@pytest.mark.parametrize("arrange", [Letterbox.top_left, Letterbox.centred])
def test_boxes_go_into_the_input_and_back(arrange, height, width, data):
    """`to_image` undoes `to_input` for every box of the image."""
    x = sorted(data.draw(st.tuples(st.floats(0, width, width=32), st.floats(0, width, width=32))))
    y = sorted(data.draw(st.tuples(st.floats(0, height, width=32), st.floats(0, height, width=32))))
    xyxy = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    letterbox = arrange((height, width), (416, 416))
    np.testing.assert_allclose(letterbox.to_image(letterbox.to_input(xyxy)), xyxy, atol=1e-2 * max(height, width) / 100)


def test_an_empty_image_has_no_letterbox():
    """A side of 0 pixels is refused with both sizes in the message."""
    with pytest.raises(ValueError, match=r"\(0, 5\).*\(416, 416\)"):
        Letterbox.centred((0, 5), (416, 416))
