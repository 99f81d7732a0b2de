"""What a device hides cannot be had back from the pictures that it keeps."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.privacy import MOST_CELLS, SMALLEST_CELL, Privacy
from tasks.core.entities import Detections
from tasks.core.settings.device import PrivacySettings

NAMES = ("car", "face", "plate")


def privacy(*classes, **fields) -> Privacy:
    return Privacy(PrivacySettings(classes=classes, **fields))


def detections(*boxes, class_id=1) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(count, 4),
        np.full(count, 0.06, np.float32),
        np.full(count, class_id, np.int64),
        NAMES,
    )


def noise(height=120, width=160, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def text(words: str, height=120, width=160):
    pixels = np.full((height, width, 3), 200, np.uint8)
    cv2.putText(pixels, words, (22, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (10, 10, 10), 2)
    return pixels


@pytest.mark.parametrize("method", ["blur", "black"])
def test_boxes_of_named_classes_are_hidden_and_nothing_else(method):
    """Pixels change inside the box and its margin only, and the frame itself stays as it was."""
    pixels = noise()
    before = pixels.copy()
    hidden = privacy("face", method=method, margin=0.1).hidden(pixels, detections((40, 40, 80, 80)))
    assert (pixels == before).all()
    inside = np.zeros(pixels.shape[:2], bool)
    inside[36:84, 36:84] = True
    assert (hidden[~inside] == pixels[~inside]).all()
    assert (hidden[inside] != pixels[inside]).any(axis=1).mean() > 0.98


def test_the_same_array_comes_back_where_there_is_nothing_to_hide():
    """Without classes, and without a box of them, no pixel is copied."""
    pixels = noise()
    assert privacy().hidden(pixels, detections((40, 40, 80, 80))) is pixels
    assert privacy("face").hidden(pixels, detections((40, 40, 80, 80), class_id=0)) is pixels
    assert privacy("face").hidden(pixels, Detections.empty(NAMES)) is pixels
    assert privacy("face").hidden(pixels, detections((400, 400, 480, 480))) is pixels


def test_black_is_black():
    """With `black` every pixel of the box is zero."""
    hidden = privacy("face", method="black", margin=0).hidden(noise(), detections((40, 40, 80, 80)))
    assert (hidden[40:80, 40:80] == 0).all()


def test_a_blurred_box_keeps_no_detail():
    """Of noise, next to no variance is left, and what is left does not correlate with what was there."""
    pixels = noise()
    hidden = privacy("face", margin=0).hidden(pixels, detections((40, 40, 104, 104)))
    was, left = pixels[40:104, 40:104].astype(float), hidden[40:104, 40:104].astype(float)
    assert left.var() < was.var() / 100
    detail = was - cv2.blur(was, (16, 16))
    assert abs(np.corrcoef(detail.ravel(), left.ravel())[0, 1]) < 0.05


@given(
    st.integers(1, 4), st.integers(1, 4), st.integers(SMALLEST_CELL, 24), st.integers(SMALLEST_CELL, 24), st.integers(0)
)
@settings(max_examples=200, deadline=None)
def test_pictures_with_the_same_coarse_colours_become_the_same(columns, rows, cell_width, cell_height, seed):
    """Whatever is rearranged within a cell, the result is equal bit by bit: detail is gone, and not only weakened."""
    random = np.random.default_rng(seed)
    width = cell_width * columns if columns == MOST_CELLS else columns * SMALLEST_CELL
    height = cell_height * rows if rows == MOST_CELLS else rows * SMALLEST_CELL
    one = noise(height, width, seed)
    other = one.copy()
    for y in np.split(np.arange(height), rows):
        for x in np.split(np.arange(width), columns):
            cell = other[np.ix_(y, x)].reshape(-1, 3)
            other[np.ix_(y, x)] = random.permutation(cell).reshape(len(y), len(x), 3)
    hide = privacy("face", margin=0)
    box = detections((0, 0, width, height))
    assert (hide.hidden(one, box) == hide.hidden(other, box)).all()


def test_two_number_plates_cannot_be_told_apart():
    """Texts of equal ink are closer to each other after hiding than noise of the camera is to nothing."""
    box = detections((15, 40, 150, 80))
    hide = privacy("face")
    one, other = (hide.hidden(text(words), box).astype(int) for words in ("AB 1234", "BA 3412"))
    was = np.abs(text("AB 1234").astype(int) - text("BA 3412")).max()
    assert was > 180
    assert np.abs(one - other).max() < 40
    assert np.abs(one - other).mean() < 2


@pytest.mark.parametrize("size", [1, 3, 7, 12, 15])
def test_a_small_box_becomes_one_colour(size):
    """A box below two of the smallest cells, in which a coarse grid would still show everything, has one colour."""
    hidden = privacy("face", margin=0).hidden(noise(), detections((40, 40, 40 + size, 40 + size)))
    box = hidden[40 : 40 + size, 40 : 40 + size].reshape(-1, 3)
    assert (box == box[0]).all()


finite = st.floats(-1e6, 1e6, width=32)
anything = st.one_of(finite, st.sampled_from([float("nan"), float("inf"), float("-inf")]))


@given(st.lists(st.tuples(anything, anything, anything, anything), max_size=5), st.sampled_from(["blur", "black"]))
@settings(max_examples=300, deadline=None)
def test_no_box_makes_it_fail(boxes, method):
    """Boxes outside the picture, turned around, or not finite raise nothing and keep the picture's shape."""
    pixels = noise(48, 64)
    hidden = privacy("face", method=method).hidden(pixels, detections(*boxes))
    assert hidden.shape == pixels.shape
    assert hidden.dtype == np.uint8


@given(st.floats(-20, 60), st.floats(-20, 60), st.floats(0.1, 80), st.floats(0.1, 80), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_every_pixel_that_the_box_touches_is_hidden(left, top, width, height, margin):
    """Against a pixel by pixel reference: what the box with its margin touches is hidden, nothing else is."""
    box = np.array([left, top, left + width, top + height], np.float32).astype(float)
    pixels = np.full((48, 64, 3), 255, np.uint8)
    hidden = privacy("face", method="black", margin=margin).hidden(pixels, detections(tuple(box)))
    wide, high = margin * (box[2] - box[0]), margin * (box[3] - box[1])
    x1, y1, x2, y2 = box[0] - wide, box[1] - high, box[2] + wide, box[3] + high
    for y in range(48):
        for x in range(64):
            touched = x1 < x + 1 and x < x2 and y1 < y + 1 and y < y2
            assert (hidden[y, x, 0] == 0) == touched


def test_classes_that_a_model_does_not_know_are_named():
    """`check` names the classes that are to be hidden and that no box of this model can have."""
    assert privacy("plate", "face").check(NAMES) == []
    assert privacy("person", "face").check(NAMES) == ["person"]
    assert privacy("plate", "face").check(()) == ["plate", "face"]
    assert privacy().check(()) == []


def test_what_cannot_be_found_hides_everything():
    """Detections that do not know a class that is to be hidden leave nothing of the picture to be seen."""
    pixels = noise()
    hidden = privacy("person").hidden(pixels, detections((40, 40, 80, 80)))
    assert hidden.astype(float).var() < pixels.astype(float).var() / 100
