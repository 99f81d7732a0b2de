"""The ways of choosing what is labelled next: each puts the whole pool into an order, the best first.

Equal images takes the first N of every order. Equal boxes goes down every order as far as the objects of random's first
N images last. The scores are those of the yield bench, by the model whose misses are hunted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.core.matching import Booleans, Floats, Integers
from tasks.core.suggestion.rules import Candidates
from tasks.core.suggestion.weights import expected_misses, fit_weights
from tests.benchmarks.bench_yield_contenders import Known, Part, any_detection, entropy_sums
from tests.benchmarks.bench_yield_sets import DEVICE_FLOOR

NONE, RANDOM, WHOLE = "no new labels", "random", "whole pool"
BAND, ENTROPY, MISSES, DEPLOYED = "0.3 to 0.5", "entropy sum", "expected misses", "expected misses, 20% random"
HALF, DIVERSE, BALANCED = "misses, half random", "misses, diverse", "misses, classes in turn"
MAIN = (BAND, ENTROPY, MISSES, DEPLOYED)
VARIANTS = (HALF, DIVERSE, BALANCED)
EXPLORATION = 0.2
DIVERSE_AMONG = 3  # times as many images as are wanted


@dataclass(frozen=True, slots=True)
class Pool:
    """What a way may know: the live model's view of the pool, no label of it. embeddings: (images, n) of length 1."""

    known: Known
    part: Part
    embeddings: Floats
    wanted: int  # images
    seed: int

    def random(self) -> np.random.Generator:
        return np.random.default_rng((self.seed, 4))

    def misses(self, of_class: int | None = None) -> Floats:
        """(images,) expected misses, or those of one class."""
        known, seen = self.known, self.part.candidates
        weights = fit_weights(known.calibration.matches, None, known.thresholds, known.class_names, DEVICE_FLOOR)
        if of_class is not None:
            of = seen.class_id == of_class
            seen = Candidates(seen.image[of], seen.class_id[of], seen.confidence[of], seen.weight)
        return expected_misses(seen, weights, known.thresholds, DEVICE_FLOOR)


def at_random(pool: Pool) -> Integers:
    return pool.random().permutation(pool.part.images)


def in_the_band(pool: Pool) -> Integers:
    """At random among those with any detection strictly between 0.3 and 0.5, then among the others."""
    matched = any_detection(pool.part, pool.part.candidates.confidence, 0.4, 0.1)
    return highest(matched.astype(np.float64), at_random(pool))


def by_entropy(pool: Pool) -> Integers:
    return highest(entropy_sums(pool.part), at_random(pool))


def by_misses(pool: Pool) -> Integers:
    return highest(pool.misses(), at_random(pool))


def by_misses_exploring(pool: Pool) -> Integers:
    """As a device does: a fifth is drawn at random."""
    return mixed(by_misses(pool), at_random(pool), EXPLORATION)


def half_by_misses(pool: Pool) -> Integers:
    return mixed(by_misses(pool), at_random(pool), 0.5)


def diverse_misses(pool: Pool) -> Integers:
    """Farthest first, among three times as many images of the most expected misses; then the others by these."""
    order = by_misses(pool)
    nearest_to_none = farthest_first(pool.embeddings[order[: DIVERSE_AMONG * pool.wanted]])
    return np.concatenate([order[nearest_to_none], order[len(nearest_to_none) :]])


def class_by_class(pool: Pool) -> Integers:
    """Each class in turn takes the image with the most expected misses of it."""
    spread = at_random(pool)
    orders = [highest(pool.misses(c), spread) for c in range(len(pool.known.class_names))]
    return first_of_each(np.stack(orders, axis=1).ravel())


WAYS: dict[str, Callable[[Pool], Integers]] = {
    RANDOM: at_random,
    BAND: in_the_band,
    ENTROPY: by_entropy,
    MISSES: by_misses,
    DEPLOYED: by_misses_exploring,
    HALF: half_by_misses,
    DIVERSE: diverse_misses,
    BALANCED: class_by_class,
}


# --- orders ----------------------------------------------------------------------------------------------------------


def highest(score: Floats, spread: Integers) -> Integers:
    """Rows by descending score; equal ones in the order of `spread`, a permutation of the rows."""
    return spread[np.argsort(-score[spread], kind="stable")]


def mixed(order: Integers, other: Integers, share: float) -> Integers:
    """Both orders in one, without repetition: of every first k rows, `share` are taken from `other`, rounded down."""
    from_other = np.diff(np.floor(np.arange(len(order) + 1) * share)) > 0
    sources = {False: iter(order.tolist()), True: iter(other.tolist())}
    taken: dict[int, None] = {}
    for source in from_other.tolist():
        taken[next(row for row in sources[source] if row not in taken)] = None
    return np.array(list(taken), np.int64)


def farthest_first(embeddings: Floats) -> Integers:
    """The first row, then each time the row whose nearest taken one is farthest away; cosine distance."""
    order, nearest = [0], 1 - embeddings @ embeddings[0]
    while len(order) < len(embeddings):
        nearest[order[-1]] = -np.inf
        order.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, 1 - embeddings @ embeddings[order[-1]])
    return np.array(order, np.int64)


def first_of_each(rows: Integers) -> Integers:
    """Every row once, where it comes first."""
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def rows_for_boxes(boxes: Integers, budget: int) -> int:
    """How many images, in their order, come closest to a budget of boxes; at least one. boxes: (images,)."""
    return int(np.abs(boxes.cumsum() - budget).argmin()) + 1


# --- what was chosen -------------------------------------------------------------------------------------------------


def nearest_distance(embeddings: Floats) -> float:
    """Mean cosine distance of an image to the most alike one; near 0 where images repeat each other."""
    if len(embeddings) < 2:
        return float("nan")
    alike = embeddings @ embeddings.T
    np.fill_diagonal(alike, -1.0)
    return float((1 - alike.max(axis=1)).mean())


def evenness(by_class: Integers) -> float:
    """Entropy of the classes of the chosen boxes, 1 where all are equally frequent."""
    share = by_class[by_class > 0] / max(1, by_class.sum())
    return float(-(share * np.log(share)).sum() / np.log(len(by_class))) if len(by_class) > 1 else 1.0


def is_ambiguous(part: Part, thresholds: Floats) -> Booleans:
    """(images,) whether an image has a detection within a tenth of its class's threshold."""
    seen = part.candidates
    return any_detection(part, seen.confidence - thresholds[seen.class_id], 0.0, 0.1)
