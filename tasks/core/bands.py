"""Where the misses are: operating thresholds, misses per class and confidence band, and the blind ones.

For a class with n ground truths, of which g was taken by a detection of confidence s(g) or by none (matching.py):

    missed at threshold t              FN(t) = #{g : s(g) < t or none}
    recall lost to the band [a, b)     #{g : a <= s(g) < b} / n
    blind                              #{g : none}; no rule on confidence can find these

The bands of a class tile .005, .02, .05, .1, .2, .3, .5, cut at its operating threshold, so that bands + blind =
misses. Out of a device's reach are the blind ones and those whose detection lies below its `confidence_floor`.

Where images have one label and a model answers with its top class (matching/classes_of_images.py), g is missed exactly
when another class is the top one. Then no threshold is tried: the record says 0.5, which nothing but a top class
exceeds as long as probabilities sum to 1; misses above it have a band of their own, up to 1.

What is stated rather than computed: a class without a true detection has the threshold 0.5, as no threshold is better
than another; recall without ground truths and precision without detections are None; the interval of a share of which
nothing is known (no ground truth, or a single image) is 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.bootstrap import (
    MINIMUM_CLUSTERS,
    REPLICATES,
    UNKNOWN,
    Bootstrap,
    cluster_bootstrap,
    percentile_interval,
    ratio,
)
from tasks.core.entities import Band, ClassEvaluation, Evaluation, Interval, Task, content_id
from tasks.core.errors import DataError
from tasks.core.matching import MATCHING_FLOOR, Booleans, Floats, Integers, MatchedDetections, Matches
from tasks.core.settings import DEFAULT_THRESHOLD

BAND_EDGES = (MATCHING_FLOOR, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
THRESHOLDS_TRIED = 100  # of a class in each bootstrap replicate


def evaluate(
    matches: Matches,
    clusters: Sequence[str],
    class_names: Sequence[str],
    *,
    created_at: datetime,
    task: Task = "detection",
    model_version: str = "",
    dataset_version: str = "",
    split: str = "",
    thresholds: Mapping[str, float] | None = None,
    beta: float = 1.0,
    confidence_floor: float = 0.05,
    coco: Mapping[str, float] | None = None,
    ap50: Mapping[str, float] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Evaluation:
    """The evaluation of a model on labelled images: thresholds, recall, precision, bands and blind misses.

    clusters: camera x hour of every image. class_names: the project's class list. thresholds: the operating thresholds
    in force, by class name; without them those of best F-beta are fitted; where only the top class counts there are
    none. task: what the model does. coco, ap50: figures from elsewhere that belong into the record.

    Intervals are 95% of a cluster bootstrap; all but the thresholds' own hold the thresholds fixed. The id follows
    from the content, `created_at` left out. Raises DataError where clusters or class names do not fit the matches.
    """
    _check_lengths(matches, clusters, class_names)
    bootstrap = cluster_bootstrap(clusters, replicates=replicates, seed=seed)
    matches = _answers(matches)
    classes = {}
    counts = np.zeros((3, matches.images), np.int64)  # pooled over the classes
    for class_id, name in enumerate(class_names):
        of_class = _rows_of_class(matches, class_id)
        if matches.top_only:
            threshold, interval = DEFAULT_THRESHOLD, (DEFAULT_THRESHOLD, DEFAULT_THRESHOLD)
        elif thresholds is None:
            threshold = best_threshold(of_class, beta)
            interval = threshold_interval(of_class, bootstrap, beta)
        else:
            threshold = thresholds.get(name, DEFAULT_THRESHOLD)
            interval = (threshold, threshold)  # given, not estimated
        classes[name] = _class_evaluation(
            of_class, threshold, interval, bootstrap, confidence_floor, (ap50 or {}).get(name)
        )
        counts += _truths_hits_and_kept(of_class, threshold)

    truths, hits, kept = counts
    evaluation = Evaluation(
        evaluation="",
        model_version=model_version,
        dataset_version=dataset_version,
        split=split,
        created_at=created_at,
        task=task,
        images=matches.images,
        clusters=bootstrap.clusters,
        bootstrap_unit=bootstrap.unit,
        confidence_floor=confidence_floor,
        classes=classes,
        recall=_share(hits, truths),
        recall_interval=_share_interval(bootstrap, hits, truths) if truths.any() else None,
        precision=_share(hits, kept),
        coco=dict(coco or {}),
        warnings=_warnings(bootstrap, classes, fitted=thresholds is None and not matches.top_only),
    )
    content = evaluation.model_dump_json(exclude={"evaluation", "created_at"})
    return evaluation.model_copy(update={"evaluation": content_id(content)})


# --- misses at given thresholds --------------------------------------------------------------------------------------


def threshold_column(thresholds: Mapping[str, float], class_names: Sequence[str]) -> Floats:
    """(classes,) thresholds by class id; a class that the mapping lacks has 0.5."""
    return np.array([thresholds.get(name, DEFAULT_THRESHOLD) for name in class_names], np.float64)


def missed(matches: Matches, thresholds: Floats) -> Booleans:
    """(truths,) which ground truths are missed at `thresholds`, (classes,) by class id."""
    return ~_is_found(_answers(matches), thresholds[matches.truths.class_id])


def out_of_reach(matches: Matches, thresholds: Floats, confidence_floor: float) -> Booleans:
    """(truths,) the misses that no rule on a device can see: blind, or taken by a detection below its floor."""
    seen = matches.truths.confidence >= confidence_floor
    return np.asarray(missed(matches, thresholds) & ~seen)


def _is_found(matches: Matches, threshold: Floats | float) -> Booleans:
    """(truths,) of `_answers`: threshold is of each of them, or of all."""
    if matches.top_only:
        return np.asarray(matches.truths.detection >= 0)
    return np.asarray(matches.truths.confidence >= threshold)  # never so for the blind ones, nan


def _answers(matches: Matches) -> Matches:
    """Where only the top class counts, the others are no answers: ignored, and nothing that has found a ground truth.

    The confidences of ground truths stay: they say in which band a miss lies.
    """
    if not matches.top_only:
        return matches
    is_top = np.append(matches.is_top, False)  # -1 picks the False
    taker = np.where(is_top[matches.truths.detection], matches.truths.detection, -1)
    detections = replace(matches.detections, is_ignored=matches.detections.is_ignored | ~matches.is_top)
    return replace(matches, truths=replace(matches.truths, detection=taker), detections=detections)


def misses_by_image(matches: Matches, thresholds: Floats) -> Integers:
    """(images,) missed ground truths of each image, of any class."""
    return _by_image(matches, matches.truths.image[missed(matches, thresholds)])


def has_miss(matches: Matches, thresholds: Floats) -> Booleans:
    """(images,) whether anything was missed in it."""
    return misses_by_image(matches, thresholds) > 0


# --- operating thresholds --------------------------------------------------------------------------------------------


def f_beta(hits: NDArray[Any], kept: NDArray[Any], truths: NDArray[Any], beta: float) -> Floats:
    """F-beta of `hits` true ones among `kept` detections, for `truths` ground truths (van Rijsbergen 1979)."""
    return np.nan_to_num(ratio((1 + beta**2) * hits, beta**2 * truths + kept))


def operating_thresholds(matches: Matches, classes: int, beta: float = 1.0) -> Floats:
    """(classes,) the threshold of best F-beta of each class, by class id."""
    return np.array([best_threshold(_rows_of_class(matches, c), beta) for c in range(classes)], np.float64)


def best_threshold(matches: Matches, beta: float = 1.0) -> float:
    """The threshold of best F-beta of one class, whose rows alone are given.

    It is the confidence of a detection. Of equally good ones the highest is taken, which raises the fewest false
    alarms. A class without a true detection has 0.5.
    """
    detections = _counted(matches.detections)
    if not detections.is_true.any():
        return DEFAULT_THRESHOLD
    detections = detections[np.argsort(-detections.confidence, kind="stable")]
    hits, kept = np.cumsum(detections.is_true), np.arange(1, len(detections) + 1)
    scores = f_beta(hits, kept, np.full(len(detections), len(matches.truths)), beta)
    # A threshold keeps all detections of its confidence: only the last of equal ones has seen them all.
    last_of_equal = np.append(np.diff(detections.confidence) < 0, True)
    return float(detections.confidence[np.where(last_of_equal, scores, -1.0).argmax()])


def threshold_interval(matches: Matches, bootstrap: Bootstrap, beta: float = 1.0) -> Interval:
    """The 95% interval of `best_threshold`, fitted anew in every replicate.

    F-beta peaks at true detections, so that their confidences are all that need be tried: each of them, or 100
    quantiles.
    """
    detections = _counted(matches.detections)
    candidates = np.unique(detections.confidence[detections.is_true])
    if bootstrap.units < 2 or not len(candidates):
        return UNKNOWN
    if len(candidates) > THRESHOLDS_TRIED:
        candidates = np.unique(np.quantile(candidates, np.linspace(0, 1, THRESHOLDS_TRIED), method="nearest"))
    candidates = candidates[::-1]  # from the highest down, so that of equal scores the first is the highest

    tried = len(candidates)
    keeps_it = np.searchsorted(-candidates, -detections.confidence, "left")  # the first candidate that does
    reached = keeps_it < tried
    cells = bootstrap.unit_of_image[detections.image[reached]] * tried + keeps_it[reached]
    kept_by_step = np.bincount(cells, minlength=bootstrap.units * tried)
    hits_by_step = np.bincount(cells, detections.is_true[reached], bootstrap.units * tried)
    steps = [column.reshape(bootstrap.units, tried) for column in (hits_by_step, kept_by_step)]
    truths_by_unit = bootstrap.sums(_by_image(matches, matches.truths.image))

    replicates = bootstrap.replicates(np.concatenate([truths_by_unit, *steps], axis=1))
    truths, hits, kept = np.split(replicates, [1, 1 + tried], axis=1)
    hits, kept = hits.cumsum(axis=1), kept.cumsum(axis=1)
    best = candidates[f_beta(hits, kept, np.broadcast_to(truths, hits.shape), beta).argmax(axis=1)]
    return percentile_interval(np.where(hits[:, -1] > 0, best, DEFAULT_THRESHOLD)) or UNKNOWN


# --- one class -------------------------------------------------------------------------------------------------------


def tile_bands(threshold: float) -> list[tuple[float, float]]:
    """`[low, high)` from the matching floor up to `threshold`, without gap or overlap."""
    edges = [edge for edge in BAND_EDGES if edge < threshold] + [threshold]
    return list(pairwise(edges))


def _bands_of_misses(confidence: Floats, threshold: float) -> list[tuple[float, float]]:
    """`tile_bands`, and one above the threshold where a miss lies there because another class was the top one."""
    above = [(threshold, 1.0)] if (confidence >= threshold).any() else []
    return [*tile_bands(threshold), *above]


def _class_evaluation(
    of_class: Matches,
    threshold: float,
    threshold_interval: Interval,
    bootstrap: Bootstrap,
    confidence_floor: float,
    ap50: float | None,
) -> ClassEvaluation:
    truths = of_class.truths
    truths_by_image, hits, kept = _truths_hits_and_kept(of_class, threshold)
    is_missed = ~_is_found(of_class, threshold)
    bands = []
    for low, high in _bands_of_misses(truths.confidence[is_missed], threshold):
        lost = is_missed & (truths.confidence >= low) & ((truths.confidence < high) | (high >= 1))
        lost_by_image = _by_image(of_class, truths.image[lost])
        bands.append(
            Band(
                low=low,
                high=high,
                misses=int(lost.sum()),
                recall_lost=_share(lost_by_image, truths_by_image) or 0.0,
                interval=_share_interval(bootstrap, lost_by_image, truths_by_image),
            )
        )
    return ClassEvaluation(
        ground_truths=len(truths),
        threshold=threshold,
        threshold_interval=threshold_interval,
        precision=_share(hits, kept),
        recall=_share(hits, truths_by_image),
        recall_interval=_share_interval(bootstrap, hits, truths_by_image) if len(truths) else None,
        misses=int(is_missed.sum()),
        blind=int(np.isnan(truths.confidence).sum()),
        blind_localisation=int((truths.blind == "localisation").sum()),
        blind_classification=int((truths.blind == "classification").sum()),
        blind_unseen=int((truths.blind == "unseen").sum()),
        out_of_reach=int((is_missed & ~(truths.confidence >= confidence_floor)).sum()),
        bands=tuple(bands),
        ap50=ap50,
    )


def _truths_hits_and_kept(of_class: Matches, threshold: float) -> Integers:
    """(3, images): ground truths, those of them that are found, and detections at or above the threshold."""
    truths, detections = of_class.truths, _counted(of_class.detections)
    hits = truths.image[_is_found(of_class, threshold)]
    kept = detections.image[(detections.confidence >= threshold) | of_class.top_only]
    return np.stack([_by_image(of_class, image) for image in (truths.image, hits, kept)])


def _share(part: Integers, whole: Integers) -> float | None:
    return float(part.sum() / whole.sum()) if whole.any() else None


def _share_interval(bootstrap: Bootstrap, part: Integers, whole: Integers) -> Interval:
    """The 95% interval of `part.sum() / whole.sum()`, two figures an image."""
    if bootstrap.units < 2:
        return UNKNOWN
    replicates = bootstrap.replicates(bootstrap.sums(part, whole))
    return percentile_interval(ratio(replicates[:, 0], replicates[:, 1])) or UNKNOWN


def _by_image(matches: Matches, image: Integers) -> Integers:
    """(images,) how often each image occurs in `image`."""
    return np.bincount(image, minlength=matches.images)


def _counted(detections: MatchedDetections) -> MatchedDetections:
    """Those that are true or false: not those in crowd regions."""
    return detections[~detections.is_ignored]


def _rows_of_class(matches: Matches, class_id: int) -> Matches:
    truths, detections = matches.truths, matches.detections
    return replace(
        matches,
        truths=truths[truths.class_id == class_id],
        detections=detections[detections.class_id == class_id],
    )


# --- what a reader must know -----------------------------------------------------------------------------------------


def _check_lengths(matches: Matches, clusters: Sequence[str], class_names: Sequence[str]) -> None:
    if len(clusters) != matches.images:
        raise DataError(f"evaluation: {len(clusters)} clusters for {matches.images} images: give one for each image")
    highest = max(matches.truths.class_id.max(initial=-1), matches.detections.class_id.max(initial=-1))
    if highest >= len(class_names):
        raise DataError(f"evaluation: class id {highest} is beyond the {len(class_names)} names of the class list")


def _warnings(bootstrap: Bootstrap, classes: Mapping[str, ClassEvaluation], *, fitted: bool) -> tuple[str, ...]:
    warnings = []
    images = len(bootstrap.unit_of_image)
    if images < 2:
        warnings.append(f"{images} images: the intervals say nothing")
    elif bootstrap.unit == "image":
        warnings.append(
            f"{bootstrap.clusters} clusters (camera x hour) are fewer than {MINIMUM_CLUSTERS}: intervals come from "
            f"drawing images, and may be too narrow where images resemble each other"
        )
    unlabelled = [name for name, c in classes.items() if not c.ground_truths]
    if unlabelled:
        warnings.append(f"no ground truth, so no recall: {', '.join(unlabelled)}")
    undetected = [name for name, c in classes.items() if c.ground_truths and c.blind == c.ground_truths]
    if undetected:
        threshold = f", so the threshold is {DEFAULT_THRESHOLD}" if fitted else ""
        warnings.append(f"no true detection{threshold}: {', '.join(undetected)}")
    return tuple(warnings)
