"""Agreement of labels and the one that is taken of several: properties, and cases that can be counted by hand."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Label, LabelBox
from tasks.core.people.agreement import (
    FEW_IMAGES,
    agreement,
    between_people,
    f1_of,
    pair_of,
    with_gold,
)
from tasks.core.people.consensus import consensus, likeness
from tests.tasks.stages import NOON, a_sample, box, label

SAMPLE = a_sample(0)


@st.composite
def boxes(draw):
    """Up to four boxes, many of them near one another."""
    places = st.tuples(st.sampled_from(["car", "truck"]), st.integers(0, 12), st.integers(0, 12))
    return [box(*draw(places)) for _ in range(draw(st.integers(0, 4)))]


def overlap(one: LabelBox, other: LabelBox) -> float:
    """IoU, slowly."""
    ax1, ay1, ax2, ay2 = one.xyxy
    bx1, by1, bx2, by2 = other.xyxy
    both = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    return both / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - both)


def most_pairs(first, second) -> int:
    """The most boxes that can be paired, by trying all ways."""
    short, long = sorted((first, second), key=len)
    if not short:
        return 0
    return max(
        sum(a.class_name == b.class_name and overlap(a, b) >= 0.5 for a, b in zip(short, order))
        for order in permutations(long, len(short))
    )


@given(boxes(), boxes())
def test_agreement_is_the_same_from_both_sides_and_between_0_and_1(first, second):
    """Who is called the first changes nothing, nor does the order of boxes; no more pairs than there can be."""
    one, other = label(SAMPLE, *first), label(SAMPLE, *second)
    here, there = pair_of(one, other), pair_of(other, one)
    assert (here.agreed, here.first, here.second) == (there.agreed, there.second, there.first)
    assert here.iou == pytest.approx(there.iou)
    assert 0 <= here.f1 <= 1
    turned = pair_of(label(SAMPLE, *reversed(first)), other)
    assert turned.agreed == here.agreed
    assert turned.iou == pytest.approx(here.iou)
    best = most_pairs(first, second)
    assert best / 2 <= here.agreed <= best  # the most alike first finds half of the most, at least


@given(boxes())
def test_somebody_agrees_with_themselves(drawn):
    """The same boxes agree wholly, also when there are none."""
    found = pair_of(label(SAMPLE, *drawn), label(SAMPLE, *drawn))
    assert found.f1 == 1
    assert found.iou == pytest.approx(len(drawn))


def test_agreement_by_hand():
    """Three boxes against two: one agrees, one has the wrong class, one lies elsewhere; F1 is 2 * 1 / 5."""
    gold = label(SAMPLE, box("car", 0, 0), box("truck", 40, 0))
    said = label(SAMPLE, box("car", 0, 0), box("car", 40, 0), box("truck", 0, 28))
    assert pair_of(said, gold).f1 == pytest.approx(0.4)
    assert pair_of(said, gold, "car").f1 == pytest.approx(2 / 3)
    assert pair_of(said, gold, "truck").f1 == 0
    crowd = box("car", 40, 0).model_copy(update={"crowd": True})
    pair = pair_of(said, label(SAMPLE, box("car", 0, 0), crowd))
    assert (pair.agreed, pair.first, pair.second) == (1, 2, 1)  # what lies on a crowd is asked of nobody


def test_few_images_have_no_interval_and_many_have_one_that_holds_the_figure():
    """Nine images say that they are too few; with ten there is an interval around F1."""
    pairs = [
        pair_of(label(a_sample(n), box("car", 0, 0)), label(a_sample(n), box("car", 30 * (n % 3 == 0), 0)))
        for n in range(12)
    ]
    few = agreement("ann", "eve", pairs[: FEW_IMAGES - 1], ["c"] * (FEW_IMAGES - 1))
    assert few.interval is None
    assert few.words.endswith("on 9 images: too few to tell")
    found = agreement("ann", "eve", pairs, [f"c{n}" for n in range(12)])
    assert found.f1 == pytest.approx(8 / 12)
    assert found.interval[0] < found.f1 < found.interval[1]
    assert found.iou == pytest.approx(1)
    with pytest.raises(ValueError, match="no image both"):
        agreement("ann", "eve", [], [])


def test_nothing_drawn_by_anybody_is_agreement():
    """Images that all find empty agree, and their interval is as wide as ten images allow."""
    pairs = [pair_of(label(a_sample(n)), label(a_sample(n))) for n in range(10)]
    found = agreement("ann", "eve", pairs, ["c"] * 10)
    assert (found.f1, found.interval[1], found.iou) == (1, 1, None)
    assert 0.6 < found.interval[0] < 0.8
    assert f1_of(0, 0) == 1


def test_who_is_held_against_what():
    """Gold measures each person by what they labelled; pairs are made of images that both have; models are nobody."""
    samples = [a_sample(n) for n in range(4)]
    gold = {samples[0].sample_id: label(samples[0], box("car", 0, 0))}
    said = [
        label(samples[0], box("car", 0, 0), annotator="ann"),
        label(samples[0], annotator="eve"),
        label(samples[1], annotator="ann"),
        label(samples[1], annotator="eve", status="skipped"),
        label(samples[2], annotator="eve"),
        label(samples[2], annotator="model", origin="model"),
        label(samples[3], box("car", 9, 9), annotator="ann"),
        label(samples[3], box("car", 0, 0), annotator="ann", labelled_at=NOON + timedelta(hours=1)),
        label(samples[3], box("car", 0, 0), annotator="eve"),
    ]
    assert {name: [pair.f1 for pair in pairs] for name, pairs in with_gold(said, gold).items()} == {
        "ann": [1],
        "eve": [0],
    }
    assert {names: sorted(pair.f1 for pair in pairs) for names, pairs in between_people(said).items()} == {
        ("ann", "eve"): [0, 1]
    }


# --- consensus -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abcd"), boxes(), st.booleans()), min_size=1, max_size=5), st.randoms())
def test_what_is_taken_was_said_by_somebody_and_in_no_order(said, random):
    """One label, whatever the order they come in; it agrees best with the others, by a slow count."""
    labels = [
        label(SAMPLE, *([] if skip else drawn), annotator=name, status="skipped" if skip else "done",
              labelled_at=NOON + timedelta(minutes=n))
        for n, (name, drawn, skip) in enumerate(said)
    ]  # fmt: skip
    (taken,) = consensus(labels)
    shuffled = list(labels)
    random.shuffle(shuffled)
    assert consensus(shuffled) == [taken]
    newest = {one.annotator: one for one in labels}
    assert taken in newest.values()

    def score(one: Label) -> float:
        return sum(likeness(one, other) for other in newest.values() if other is not one)

    assert score(taken) == pytest.approx(max(score(one) for one in newest.values()))


def test_two_of_three_are_believed():
    """Two who agree outvote one; of two who do not the newest is taken; one skip against two labels is none."""
    right, also, wrong = (
        label(SAMPLE, box("car", 0, 0), annotator="ann"),
        label(SAMPLE, box("car", 1, 0), annotator="eve"),
        label(SAMPLE, box("car", 30, 20), annotator="zoe", labelled_at=NOON + timedelta(hours=1)),
    )
    assert consensus([wrong, right, also])[0] in (right, also)
    assert consensus([wrong, right]) == [wrong]
    skipped = label(SAMPLE, annotator="zoe", status="skipped", labelled_at=NOON + timedelta(hours=1))
    assert consensus([skipped, right, also])[0].status == "done"
    other = a_sample(1)
    assert [one.sample_id for one in consensus([label(other), right])] == sorted([SAMPLE.sample_id, other.sample_id])
