"""The random slice stands for what is gone or was never labelled: exactly on average, and with intervals that hold."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.entities import Detection, Label, LabelBox, Sample, content_id
from tasks.core.errors import NotEnoughData
from tasks.core.field import Asked, delivered_either_way, field_recall, labelled_probability, slice_alone
from tasks.core.matching import GroundTruths
from tasks.core.settings import SamplingSettings

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
BOX = (10.0, 10.0, 30.0, 30.0)
SETTINGS = SamplingSettings.model_validate(
    {
        "sampling_strategies": [{"name": "explore", "type": "random", "traffic_percentage": 0.1}],
        "thresholds": {"car": 0.5},
    }
)
E, Q = 0.1, 0.7  # of the random draw, and of the strategy on a frame that it matches
P = 1 - (1 - E) * (1 - Q)


def a_sample(number: int, confidence: float | None = None, **fields) -> Sample:
    digest = content_id(f"slice {number}") * 4
    seen = () if confidence is None else (Detection(class_name="car", confidence=confidence, xyxy=BOX),)
    known = {
        "sample_id": digest[:20], "sha256": digest, "device": "pi", "camera": "gate", "captured_at": NOON,
        "width": 100, "height": 100, "detections": seen, "strategy": "close", "matched": ("close",), "probability": P,
        "random_slice": False, "model_version": "0123456789abcdef", "settings_version": "all/1",
    }  # fmt: skip
    return Sample.model_validate({**known, **fields})


def asked(sample: Sample, is_labelled: bool = True, batch: str = "b", offered: float = 1.0) -> Asked:
    boxes = (LabelBox(class_name="car", xyxy=BOX),)
    label = Label(sample_id=sample.sample_id, status="done", boxes=boxes, annotator="ann", labelled_at=NOON)
    return Asked(sample, label if is_labelled else None, batch, offered)


def truths_of(label: Label, class_names) -> GroundTruths:
    number = len(label.boxes)
    return GroundTruths(np.tile(BOX, (number, 1)), np.zeros(number, np.int64), np.zeros(number, np.bool_))


def found(items, seed: int = 0):
    return field_recall(items, SETTINGS, ("car",), truths_of=truths_of, replicates=200, seed=seed)


# --- each frame stands for one ---------------------------------------------------------------------------------------

SHARES = st.floats(0.01, 0.99)


@given(
    SHARES,
    st.lists(st.tuples(SHARES, st.booleans()), max_size=4),
    st.floats(0.01, 1),
    st.lists(st.sampled_from([0.0, 0.0, 0.3, 1.0]), min_size=5, max_size=5),
)
def test_a_frame_stands_for_one_however_much_of_each_kind_went(e, strategies, d_random, d_chosen):
    """Over all draws: P(drawn so) * P(delivered so) / (p * p_delivered) sums to 1, also where whole kinds are gone.

    strategies: the probability and the room of each; d_chosen: by the number of those that won their draws.
    """
    p = 1 - (1 - e) * np.prod([1 - q for q, has_room in strategies if has_room])
    mean = 0.0
    for is_random, *won in product([True, False], repeat=1 + len(strategies)):
        likely = e if is_random else 1 - e
        likely *= np.prod([q if hit else 1 - q for hit, (q, _) in zip(won, strategies)])
        is_chosen = any(hit and has_room for hit, (_, has_room) in zip(won, strategies))
        if not is_random and not is_chosen:
            continue
        delivered = {True: d_random, False: d_chosen[sum(won)] if is_chosen else 1.0}
        if not delivered[is_random]:
            continue
        sample = a_sample(
            0, probability=p, probability_random=e, random_slice=is_random, chosen_by=sum(won) if is_chosen else 0,
            probability_delivered=delivered[is_random], probability_delivered_otherwise=delivered[not is_random],
        )  # fmt: skip
        mean += likely * delivered[is_random] / asked(sample).probability
    assert mean == pytest.approx(1)


def test_what_an_older_device_wrote_has_its_own_weight():
    """Without e there is nothing to be known of the other way; the record reads as before."""
    old = a_sample(0, random_slice=True, probability_delivered=0.5)
    assert (old.probability_random, old.chosen_by, old.probability_delivered_otherwise) == (None, None, 1.0)
    assert delivered_either_way(old) == 0.5
    assert asked(old).probability_at_random == 0


@pytest.mark.parametrize("fields", [{"probability_random": 0.9}, {"probability_random": 0.0, "random_slice": True}])
def test_an_e_that_cannot_be_leaves_its_image_out(fields):
    """Above p, or 0 for an image that was drawn so: the image is stood for by the others, and named."""
    good = [asked(a_sample(n, 0.9, probability_random=E, chosen_by=1)) for n in range(3)]
    slice_ = asked(a_sample(8, 0.9, probability_random=E, chosen_by=1, random_slice=True))
    answer = found([*good, slice_, asked(a_sample(9, 0.9, chosen_by=1, **fields))])
    assert (answer.labelled, answer.unusable) == (4, 1)
    assert any("one of the two is wrong" in line for line in answer.warnings)


# --- nobody labelled what strategies chose ---------------------------------------------------------------------------


def drawn(number: int, **fields) -> Sample:
    return a_sample(number, 0.9, **{"random_slice": True, "probability_random": E, "chosen_by": 1, **fields})


def test_the_random_slice_stands_for_a_batch_of_which_nothing_else_is_labelled():
    """Two of the slice, of which one is labelled, at e; the chosen ones of the other batch stand for themselves."""
    items = [
        asked(drawn(0), batch="a"), asked(drawn(1), False, batch="a"), asked(a_sample(2), False, batch="a"),
        asked(drawn(3), batch="b"), asked(a_sample(4, 0.9, probability_random=E, chosen_by=1), batch="b"),
    ]  # fmt: skip
    answer = found(items)
    assert answer.frames == pytest.approx(2 / E + 2 / P)
    assert any(line.startswith("in 1 batch nothing is labelled of what strategies chose") for line in answer.warnings)


def test_a_slice_that_was_thinned_or_offered_in_part_stands_for_more():
    """e * p_delivered * p_offered * p_labelled, where only the slice is labelled."""
    items = [asked(drawn(0, probability_delivered=0.5), offered=0.25), asked(a_sample(1), False)]
    assert found(items).frames == pytest.approx(1 / (E * 0.5 * 0.25))


def test_a_slice_of_older_samples_cannot_stand_for_others():
    """Without e in each, as before: the chosen ones of other batches stand for them, and without any it is refused."""
    old = [asked(drawn(0, probability_random=None)), asked(drawn(5)), asked(a_sample(1), False)]
    assert "none of the 1 images chosen by strategies is labelled" in found(old).refused
    others = [asked(drawn(2), batch="b"), asked(a_sample(3, 0.9), batch="b")]
    assert found([*old, *others]).frames == pytest.approx(5 / P)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans(), st.booleans()), max_size=12))
def test_the_batches_of_the_slice_alone_are_those_of_a_plain_loop(rows):
    """Rows of batch, slice, labelled, e known: chosen ones but no label of them, and a labelled slice that knows e."""
    items = [
        asked(a_sample(n, random_slice=s, probability_random=E if known else None), batch=b)
        for n, (b, s, _, known) in enumerate(rows)
    ]
    labelled = np.array([row[2] for row in rows], np.bool_)
    alone = slice_alone(items, labelled)
    for batch in "abc":
        here = [row for row in rows if row[0] == batch]
        its_slice = [known for _, is_random, is_labelled, known in here if is_random and is_labelled]
        is_missed = any(not row[1] for row in here) and not any(row[2] for row in here if not row[1])
        nobody_chosen = all(row[1] for row in rows)
        assert (batch in alone) == ((is_missed or nobody_chosen) and bool(its_slice) and all(its_slice))
    random_slice = np.array([row[1] for row in rows], np.bool_)
    try:
        answer = labelled_probability([row[0] for row in rows], random_slice, labelled, alone)
    except NotEnoughData:
        return
    stood_for = np.array([not row[1] and row[0] in alone for row in rows], np.bool_)
    assert np.nansum(1 / answer) == pytest.approx(np.sum(~stood_for))


# --- worlds whose truth is known -------------------------------------------------------------------------------------

FRAMES, HOURS, WORLDS = 2000, 100, 150


def a_world(chance: np.random.Generator, is_lost: bool, is_labelled: bool) -> tuple[list[Asked], float]:
    """Frames of one object each, a third of them of the kind that the strategy matches and the model often misses.

    is_lost: for half of the hours the outbox had nothing left of what the strategy alone had kept. is_labelled: or
    people labelled it at all. Gives what they were asked about, and the true recall.
    """
    hour = np.arange(FRAMES) * HOURS // FRAMES
    is_hard = chance.random(FRAMES) < 1 / 3
    is_missed = chance.random(FRAMES) < np.where(is_hard, 0.5, 0.05) + 0.1 * (hour % 2)
    is_random, has_won = chance.random(FRAMES) < E, is_hard & (chance.random(FRAMES) < Q)
    is_gone = is_lost & (hour >= HOURS // 2)
    items = []
    for n in np.flatnonzero(is_random | (has_won & ~is_gone)):
        sample = a_sample(
            int(n), 0.3 if is_missed[n] else 0.9, probability=P if is_hard[n] else E, probability_random=E,
            random_slice=bool(is_random[n]), chosen_by=int(has_won[n]),
            captured_at=NOON + timedelta(hours=int(hour[n])),
            probability_delivered_otherwise=0.0 if has_won[n] and is_random[n] and is_gone[n] else 1.0,
        )  # fmt: skip
        items.append(asked(sample, bool(is_random[n]) or is_labelled, batch=f"b{hour[n] // 25}"))
    return items, 1 - float(is_missed.mean())


def as_before(item: Asked) -> Asked:
    """The same without what was not known before."""
    forgotten = {"probability_random": None, "chosen_by": None, "probability_delivered_otherwise": 1.0}
    return Asked(item.sample.model_copy(update=forgotten), item.label, item.batch_id, item.probability_offered)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_lost", "is_labelled"), [(True, True), (False, False)], ids=["gone from the outbox", "never labelled"]
)
def test_recall_is_right_where_only_the_random_slice_is_left(is_lost, is_labelled):
    """150 worlds: biased by less than half a point, and 90 to 98% of the intervals hold; p alone is off by more than 3.

    Before, what was never labelled was refused; with the rows of the slice alone it is off by as much.
    """
    chance, errors, before, held = np.random.default_rng(11), [], [], 0
    for world in range(WORLDS):
        items, truth = a_world(chance, is_lost, is_labelled)
        recall = found(items, seed=world).figures.recall
        errors.append(recall.value - truth)
        held += recall.low <= truth <= recall.high
        if world % 4 == 0:
            old = [as_before(item) for item in items if item.is_labelled]
            before.append(found(old, seed=world).figures.recall.value - truth)
    assert abs(np.mean(errors)) < 0.005
    assert np.mean(before) > 0.03
    assert 0.90 <= held / WORLDS <= 0.98
