"""Stream orders: which images come first and are learnt from, and which come later and are judged by.

    calibration     labelled; thresholds, weights, rules and forecasts are fitted to it
    traffic         earlier frames without labels; rates and quantiles are fitted to its detections
    verification    the stream that the rules choose from
    test            labelled at random, from the same time as the stream; the model's recall is read from it

Where images have a time, calibration and traffic are earlier and the others later. No cluster is in two parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from tasks.core.errors import DataError
from tasks.core.matching import Integers
from tests.benchmarks.bench_yield_sets import LabelledSet

SHARES = (0.3, 0.2, 0.35, 0.15)  # of the images, in the order of the fields of Order


@dataclass(frozen=True, slots=True)
class Order:
    """Rows of the set, part by part."""

    calibration: Integers
    traffic: Integers
    verification: Integers
    test: Integers

    @property
    def parts(self) -> dict[str, Integers]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def orders(labelled: LabelledSet, count: int, seed: int = 0) -> Iterator[Order]:
    """`count` stream orders, each of one site of the set, all checked to be disjoint."""
    sites = sorted(set(labelled.site))
    clusters, site = np.array(labelled.clusters), np.array(labelled.site)
    for number in range(count):
        random = np.random.default_rng((seed, number))
        here = site == sites[number % len(sites)]
        if labelled.later is None:
            order = Order(*_cut(random, np.flatnonzero(here), clusters, SHARES))
        else:
            earlier = _cut(random, np.flatnonzero(here & ~labelled.later), clusters, SHARES[:2])
            order = Order(*earlier, *_cut(random, np.flatnonzero(here & labelled.later), clusters, SHARES[2:]))
        assert_disjoint(order, labelled)
        yield order


def _cut(
    random: np.random.Generator, rows: Integers, clusters: np.ndarray, shares: tuple[float, ...]
) -> Iterator[Integers]:
    """Whole clusters in a random order, cut into parts of about these shares of the images."""
    _, cluster = np.unique(clusters[rows], return_inverse=True)
    place = random.permutation(int(cluster.max()) + 1)[cluster]
    rows, cluster = rows[np.argsort(place, kind="stable")], np.sort(place)
    edges = np.cumsum(shares)[:-1] / sum(shares) * len(rows)
    # A part ends with the cluster that its edge lies in.
    cuts = [int(np.searchsorted(cluster, cluster[int(edge)], "right")) for edge in edges]
    yield from np.split(rows, cuts)


def assert_disjoint(order: Order, labelled: LabelledSet) -> None:
    """Raises DataError where an image or a cluster is in two parts, a part is empty, or what is judged is earlier."""
    seen: dict[str, str] = {}
    for part, rows in order.parts.items():
        if not len(rows):
            raise DataError(f"{labelled.name}: no image is left for {part}: use a larger set")
        for cluster in {labelled.clusters[row] for row in rows}:
            if seen.setdefault(cluster, part) != part:
                raise DataError(f"{labelled.name}: {cluster} is in {seen[cluster]} and in {part}")
    if labelled.later is not None:
        learnt = np.concatenate([order.calibration, order.traffic])
        judged = np.concatenate([order.verification, order.test])
        if labelled.later[learnt].any() or not labelled.later[judged].all():
            raise DataError(f"{labelled.name}: what is learnt from must be earlier than what is judged by")
