"""Weighted recall and precision with their intervals: sums over images, each weighted by 1 / p."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.bands import missed
from tasks.core.bootstrap import UNKNOWN, Bootstrap, percentile_interval, ratio
from tasks.core.entities import Estimate, Interval
from tasks.core.errors import DataError
from tasks.core.field.records import FieldFigures
from tasks.core.matching import Floats, Matches

TAIL = 0.025  # beyond each end of a 95% interval


@dataclass(frozen=True, slots=True)
class Counts:
    """What was there, found and reported in each image: (images, classes) each. hits are objects and detections."""

    objects: Floats
    hits: Floats
    detections: Floats


def counts_of(matches: Matches, thresholds: Floats) -> Counts:
    """Counts at the operating `thresholds`, (classes,) by class id; detections in crowd regions are left out."""
    truths, detections = matches.truths, matches.detections[~matches.detections.is_ignored]
    found = truths[~missed(matches, thresholds)]
    reported = detections[detections.confidence >= thresholds[detections.class_id]]
    shape = (matches.images, len(thresholds))
    return Counts(*(_by_image_and_class(rows.image, rows.class_id, shape) for rows in (truths, found, reported)))


def weights_of(probability: Floats) -> Floats:
    """(images,) 1 / p. Raises DataError for a p that is missing, 0, above 1 or no number."""
    bad = ~((probability > 0) & (probability <= 1))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"image {row}: inclusion probability {probability[row]}, which must lie above 0 and be at most 1: leave "
            "the image out, or give the probability that it was kept with"
        )
    return np.asarray(1.0 / probability)


def effective_images(weights: Floats) -> float:
    """How many images of equal weight would say as much: (sum w)^2 / sum w^2 (Kish 1965); 0 for none."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def figures(
    objects: NDArray[Any], hits: NDArray[Any], detections: NDArray[Any], weights: Floats, bootstrap: Bootstrap
) -> FieldFigures:
    """Recall and precision of images: (images,) each. An image with weight 0 is none of those that are asked about.

    Intervals are 95% of a bootstrap over clusters. Where every replicate says the same, as without a single miss, the
    end that is open is that of an exact binomial interval (Clopper and Pearson 1934) of the effective images.
    """
    there = weights > 0
    heaviest = float(weights.max(initial=0.0))
    replicates = bootstrap.replicates(bootstrap.sums(weights * objects, weights * hits, weights * detections))
    return FieldFigures(
        recall=_estimate(hits, objects, weights, replicates[:, 1], replicates[:, 0]),
        precision=_estimate(hits, detections, weights, replicates[:, 1], replicates[:, 2]),
        images=int(there.sum()),
        effective_images=effective_images(weights),
        largest_weight=heaviest / float(weights.sum()) if heaviest else 0.0,
        objects=int(objects[there].sum()),
        misses=int((objects - hits)[there].sum()),
        detections=int(detections[there].sum()),
    )


def _estimate(
    part: NDArray[Any], whole: NDArray[Any], weights: Floats, parts: Floats, wholes: Floats
) -> Estimate | None:
    total = float((weights * whole).sum())
    if total <= 0:
        return None
    value = min(1.0, float((weights * part).sum()) / total)
    low, high = _interval(value, ratio(parts, wholes), effective_images(weights[(whole > 0) & (weights > 0)]))
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def _interval(value: float, replicates: Floats, images: float) -> Interval:
    """95%; `images` are the effective ones that have anything to say of it."""
    low, high = percentile_interval(replicates) or UNKNOWN
    if high - low > 1e-6:  # replicates are sums of float32
        return max(0.0, low), min(1.0, high)
    bound = TAIL ** (1 / max(images, 1.0))
    if value >= 1 - 1e-6:
        return bound, 1.0
    return (0.0, 1 - bound) if value <= 1e-6 else UNKNOWN


def _by_image_and_class(image: NDArray[np.int64], class_id: NDArray[np.int64], shape: tuple[int, int]) -> Floats:
    cells = np.bincount(image * shape[1] + class_id, minlength=shape[0] * shape[1])
    return cells.reshape(shape).astype(np.float64)
