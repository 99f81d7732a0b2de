"""Operating thresholds: from which confidence on does a detection of a class count?

What one class's threshold is chosen by is a criterion, the worth of what is kept. With TP and FP the true and false
detections at or above t, and FN(t) the ground truths that are missed there (bands.py):

    FBeta(beta)                (1 + beta^2) TP / (beta^2 (TP + FN) + TP + FP)        the highest
    Cost(miss, false_alarm)    miss * FN(t) + false_alarm * FP(t)                    the lowest

The threshold is the confidence of a detection; of equally good ones the highest, which raises the fewest false alarms.
Where no detection is worth more than silence, F-beta has 0.5, as no threshold is better than another; costs have 1,
where the device says nothing of the class (but for detections of confidence 1, which no threshold can leave out). A
class without any detection has 0.5 by either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.core.bootstrap import DIGITS, UNKNOWN, Bootstrap, percentile_interval, ratio
from tasks.core.entities import Interval
from tasks.core.matching import Floats, Integers, MatchedDetections, Matches
from tasks.core.settings import DEFAULT_THRESHOLD

THRESHOLDS_TRIED = 100  # of a class in each bootstrap replicate
SILENCE = 1.0  # the threshold of a class that is better not reported


class Criterion(Protocol):
    """What a class's threshold is chosen by."""

    @property
    def where_nothing_pays(self) -> float:
        """The threshold where no detection is worth more than silence."""

    def worth(self, hits: NDArray[Any], kept: NDArray[Any], truths: NDArray[Any]) -> Floats:
        """Elementwise, the more the better: of `hits` true ones among `kept` detections, for `truths` objects."""


@dataclass(frozen=True, slots=True)
class FBeta:
    """The best F-beta (van Rijsbergen 1979); beta above 1 weighs misses heavier than false alarms."""

    beta: float = 1.0

    @property
    def where_nothing_pays(self) -> float:
        return DEFAULT_THRESHOLD

    def worth(self, hits: NDArray[Any], kept: NDArray[Any], truths: NDArray[Any]) -> Floats:
        return np.nan_to_num(ratio((1 + self.beta**2) * hits, self.beta**2 * truths + kept))


@dataclass(frozen=True, slots=True)
class Cost:
    """The least cost of misses and false alarms; neither is negative, and not both are 0."""

    miss: float
    false_alarm: float

    @property
    def where_nothing_pays(self) -> float:
        return SILENCE

    def worth(self, hits: NDArray[Any], kept: NDArray[Any], truths: NDArray[Any]) -> Floats:
        """Minus the cost, in units of the dearer of the two; rounded, so that no float error parts equal costs."""
        unit = max(self.miss, self.false_alarm)
        cost = self.miss / unit * (truths - hits) + self.false_alarm / unit * (kept - hits)
        return np.asarray(-np.round(cost, DIGITS), np.float64)

    def of(self, truths: Integers, hits: Integers, kept: Integers) -> Floats:
        """(n,) the cost of each image."""
        return np.asarray(self.miss * (truths - hits) + self.false_alarm * (kept - hits), np.float64)

    def pays(self, truths: Integers, hits: Integers, kept: Integers) -> bool:
        """Whether the detections of all images together cost less than silence."""
        totals = [np.asarray(column.sum()) for column in (hits, kept, truths)]
        nothing = np.asarray(0)
        return bool(self.worth(*totals) > self.worth(nothing, nothing, totals[2]))


BEST_F1 = FBeta()


def operating_thresholds(matches: Matches, classes: int, criterion: Criterion = BEST_F1) -> Floats:
    """(classes,) the best threshold of each class, by class id."""
    return np.array([best_threshold(rows_of_class(matches, c), criterion) for c in range(classes)], np.float64)


def best_threshold(matches: Matches, criterion: Criterion = BEST_F1) -> float:
    """The best threshold of one class, whose rows alone are given."""
    detections = counted(matches.detections)
    if not len(detections):
        return DEFAULT_THRESHOLD
    detections = detections[np.argsort(-detections.confidence, kind="stable")]
    # A threshold keeps all detections of its confidence: only the last of equal ones has seen them all.
    last_of_equal = np.flatnonzero(np.append(np.diff(detections.confidence) < 0, True))
    # Silence comes first, so that whatever is not worth more loses to it.
    hits = np.append(0, np.cumsum(detections.is_true)[last_of_equal])
    kept = np.append(0, last_of_equal + 1)
    best = int(criterion.worth(hits, kept, np.full(len(hits), len(matches.truths))).argmax())
    return float(detections.confidence[last_of_equal[best - 1]]) if best else criterion.where_nothing_pays


def threshold_interval(matches: Matches, bootstrap: Bootstrap, criterion: Criterion = BEST_F1) -> Interval:
    """The 95% interval of `best_threshold`, fitted anew in every replicate.

    A false detection makes any criterion worse, so that beside silence the confidences of true detections are all that
    need be tried: each of them, or 100 quantiles.
    """
    detections = counted(matches.detections)
    candidates = np.unique(detections.confidence[detections.is_true]).astype(np.float64)
    no_evidence = not len(candidates) if isinstance(criterion, FBeta) else not len(detections)
    if bootstrap.units < 2 or no_evidence:
        return UNKNOWN
    if len(candidates) > THRESHOLDS_TRIED:
        candidates = np.unique(np.quantile(candidates, np.linspace(0, 1, THRESHOLDS_TRIED), method="nearest"))
    # From silence and the highest down, so that of equal worths the first is the highest.
    candidates = np.append(np.inf, candidates[::-1])

    tried = len(candidates)
    keeps_it = np.searchsorted(-candidates, -detections.confidence, "left")  # the first candidate that does
    reached = keeps_it < tried
    cells = bootstrap.unit_of_image[detections.image[reached]] * tried + keeps_it[reached]
    kept_by_step = np.bincount(cells, minlength=bootstrap.units * tried)
    hits_by_step = np.bincount(cells, detections.is_true[reached], bootstrap.units * tried)
    steps = [column.reshape(bootstrap.units, tried) for column in (hits_by_step, kept_by_step)]
    totals = bootstrap.sums(by_image(matches, matches.truths.image), by_image(matches, detections.image))

    replicates = bootstrap.replicates(np.concatenate([totals, *steps], axis=1))
    truths, seen, hits, kept = np.split(replicates, [1, 2, 2 + tried], axis=1)
    hits, kept = hits.cumsum(axis=1), kept.cumsum(axis=1)
    candidates[0] = criterion.where_nothing_pays
    best = candidates[criterion.worth(hits, kept, np.broadcast_to(truths, hits.shape)).argmax(axis=1)]
    return percentile_interval(np.where(seen[:, 0] > 0, best, DEFAULT_THRESHOLD)) or UNKNOWN


# --- rows of the matching --------------------------------------------------------------------------------------------


def by_image(matches: Matches, image: Integers) -> Integers:
    """(images,) how often each image occurs in `image`."""
    return np.bincount(image, minlength=matches.images)


def counted(detections: MatchedDetections) -> MatchedDetections:
    """Those that are true or false: not those in crowd regions."""
    return detections[~detections.is_ignored]


def rows_of_class(matches: Matches, class_id: int) -> Matches:
    truths, detections = matches.truths, matches.detections
    return replace(
        matches,
        truths=truths[truths.class_id == class_id],
        detections=detections[detections.class_id == class_id],
    )
