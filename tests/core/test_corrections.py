"""Corrections against pre-annotations, counted."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.boxes import iou_matrix
from tasks.core.corrections import count_corrections
from tasks.core.entities import LabelBox


def box(name, x, y, side=10.0):
    return LabelBox(class_name=name, xyxy=(x, y, x + side, y + side))


CAR = box("car", 20, 20)


@pytest.mark.parametrize(
    ("seed", "boxes", "corrections"),
    [
        ([], [], 0),
        ([CAR], [CAR], 0),
        ([CAR], [box("car", 20.4, 19.6)], 0),  # rounded by a program
        ([CAR], [box("car", 22, 20)], 1),  # moved
        ([CAR], [box("car", 20, 20, 18)], 1),  # resized
        ([CAR], [box("truck", 21, 20)], 1),  # renamed
        ([CAR], [], 1),  # removed
        ([], [CAR, box("car", 60, 60)], 2),  # added
        ([CAR], [box("car", 60, 60)], 2),  # one removed, another one added
        ([CAR], [box("truck", 26, 26)], 2),  # overlaps too little to be the same object
        ([CAR, CAR], [CAR], 1),  # a double that was removed, not minus one
        ([CAR], [CAR, box("car", 20.5, 20)], 1),  # a double that was added
        ([CAR, box("car", 24, 20)], [box("car", 24, 20), box("car", 60, 60)], 2),
    ],
)
def test_each_change_is_one_correction(seed, boxes, corrections):
    """Removed, moved, resized, renamed and added boxes count once each; what a program rounded counts nothing."""
    assert count_corrections(seed, boxes) == corrections


def boxes_of_a_picture():
    """Some boxes far apart, in cells of a grid, each in one of four places within its cell."""
    cell = st.tuples(st.sampled_from(["car", "truck"]), st.sampled_from([0, 4, 15]))
    return st.dictionaries(st.tuples(st.integers(0, 1), st.integers(0, 1)), cell, max_size=3).map(
        lambda cells: [box(name, 100 * x + off, 100 * y + off) for (x, y), (name, off) in cells.items()]
    )


def slow_corrections(seed, boxes):
    """The fewest corrections over every way to take boxes for one another."""
    if len(seed) > len(boxes):
        seed, boxes = boxes, seed
    if not seed:
        return len(boxes)
    iou = iou_matrix([b.xyxy for b in seed], [b.xyxy for b in boxes])

    def cost(i, j):
        a, b = seed[i], boxes[j]
        if a.class_name == b.class_name:
            if np.abs(np.subtract(a.xyxy, b.xyxy)).max() < 1:
                return 0
            return 1 if iou[i, j] >= 0.1 else 2
        return 1 if iou[i, j] >= 0.5 else 2

    pairings = permutations(range(len(boxes)), len(seed))
    return min(sum(cost(i, j) for i, j in enumerate(row)) + len(boxes) - len(seed) for row in pairings)


@given(boxes_of_a_picture(), boxes_of_a_picture())
def test_it_is_the_fewest_corrections_that_explain_the_label(seed, boxes):
    """Where objects stand apart, the count is that of the cheapest pairing, and the same in both directions."""
    assert count_corrections(seed, boxes) == slow_corrections(seed, boxes)
    assert count_corrections(boxes, seed) == count_corrections(seed, boxes)
    assert count_corrections(seed, list(reversed(seed))) == 0
