"""Who is asked what, in which order: priority, gold samples, images that are labelled twice, and trial batches.

Every choice is drawn by a hash of the project's seed and the ids, so that the same samples give the same batches on
every machine and after every crash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.entities import STUB, Sample
from tasks.core.matching import Floats
from tasks.core.splits import assign_split
from tasks.core.suggestion.rules import Candidates
from tasks.core.suggestion.weights import expected_misses

DIGITS = 6  # of a priority
GOLD_OF_A_TRIAL = 0.5  # share of a trial's images, as far as there are gold labels


@dataclass(frozen=True, slots=True)
class Doubts:
    """What tells how many objects a model has missed in an image by what it saw there.

    weights: (classes, bins) the share of doubtful detections that are real. thresholds: (classes,). floor: the
    confidence from which on devices write detections down.
    """

    class_names: tuple[str, ...]
    weights: Floats
    thresholds: Floats
    floor: float


def misses_and_boxes(samples: Sequence[Sample], doubts: Doubts) -> tuple[Floats, Floats]:
    """(samples,) the expected misses m(x), and (samples,) the boxes that a person is expected to end up with.

    These are the detections at or above their class's threshold, and the misses. Classes that `doubts` does not know
    do not count.
    """
    number = {name: place for place, name in enumerate(doubts.class_names)}
    rows = [
        (place, number[seen.class_name], seen.confidence)
        for place, sample in enumerate(samples)
        for seen in sample.detections
        if seen.class_name in number
    ]
    image = np.array([row[0] for row in rows], np.int64)
    class_id = np.array([row[1] for row in rows], np.int64)
    confidence = np.array([row[2] for row in rows], np.float64)
    candidates = Candidates(image, class_id, confidence, np.ones(len(samples)))
    misses = expected_misses(candidates, doubts.weights, doubts.thresholds, doubts.floor)
    sure = np.bincount(image[confidence >= doubts.thresholds[class_id]], minlength=len(samples))
    return misses, sure + misses


def priorities(samples: Sequence[Sample], doubts: Doubts | None) -> Floats:
    """(samples,) what a label is expected to bring for what it costs: m(x) / (1 + boxes).

    Looking at an image costs as much as a box; so nothing is divided by zero, and of two images with the same misses
    the emptier one comes first. 0 for all while no model has been measured.
    """
    if doubts is None or not samples:
        return np.zeros(len(samples))
    misses, boxes = misses_and_boxes(samples, doubts)
    return np.round(misses / (1 + boxes), DIGITS)


def priority_of_batch(samples: Sequence[Sample], doubts: Doubts | None) -> float:
    """The same of all samples of a batch together."""
    if doubts is None or not samples:
        return 0.0
    misses, boxes = misses_and_boxes(samples, doubts)
    return round(float(misses.sum() / (len(samples) + boxes.sum())), DIGITS)


def in_order(samples: Sequence[Sample], priority: Floats) -> list[Sample]:
    """The random slice first and whole, for it measures the model; then the best first; else in the order of capture.

    priority: (samples,).
    """
    worth = dict(zip((sample.sample_id for sample in samples), priority.tolist()))
    return sorted(
        samples,
        key=lambda s: (
            not s.random_slice,
            0.0 if s.random_slice else -worth[s.sample_id],
            s.captured_at,
            s.sample_id,
        ),
    )


def to_label_twice(samples: Iterable[Sample], share: float, seed: int) -> list[Sample]:
    """Of the test and calibration images those that are labelled once more, with pre-annotations.

    Each is drawn by itself with probability `share`. An image that no model has seen has no pre-annotations.
    """
    return [
        sample
        for sample in samples
        if assign_split(sample) != "train"
        and sample.model_version != STUB
        and draw(seed, "twice", sample.sample_id) < share
    ]


def choose_gold(
    known: Mapping[str, Sample], taken: Collection[str], images: int, share: float, seed: int, batch_id: str
) -> list[Sample]:
    """The gold samples of a batch of `images` images: round(share * images), or as many as there are.

    known: sample id -> sample whose label is known. taken: sample ids that are in the batch for their own sake.
    """
    free = [sample for sample_id, sample in known.items() if sample_id not in taken]
    return lowest(free, round(share * images), seed, f"gold/{batch_id}")


def mix_in(samples: Sequence[Sample], gold: Sequence[Sample], seed: int, batch_id: str) -> list[Sample]:
    """`samples` in their order with `gold` among them, every set of places as likely as another."""
    total = len(samples) + len(gold)
    places = set(sorted(range(total), key=lambda place: draw(seed, f"place/{batch_id}", str(place)))[: len(gold)])
    ordinary, known = iter(samples), iter(lowest(gold, len(gold), seed, f"mixed/{batch_id}"))
    return [next(known) if place in places else next(ordinary) for place in range(total)]


def choose_trial(
    samples: Iterable[Sample], gold: Mapping[str, Sample], images: int, seed: int, batch_id: str
) -> tuple[list[Sample], list[Sample]]:
    """The samples of a trial batch of `images`, and its gold samples.

    Half of them gold, as far as there are, and the others drawn so that every sample is as likely as another: what
    people will find in the rest.
    """
    known = choose_gold(gold, (), images, GOLD_OF_A_TRIAL, seed, batch_id)
    taken = {sample.sample_id for sample in known}
    others = [sample for sample in samples if sample.sample_id not in taken]
    return lowest(others, images - len(known), seed, f"trial/{batch_id}"), known


def lowest(samples: Iterable[Sample], number: int, seed: int, what: str) -> list[Sample]:
    """`number` of the samples by the lowest draws; the same ones in whatever order they come."""
    return sorted(samples, key=lambda s: (draw(seed, what, s.sample_id), s.sample_id))[:number]


def draw(seed: int, what: str, name: str) -> float:
    """A number in [0, 1) that follows from seed, purpose and name."""
    digest = hashlib.blake2b(f"{seed}/{what}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
