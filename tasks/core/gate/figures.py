"""What the gate compares: AP50 and recall of two models on the same images, in every replicate of one bootstrap.

Both models are drawn with the same weights (a paired bootstrap), so that what is hard for both cancels out.

Recall is compared at the live model's operating precision. The live model's thresholds give its pooled precision P
on the drawn images. Each model then moves along one curve: all its thresholds shifted together by the same log-odds, so
that the curve passes through its own operating point; its recall is read at the last shift that still keeps P. Both are
read in the same way, so equal models compare equal, and P and both shifts are found anew in each replicate, so that
their noise is part of the bounds. P grants one false alarm more than the live model made: without it a live model that
made none would ask the impossible. Where the live model finds nothing at its thresholds, each is read at its own.

AP50 is the area under the interpolated precision-recall curve at IoU 0.5 (all points, as in VOC 2010; COCO reads 101
points of it), over the detections that took part in the matching, averaged over the classes that have ground truths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.bootstrap import Bootstrap, ratio
from tasks.core.errors import DataError
from tasks.core.matching import Matches
from tasks.core.settings import DEFAULT_THRESHOLD, Thresholds

REPLICATES_AT_ONCE = 64  # bounds memory: 100,000 detections take 25 MB a column of weights
_NEAREST_TO_CERTAIN = 1e-6  # log-odds of 0 and 1 are infinite

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Edition:
    """The test images: one cluster name each, the project's classes, and which edition of which dataset it is."""

    clusters: tuple[str, ...]
    class_names: tuple[str, ...]
    dataset_version: str = ""
    number: int = 0
    is_random: bool = True

    @property
    def images(self) -> int:
        return len(self.clusters)


@dataclass(frozen=True, slots=True)
class ModelOutcome:
    """What one model did on the images of an edition, in their order. thresholds: its operating thresholds by class."""

    model_version: str
    matches: Matches
    thresholds: Thresholds = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Replicates:
    """One figure in every replicate, and on the images as they are."""

    value: float
    drawn: Floats


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models at the live model's operating precision. Recall by class is nan where a class has no ground truth.

    units_worse: by class, units of the bootstrap in which the candidate finds fewer ground truths than the live model.
    """

    precision: float
    recall: tuple[float, float]  # candidate, live
    recall_difference: Replicates
    class_differences: tuple[Replicates, ...]
    units_worse: tuple[int, ...]


def check_same_images(candidate: ModelOutcome, live: ModelOutcome, edition: Edition) -> None:
    """Raises DataError when the two were not matched against the same ground truths, in the same order."""
    for outcome in (candidate, live):
        if outcome.matches.images != edition.images:
            raise DataError(
                f"model {outcome.model_version} was matched on {outcome.matches.images} images, the test edition has "
                f"{edition.images}: match every model on all of its images"
            )
    ours, theirs = candidate.matches.truths, live.matches.truths
    if not all(np.array_equal(getattr(ours, c), getattr(theirs, c)) for c in ("image", "class_id", "xyxy")):
        raise DataError(
            f"models {candidate.model_version} and {live.model_version} were matched against different ground truths: "
            f"match both on the same test edition, in the same order"
        )


def truths_by_class(outcome: ModelOutcome, classes: int) -> NDArray[np.int64]:
    """Ground truths of each class."""
    return np.bincount(outcome.matches.truths.class_id, minlength=classes)[:classes]


# --- ranked detections ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Detections from the best score down. Among equal scores the false come first, for no threshold parts them."""

    unit: NDArray[np.int64]
    is_true: NDArray[np.bool_]
    class_id: NDArray[np.int64]
    score: Floats

    @classmethod
    def by(cls, score: Floats, outcome: ModelOutcome, bootstrap: Bootstrap) -> _Ranked:
        detections = outcome.matches.detections
        order = np.lexsort((detections.is_true, -score))
        order = order[~detections.is_ignored[order]]
        units = bootstrap.unit_of_image[detections.image[order]]
        return cls(units, detections.is_true[order], detections.class_id[order], score[order])

    def of_class(self, class_id: int) -> _Ranked:
        rows = self.class_id == class_id
        return _Ranked(self.unit[rows], self.is_true[rows], self.class_id[rows], self.score[rows])

    def cumulative(self, weights: Weights) -> tuple[Weights, Weights]:
        """For each true detection: true ones, and all, down to it. weights: (units, replicates); (k, replicates)."""
        ends = np.flatnonzero(self.is_true)
        if not len(ends):
            nothing = np.zeros((0, weights.shape[1]), np.float32)
            return nothing, nothing
        drawn = weights[self.unit[: ends[-1] + 1]]
        starts = np.concatenate([[0], ends[:-1] + 1])
        return drawn[ends].cumsum(axis=0), np.add.reduceat(drawn, starts, axis=0).cumsum(axis=0)


def _blocks(bootstrap: Bootstrap) -> Iterator[Weights]:
    """(units, replicates) weights, some replicates at a time; the very first column is the images as they are."""
    as_they_are = np.ones((1, bootstrap.units), np.float32)
    rows = np.concatenate([as_they_are, bootstrap.draws])
    for first in range(0, len(rows), REPLICATES_AT_ONCE):
        yield np.ascontiguousarray(rows[first : first + REPLICATES_AT_ONCE].T)


def _truths_by_unit(outcome: ModelOutcome, bootstrap: Bootstrap, classes: int) -> Weights:
    """(units, classes)"""
    truths = outcome.matches.truths
    counts = np.zeros((bootstrap.units, classes), np.float32)
    np.add.at(counts, (bootstrap.unit_of_image[truths.image], truths.class_id), 1)
    return counts


# --- AP50 -----------------------------------------------------------------------------------------------------------


def ap50(outcome: ModelOutcome, bootstrap: Bootstrap, classes: int) -> tuple[Replicates, Floats]:
    """AP50 in every replicate, and by class on the images as they are (nan without ground truths)."""
    ranked = _Ranked.by(outcome.matches.detections.confidence, outcome, bootstrap)
    by_class = [ranked.of_class(c) for c in range(classes)]
    truths = _truths_by_unit(outcome, bootstrap, classes)
    blocks = [
        np.stack([_average_precision(by_class[c], weights, truths[:, c]) for c in range(classes)])
        for weights in _blocks(bootstrap)
    ]
    figures = np.concatenate(blocks, axis=1)  # (classes, 1 + replicates)
    return _replicates(_mean_of_known(figures)), figures[:, 0]


def _average_precision(ranked: _Ranked, weights: Weights, truths: Weights) -> Floats:
    """(replicates,) area under the interpolated curve; nan in replicates that drew no ground truth of the class."""
    total = (truths @ weights).astype(np.float64)
    true, seen = ranked.cumulative(weights)
    precision = np.divide(true, seen, out=np.zeros_like(true), where=seen > 0)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    steps = weights[ranked.unit[ranked.is_true]]
    area = np.einsum("kr,kr->r", steps, envelope, dtype=np.float64)
    return _share(area, total)


def _mean_of_known(figures: Floats) -> Floats:
    """Mean over axis 0 of what is not nan; nan where nothing is known."""
    known = np.isfinite(figures)
    counts = known.sum(axis=0)
    return _share(np.where(known, figures, 0.0).sum(axis=0), counts)


# --- recall at the live model's operating precision -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Curve:
    """A model's detections by how far above their class's threshold they lie, in log-odds."""

    ranked: _Ranked
    kept: int  # detections at or above their thresholds
    kept_true: int

    @classmethod
    def of(cls, outcome: ModelOutcome, bootstrap: Bootstrap, class_names: Sequence[str]) -> _Curve:
        thresholds = np.array([outcome.thresholds.get(name, DEFAULT_THRESHOLD) for name in class_names])
        detections = outcome.matches.detections
        score = _log_odds(detections.confidence) - _log_odds(thresholds)[detections.class_id]
        ranked = _Ranked.by(score, outcome, bootstrap)
        kept = int((ranked.score >= 0).sum())
        return cls(ranked, kept, int(ranked.is_true[:kept].sum()))

    def operating_point(self, weights: Weights) -> tuple[Weights, Weights]:
        """(replicates,) true detections, and all, at or above their thresholds."""
        drawn = weights[self.ranked.unit[: self.kept]]
        return drawn[self.ranked.is_true[: self.kept]].sum(axis=0), drawn.sum(axis=0)

    def true_at(self, precision: Floats, weights: Weights) -> NDArray[np.int64]:
        """(replicates,) how many of the true detections lie above the lowest cut that keeps `precision`."""
        true, seen = self.ranked.cumulative(weights)
        keeps = (true >= precision * seen) & (seen > 0)
        found = len(keeps) - keeps[::-1].argmax(axis=0) if len(keeps) else np.zeros(weights.shape[1], np.int64)
        return np.where(keeps.any(axis=0), found, 0)

    def hits(self, counts: NDArray[np.int64], weights: Weights, classes: int) -> Floats:
        """(classes, replicates) ground truths found when the first `counts` true detections are kept."""
        units, names = self.ranked.unit[self.ranked.is_true], self.ranked.class_id[self.ranked.is_true]
        hits = np.zeros((classes, weights.shape[1]))
        for c in range(classes):
            places = np.flatnonzero(names == c)
            sums = np.zeros((len(places) + 1, weights.shape[1]), np.float32)
            np.cumsum(weights[units[places]], axis=0, out=sums[1:])
            hits[c] = np.take_along_axis(sums, np.searchsorted(places, counts)[None], axis=0)[0]
        return hits


def compare(candidate: ModelOutcome, live: ModelOutcome, bootstrap: Bootstrap, edition: Edition) -> Comparison:
    """Recall of both models at the live model's operating precision, pooled and by class."""
    classes = len(edition.class_names)
    curves = [_Curve.of(outcome, bootstrap, edition.class_names) for outcome in (candidate, live)]
    truths = _truths_by_unit(live, bootstrap, classes)
    pooled, by_class, precisions, cuts = [], [], [], []
    for weights in _blocks(bootstrap):
        precision, counts = _read_at_live_precision(curves, weights)
        hits = np.stack([curve.hits(n, weights, classes) for curve, n in zip(curves, counts)])
        total = (truths.T @ weights).astype(np.float64)
        pooled.append(_share(hits.sum(axis=1), total.sum(axis=0)))
        by_class.append(_share(hits, total))
        precisions.append(precision)
        cuts.append(counts)
    recall = np.concatenate(pooled, axis=1)  # (2, 1 + replicates)
    recall_by_class = np.concatenate(by_class, axis=2)  # (2, classes, 1 + replicates)
    gains = _gains_by_unit(curves, [int(n[0]) for n in cuts[0]], bootstrap.units, classes)
    return Comparison(
        precision=float(precisions[0][0]),
        recall=(float(recall[0, 0]), float(recall[1, 0])),
        recall_difference=_replicates(recall[0] - recall[1]),
        class_differences=tuple(_replicates(a - b) for a, b in zip(*recall_by_class)),
        units_worse=tuple(int(n) for n in (gains < 0).sum(axis=0)),
    )


def _read_at_live_precision(curves: Sequence[_Curve], weights: Weights) -> tuple[Floats, list[NDArray[np.int64]]]:
    """(replicates,) the live model's precision, and how many true detections each model keeps at it."""
    true, seen = (column.astype(np.float64) for column in curves[1].operating_point(weights))
    asked = true / (seen + 1)
    counts = [np.where(true > 0, curve.true_at(asked, weights), curve.kept_true) for curve in curves]
    return _share(true, seen), counts


def _gains_by_unit(curves: Sequence[_Curve], counts: Sequence[int], units: int, classes: int) -> NDArray[np.int64]:
    """(units, classes) ground truths that the candidate finds, less those that the live model finds."""
    found = np.zeros((2, units, classes), np.int64)
    for model, (curve, count) in enumerate(zip(curves, counts)):
        rows = np.flatnonzero(curve.ranked.is_true)[:count]
        np.add.at(found[model], (curve.ranked.unit[rows], curve.ranked.class_id[rows]), 1)
    return np.asarray(found[0] - found[1])


def _log_odds(confidence: Floats) -> Floats:
    p = np.clip(np.asarray(confidence, np.float64), _NEAREST_TO_CERTAIN, 1 - _NEAREST_TO_CERTAIN)
    return np.asarray(np.log(p / (1 - p)))


def _share(part: Floats, whole: NDArray[Any]) -> Floats:
    """Elementwise; nan where the whole is 0."""
    return ratio(part, np.broadcast_to(whole, part.shape))


def _replicates(figures: Floats) -> Replicates:
    return Replicates(float(figures[0]), figures[1:])
