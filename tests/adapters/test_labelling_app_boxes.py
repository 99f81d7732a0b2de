"""What a person drew in the App, and the label that it is, or the line that says why it is none."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.adapters.labelling.fiftyone_boxes import (
    CONFIRMED_TAG,
    DONE,
    SKIPPED,
    collapse,
    fraction_of,
    label_of,
    pixels_of,
    vanished,
)
from tasks.core.entities import LabelBox
from tasks.core.errors import LabelsInvalid
from tests.tasks.stages import a_sample, box, label

CLASSES = ("car", "truck")
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)

# --- boxes -----------------------------------------------------------------------------------------------------------

sides = st.integers(1, 8000)


@st.composite
def boxes_in_images(draw):
    """A box in tenths of a pixel, and the size of its image."""
    width, height = draw(sides), draw(sides)
    x1, y1 = draw(st.integers(0, 10 * width - 10)), draw(st.integers(0, 10 * height - 10))
    x2, y2 = draw(st.integers(x1 + 10, 10 * width)), draw(st.integers(y1 + 10, 10 * height))
    return (x1 / 10, y1 / 10, x2 / 10, y2 / 10), width, height


@given(boxes_in_images())
def test_pixels_go_to_shares_and_back_exactly(drawn):
    """A box that was drawn nowhere comes back as it went out, in images of any size."""
    xyxy, width, height = drawn
    assert pixels_of(fraction_of(xyxy, width, height), width, height) == xyxy


def a_document(*boxes, state=DONE, **fields):
    """A sample as MongoDB holds it. boxes: class name and box in pixels of an image of 64 x 48."""
    detections = [{"label": name, "bounding_box": fraction_of(xyxy, 64, 48)} for name, xyxy in boxes]
    return {"review_status": state, "human": {"detections": detections}, **fields}


def read(document, seed=None, taken=None):
    return label_of(document, a_sample(0), seed, taken, CLASSES, "ann", NOW)


SEED = label(a_sample(0), box("car", 0, 0), box("car", 30, 0), box("truck", 0, 28))
CAR, TRUCK = ("car", (0, 0, 20, 20)), ("truck", (0, 28, 20, 48))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (a_document(("Bogus", (1, 1, 9, 9))), "box 1 is of class 'Bogus': choose one of car, truck"),
        (a_document((None, (1, 1, 9, 9))), "box 1 has no class: choose one of car, truck"),
        (a_document(("car", (5, 5, 5, 9))), "car, box 1"),
        (a_document(("car", (60, 40, 90, 80))), "car, box 1"),
        (a_document(("car", (float("nan"), 1, 9, 9))), "car, box 1"),
        (a_document(state="finished"), "review_status 'finished' is none of todo, done, skip"),
        (a_document(), "all 3 boxes that were there at first are gone: look again, and switch `confirm` on"),
        (a_document(CAR), "2 of the 3 boxes that were there at first are gone"),
        (a_document(CAR, CAR, CAR), "its 3 boxes lie on one another"),
        ({"review_status": DONE, "human": {"detections": [{"label": "car"}]}}, "is not four numbers"),
    ],
)
def test_what_cannot_be_a_label_says_why_in_one_line(document, words):
    """Unknown class, no class, no area, outside, no number, an unknown state, and boxes that seem lost."""
    with pytest.raises(LabelsInvalid) as refused:
        read(document, SEED)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("word", [{"confirm": True}, {"tags": [CONFIRMED_TAG]}])
def test_lost_boxes_are_right_where_the_reviewer_says_so(word):
    """With `confirm` on, or the tag, an image that lost all boxes of its seed is a label without boxes."""
    assert read(a_document(**word), SEED).boxes == ()


def test_an_image_says_nothing_until_it_is_finished():
    """To do is no label; a skip has its reason and no boxes; done has the boxes; each in the name of its annotator."""
    assert read(a_document(CAR, state="todo")) is None
    assert read({"review_status": None}) is None
    skipped = read(a_document(CAR, state=SKIPPED, skip_reason=" too dark "))
    assert (skipped.status, skipped.reason, skipped.boxes) == ("skipped", "too dark", ())
    done = read(a_document(CAR, TRUCK), SEED)
    assert [(one.class_name, one.xyxy) for one in done.boxes] == [CAR, TRUCK]
    assert (done.annotator, done.labelled_at) == ("ann", NOW)


@st.composite
def some_boxes(draw, least=0):
    corners = st.tuples(st.integers(0, 40), st.integers(0, 24))
    return [box("car", *draw(corners)) for _ in range(draw(st.integers(least, 5)))]


@given(some_boxes(least=1), st.data())
def test_as_many_boxes_as_before_are_never_taken_for_lost(seed, data):
    """Whatever is moved a little, renamed or added: a label that keeps every box of its seed is taken as it is."""
    moved = [
        LabelBox(class_name="truck", xyxy=tuple(v + data.draw(st.integers(0, 2)) for v in one.xyxy)) for one in seed
    ]
    assume(len({one.xyxy[:2] for one in moved}) == len(moved) or len(moved) == 1)
    assert vanished(seed, moved) == 0
    if max(abs(a.xyxy[i] - b.xyxy[i]) for a in moved for b in moved for i in range(2)) > 3 or len(moved) == 1:
        assert collapse(seed, moved) == ""


def test_a_box_that_sticks_out_by_a_pixel_is_clipped():
    """What a hand does at the border of an image is no mistake: the box ends where the image does."""
    assert read(a_document(("car", (50, 30, 64.9, 48.9)))).boxes[0].xyxy == (50, 30, 64, 48)


def test_a_batch_keeps_the_class_list_that_it_was_made_with():
    """A class that the project has got since is none of the batch, and one that it lost still is."""
    sample = a_sample(0)
    document = a_document(("bus", (1, 1, 9, 9)))
    assert label_of(document, sample, None, None, ("bus",), "ann", NOW).boxes[0].class_name == "bus"
    with pytest.raises(LabelsInvalid, match="box 1 is of class 'bus': choose one of car, truck"):
        label_of(document, sample, None, None, CLASSES, "ann", NOW)
