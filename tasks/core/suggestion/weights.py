"""How often is a doubtful detection a real object, and how many objects has the model missed in an image by that?

Below its class's operating threshold t[c] a detection does not count, so that whatever it took is a miss. For a class c
and a confidence bin k, with n detections of which TP took a ground truth (SUGGESTION.md):

    w[c,k] = (TP[c,k] + 10 * w_k) / (n[c,k] + 10)        w_k = sum over c of TP[c,k] / sum over c of n[c,k]

A class of which little was seen is drawn towards all classes together. The expected misses of an image x are

    m(x) = sum over detections with floor <= s < t[c] of w[c, bin(s)]

The device computes the same m (sampling/misses.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.core.bootstrap import ratio
from tasks.core.errors import DataError
from tasks.core.matching import Booleans, Floats, Integers, Matches
from tasks.core.settings.sampling import MISS_BINS
from tasks.core.suggestion.rules import Candidates

PRIOR_DETECTIONS = 10  # of all classes together, that every class's share is mixed with
DIGITS = 6  # of m(x), as on the device: sums in another order differ by less


def fit_weights(
    matches: Matches,
    images: Booleans | None,
    thresholds: Floats,
    class_names: Sequence[str],
    floor: float,
    *,
    bins: Sequence[float] = MISS_BINS,
) -> Floats:
    """(classes, bins) the share of detections of a class and bin that are real objects.

    images: (images,) the ones to fit to; None for all. thresholds: (classes,) by class id. floor: the device's; what
    lies below it, it never sees. bins: lower edges, ascending; each ends at the next one or at the class's threshold.

    Detections in crowd regions are neither true nor false and do not count, and where only the top class is the answer
    it is not doubtful. A bin without any detection has 0. Raises DataError where thresholds and class names do not fit
    the matches.
    """
    classes, edges = len(class_names), np.asarray(bins, np.float64)
    highest = int(matches.detections.class_id.max(initial=-1))
    if len(thresholds) != classes or highest >= classes:
        raise DataError(
            f"miss weights: {len(thresholds)} thresholds and class ids up to {highest} for {classes} class names: "
            f"give the class list that the images were matched with"
        )
    counts = ~matches.detections.is_ignored
    if matches.top_only:
        counts &= ~matches.is_top
    seen = matches.detections[counts]
    if images is not None:
        seen = seen[images[seen.image]]
    bin_of = bins_of(seen.confidence, seen.class_id, thresholds, floor, edges)
    counted = bin_of >= 0
    cells = seen.class_id[counted] * len(edges) + bin_of[counted]
    shape = (classes, len(edges))
    n = np.bincount(cells, minlength=classes * len(edges)).reshape(shape)
    true = np.bincount(cells[seen.is_true[counted]], minlength=classes * len(edges)).reshape(shape)
    pooled = np.nan_to_num(ratio(true.sum(axis=0), n.sum(axis=0)))
    return np.asarray((true + PRIOR_DETECTIONS * pooled) / (n + PRIOR_DETECTIONS))


def expected_misses(
    candidates: Candidates, weights: Floats, thresholds: Floats, floor: float, *, bins: Sequence[float] = MISS_BINS
) -> Floats:
    """(images,) m(x), to six digits; 0 for an image without a doubtful detection.

    weights: (classes, bins). thresholds: (classes,) by class id.
    """
    edges = np.asarray(bins, np.float64)
    bin_of = bins_of(candidates.confidence, candidates.class_id, thresholds, floor, edges)
    doubtful = bin_of >= 0
    each = weights[candidates.class_id[doubtful], bin_of[doubtful]]
    return np.round(np.bincount(candidates.image[doubtful], each, candidates.images), DIGITS)


def bins_of(confidence: Floats, class_id: Integers, thresholds: Floats, floor: float, edges: Floats) -> Integers:
    """(n,) the bin of each detection; -1 below the floor or the first bin, and from the class's threshold up."""
    bin_of = np.searchsorted(edges, confidence, side="right") - 1
    return np.where((confidence >= floor) & (confidence < thresholds[class_id]), bin_of, -1)
