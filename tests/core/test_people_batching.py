"""Who is asked what, in which order: priority, gold samples, images labelled twice, trials, near-duplicates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.duplicates import hamming, signature, signatures_agree
from tasks.core.entities import STUB, detections_from_records
from tasks.core.people.batching import (
    Doubts,
    choose_gold,
    choose_trial,
    in_order,
    misses_and_boxes,
    mix_in,
    priorities,
    priority_of_batch,
    to_label_twice,
)
from tasks.core.people.repeats import repeats
from tasks.core.settings.sampling import MISS_BINS
from tasks.core.splits import assign_split
from tests.tasks.stages import NOON, a_sample, seen

CLASSES = ("car", "truck")
POOL = [a_sample(n) for n in range(40)]  # a picture costs time: they are made once
RANDOM_DAYS = [
    s.model_copy(update={"captured_at": NOON.replace(day=1 + n % 28, hour=n % 24), "random_slice": True})
    for n, s in enumerate(POOL)
]


def doubts(threshold=0.5, weights=None, floor=0.05):
    rows = np.tile(np.linspace(0.05, 0.8, len(MISS_BINS)), (2, 1)) if weights is None else weights
    return Doubts(CLASSES, rows, np.array([threshold, threshold + 0.1]), floor)


confidences = st.floats(0, 1, width=32)
detections = st.lists(st.builds(seen, st.sampled_from([*CLASSES, "bus"]), confidences), max_size=5)
sights = st.lists(detections, min_size=1, max_size=8)


def samples_of(sights_of_images, **fields):
    return [
        sample.model_copy(update={"detections": tuple(found), **fields})
        for sample, found in zip(POOL, sights_of_images)
    ]


def slow_misses_and_boxes(sample, known):
    """One detection after the other."""
    misses, sure = 0.0, 0
    for found in sample.detections:
        if found.class_name not in known.class_names:
            continue
        place = known.class_names.index(found.class_name)
        if found.confidence >= known.thresholds[place]:
            sure += 1
        elif found.confidence >= known.floor:
            bins = [n for n, low in enumerate(MISS_BINS) if found.confidence >= low]
            misses += known.weights[place, bins[-1]] if bins else 0.0
    return misses, sure + misses


@given(sights)
def test_priority_is_expected_misses_for_each_box_to_draw(found):
    """Of each image by itself and of the batch as a whole, against a loop over its detections."""
    samples, known = samples_of(found), doubts()
    slow = [slow_misses_and_boxes(sample, known) for sample in samples]
    misses, boxes = misses_and_boxes(samples, known)
    assert misses == pytest.approx([m for m, _ in slow], abs=1e-5)
    assert boxes == pytest.approx([b for _, b in slow], abs=1e-5)
    assert priorities(samples, known) == pytest.approx([m / (1 + b) for m, b in slow], abs=1e-5)
    total = sum(m for m, _ in slow) / (len(samples) + sum(b for _, b in slow))
    assert priority_of_batch(samples, known) == pytest.approx(total, abs=1e-5)


def test_without_a_measured_model_all_images_are_worth_the_same():
    """Then the order of capture is left, and an empty batch is no error."""
    assert priorities(POOL[:3], None).tolist() == [0, 0, 0]
    assert in_order(POOL[2::-1], priorities(POOL[2::-1], None)) == POOL[:3]
    assert (priority_of_batch([], doubts()), priority_of_batch(POOL, None)) == (0.0, 0.0)


@given(sights, st.sets(st.integers(0, 7)))
def test_the_random_slice_comes_first_and_whole_then_the_best(found, drawn):
    """Nothing is lost, the random slice is in the order of time, the rest is in the order of its worth."""
    samples = [s.model_copy(update={"random_slice": n in drawn}) for n, s in enumerate(samples_of(found))]
    worth = priorities(samples, doubts())
    by_id = dict(zip((s.sample_id for s in samples), worth))
    ordered = in_order(samples, worth)
    assert sorted(s.sample_id for s in ordered) == sorted(by_id)
    first = [s for s in samples if s.random_slice]
    assert ordered[: len(first)] == sorted(first, key=lambda s: s.captured_at)
    rest = [by_id[s.sample_id] for s in ordered[len(first) :]]
    assert rest == sorted(rest, reverse=True)


def test_images_labelled_twice_are_a_share_of_what_measures_and_the_same_everywhere():
    """No training image, none that no model saw; share 1 takes all, 0 none, more of it only adds."""
    mixed = [*RANDOM_DAYS, *(s.model_copy(update={"random_slice": False}) for s in POOL)]
    measuring = [s for s in mixed if assign_split(s) != "train"]
    assert 10 < len(measuring) < 40
    assert to_label_twice(mixed, 1.0, 0) == measuring
    assert to_label_twice(mixed, 0.0, 0) == []
    some, more = (to_label_twice(mixed, share, 0) for share in (0.3, 0.6))
    assert 0 < len(some) < len(more) < len(measuring)
    assert [s for s in more if s in some] == some
    assert to_label_twice(mixed[::-1], 0.3, 0)[::-1] == some
    assert to_label_twice((s.model_copy(update={"model_version": STUB}) for s in mixed), 1.0, 0) == []


@given(st.integers(0, 10), st.integers(0, 20), st.floats(0, 1), st.integers(0, 5))
def test_gold_samples_are_a_share_and_never_images_of_the_batch(gold, own, share, seed):
    """round(share * images) of them or all that there are, none twice, the same in any order."""
    known = {s.sample_id: s for s in POOL[: gold + 3]}
    batch = POOL[gold : gold + own]  # three of them are gold themselves
    taken = {s.sample_id for s in batch}
    chosen = choose_gold(known, taken, own, share, seed, "b")
    assert len(chosen) == min(round(share * own), len(set(known) - taken))
    assert not {s.sample_id for s in chosen} & taken
    assert len({s.sample_id for s in chosen}) == len(chosen)
    assert choose_gold(dict(reversed(known.items())), taken, own, share, seed, "b") == chosen


@given(st.integers(0, 12), st.integers(0, 6), st.integers(0, 50))
def test_mixing_in_keeps_the_order_and_loses_nothing(own, gold, seed):
    """The batch's own samples stay in their order, and every gold sample is there once."""
    mixed = mix_in(POOL[:own], POOL[30 : 30 + gold], seed, "b")
    assert [s for s in mixed if s in POOL[:own]] == POOL[:own]
    assert sorted(s.sample_id for s in mixed if s in POOL[30:]) == sorted(s.sample_id for s in POOL[30 : 30 + gold])


def test_gold_samples_may_be_anywhere():
    """Over many seeds every place of a batch holds one about as often as another."""
    counts = np.zeros(10)
    for seed in range(600):
        counts += [s in POOL[30:32] for s in mix_in(POOL[:8], POOL[30:32], seed, "b")]
    assert counts.sum() == 1200
    assert 80 < counts.min() <= counts.max() < 160  # 120 in the mean, standard deviation 10


@given(st.integers(1, 12), st.integers(0, 8), st.integers(0, 20))
def test_a_trial_is_half_gold_where_there_is_enough(images, gold, others):
    """As many as were asked for, as far as there are; none twice."""
    known = {s.sample_id: s for s in POOL[:gold]}
    chosen, of_gold = choose_trial(POOL[5 : 5 + others], known, images, 0, "trial-000001")
    assert len(of_gold) == min(round(images / 2), gold)
    free = [s for s in POOL[5 : 5 + others] if s not in of_gold]
    assert len(chosen) == min(images - len(of_gold), len(free))
    assert len({s.sample_id for s in (*chosen, *of_gold)}) == len(chosen) + len(of_gold)


# --- near-duplicates -------------------------------------------------------------------------------------------------


def slow_repeats(samples, hashes, distance, spared):
    """Every pair, one after the other."""
    stays = [s for s in samples if s.random_slice or s.sample_id in spared]
    kept, left_out = [], {}
    for sample in [*stays, *(s for s in samples if s not in stays)]:
        if sample.sample_id not in hashes:
            continue
        like = []
        for other in kept:
            cells = [signature(detections_from_records(s.detections, CLASSES)) for s in (sample, other)]
            bits = hamming(hashes[sample.sample_id], hashes[other.sample_id])
            if other.camera == sample.camera and bits <= distance and signatures_agree(*cells):
                like.append((bits, kept.index(other), other.sample_id))
        if like and sample not in stays:
            left_out[sample.sample_id] = min(like)[2]
        else:
            kept.append(sample)
    return left_out


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["gate", "yard"]), st.integers(0, 3), st.booleans(), st.integers(0, 2), st.booleans()
        ),
        min_size=1,
        max_size=25,
    ),
    st.integers(0, 3),
    st.sets(st.integers(0, 24), max_size=3),
)
def test_repeats_are_left_out_and_what_measures_stays(images, distance, spared):
    """Same camera, near hash, same detections: against a loop over pairs; the random slice and gold stay whole."""
    samples, hashes = [], {}
    for sample, (camera, bits, drawn, cars, has_hash) in zip(POOL, images):
        found = tuple(seen("car", 0.9, (100.0 * n, 0.0, 100.0 * n + 20, 20.0)) for n in range(cars))
        samples.append(sample.model_copy(update={"camera": camera, "random_slice": drawn, "detections": found}))
        if has_hash:
            hashes[sample.sample_id] = np.packbits(np.arange(256) < bits)
    stay = {samples[n].sample_id for n in spared if n < len(samples)}
    found = repeats(samples, hashes, CLASSES, distance, stay)
    assert found == slow_repeats(samples, hashes, distance, stay)
    assert not any(s.sample_id in found for s in samples if s.random_slice or s.sample_id in stay)
    assert not set(found.values()) & set(found)
