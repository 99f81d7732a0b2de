"""Where the misses are: operating thresholds, misses per class and confidence band, and the blind ones.

For a class with n ground truths, of which g was taken by a detection of confidence s(g) or by none (matching.py):

    missed at threshold t              FN(t) = #{g : s(g) < t or none}
    recall lost to the band [a, b)     #{g : a <= s(g) < b} / n
    blind                              #{g : none}; no rule on confidence can find these

The bands of a class tile .005, .02, .05, .1, .2, .3, .5, cut at its operating threshold (thresholds.py), so that bands
+ blind = misses. Out of a device's reach are the blind ones and those whose detection lies below its
`confidence_floor`.

Where images have one label and a model answers with its top class (matching/classes_of_images.py), g is missed exactly
when another class is the top one. Then no threshold is tried: the record says 0.5, which nothing but a top class
exceeds as long as probabilities sum to 1; misses above it have a band of their own, up to 1.

What is stated rather than computed: recall without ground truths and precision without detections are None; the
interval of a share of which nothing is known (no ground truth, or a single image) is 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import numpy as np

from tasks.core.bootstrap import (
    MINIMUM_CLUSTERS,
    REPLICATES,
    UNKNOWN,
    Bootstrap,
    cluster_bootstrap,
    percentile_interval,
    ratio,
)
from tasks.core.entities import Band, ClassEvaluation, Evaluation, Interval, Task, ThresholdsBy, content_id
from tasks.core.errors import DataError
from tasks.core.matching import MATCHING_FLOOR, Booleans, Floats, Integers, Matches
from tasks.core.settings import DEFAULT_THRESHOLD, Costs
from tasks.core.thresholds import (
    SILENCE,
    Cost,
    Criterion,
    FBeta,
    best_threshold,
    by_image,
    counted,
    rows_of_class,
    threshold_interval,
)

BAND_EDGES = (MATCHING_FLOOR, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


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
    costs: Costs | None = None,
    confidence_floor: float = 0.05,
    coco: Mapping[str, float] | None = None,
    ap50: Mapping[str, float] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Evaluation:
    """The evaluation of a model on labelled images: thresholds, recall, precision, bands and blind misses.

    clusters: camera x hour of every image. class_names: the project's class list. thresholds: the operating thresholds
    in force, by class name; without them those of least cost are fitted where there are `costs`, else those of best
    F-beta; where only the top class counts there are none. task: what the model does. coco, ap50: figures from
    elsewhere that belong into the record.

    Intervals are 95% of a cluster bootstrap; all but the thresholds' own hold the thresholds fixed. The id follows
    from the content, `created_at` left out. Raises DataError where clusters or class names do not fit the matches.
    """
    _check_lengths(matches, clusters, class_names)
    bootstrap = cluster_bootstrap(clusters, replicates=replicates, seed=seed)
    matches = _answers(matches)
    chosen_by = _chosen_by(matches, thresholds, costs)
    classes = {}
    counts = np.zeros((3, matches.images), np.int64)  # pooled over the classes
    cost_by_image = np.zeros(matches.images)
    for class_id, name in enumerate(class_names):
        of_class = rows_of_class(matches, class_id)
        cost = Cost(*costs.of(name)) if costs else None
        if chosen_by == "top_class":
            threshold, interval = DEFAULT_THRESHOLD, (DEFAULT_THRESHOLD, DEFAULT_THRESHOLD)
        elif thresholds is None:
            criterion: Criterion = cost or FBeta(beta)
            threshold = best_threshold(of_class, criterion)
            interval = threshold_interval(of_class, bootstrap, criterion)
        else:
            threshold = thresholds.get(name, DEFAULT_THRESHOLD)
            interval = (threshold, threshold)  # given, not estimated
        classes[name] = _class_evaluation(
            of_class, threshold, interval, bootstrap, confidence_floor, (ap50 or {}).get(name)
        )
        of_images = _truths_hits_and_kept(of_class, threshold)
        counts += of_images
        if cost:
            cost_of_images = cost.of(*of_images)
            cost_by_image += cost_of_images
            classes[name] = classes[name].model_copy(
                update={
                    "cost_an_image": _mean(cost_of_images),
                    "cost_interval": _mean_interval(bootstrap, cost_of_images),
                    "no_threshold_pays": chosen_by == "costs" and threshold == SILENCE and not cost.pays(*of_images),
                }
            )

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
        warnings=_warnings(bootstrap, classes, fitted=chosen_by in ("f_beta", "costs")),
        thresholds_by=chosen_by,
        beta=beta if chosen_by == "f_beta" else None,
        costs=costs,
        cost_an_image=_mean(cost_by_image) if costs else None,
        cost_interval=_mean_interval(bootstrap, cost_by_image) if costs else None,
    )
    content = evaluation.model_dump_json(exclude={"evaluation", "created_at"})
    return evaluation.model_copy(update={"evaluation": content_id(content)})


def _chosen_by(matches: Matches, thresholds: Mapping[str, float] | None, costs: Costs | None) -> ThresholdsBy:
    if matches.top_only:
        return "top_class"
    if thresholds is not None:
        return "given"
    return "costs" if costs else "f_beta"


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
    return by_image(matches, matches.truths.image[missed(matches, thresholds)])


def has_miss(matches: Matches, thresholds: Floats) -> Booleans:
    """(images,) whether anything was missed in it."""
    return misses_by_image(matches, thresholds) > 0


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
        lost_by_image = by_image(of_class, truths.image[lost])
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
    truths, detections = of_class.truths, counted(of_class.detections)
    hits = truths.image[_is_found(of_class, threshold)]
    kept = detections.image[(detections.confidence >= threshold) | of_class.top_only]
    return np.stack([by_image(of_class, image) for image in (truths.image, hits, kept)])


def _share(part: Integers, whole: Integers) -> float | None:
    return float(part.sum() / whole.sum()) if whole.any() else None


def _share_interval(bootstrap: Bootstrap, part: Integers, whole: Integers) -> Interval:
    """The 95% interval of `part.sum() / whole.sum()`, two figures an image."""
    if bootstrap.units < 2:
        return UNKNOWN
    replicates = bootstrap.replicates(bootstrap.sums(part, whole))
    return percentile_interval(ratio(replicates[:, 0], replicates[:, 1])) or UNKNOWN


def _mean(figure: Floats) -> float | None:
    return float(figure.mean()) if len(figure) else None


def _mean_interval(bootstrap: Bootstrap, figure: Floats) -> Interval | None:
    """The 95% interval of the mean of one figure an image; None for less than two units."""
    if bootstrap.units < 2:
        return None
    unit = float(figure.max()) or 1.0  # what is drawn has the range of float32
    replicates = bootstrap.replicates(bootstrap.sums(figure / unit, np.ones(len(figure))))
    low, high = percentile_interval(ratio(replicates[:, 0], replicates[:, 1])) or UNKNOWN
    return low * unit, high * unit


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
    for name, c in classes.items():
        if c.no_threshold_pays:
            certain = "" if c.precision is None else ", but for detections of confidence 1"
            warnings.append(f"no threshold pays for class {name}: the device says nothing of it{certain}")
    undetected = [
        name
        for name, c in classes.items()
        if c.ground_truths and c.blind == c.ground_truths and not c.no_threshold_pays
    ]
    if undetected:
        threshold = f", so the threshold is {DEFAULT_THRESHOLD}" if fitted else ""
        warnings.append(f"no true detection{threshold}: {', '.join(undetected)}")
    return tuple(warnings)
