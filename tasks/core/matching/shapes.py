"""Does a detection that took a ground truth by its box also have its shape?

Matching is by box. Where both sides have masks, or keypoints, a pair that agrees with less than 0.5 is taken apart
again: the ground truth is blind, of the kind `localisation`, and the detection is false. Nobody else takes that ground
truth, so that each pair is judged by itself and one pass still serves every threshold.

    masks        IoU of their pixels
    keypoints    object keypoint similarity (COCO, cocoeval.py, computeOks): the mean over labelled keypoints i of
                 exp(-d_i^2 / (2 * area * (2 * sigma_i)^2)), d_i the distance in pixels, area that of the object

A ground truth without any labelled keypoint (visibility 0) has no similarity, as COCO leaves it out, and its pair
stands. COCO has sigmas for the 17 keypoints of people; any other number has 1 / number for each, as ultralytics does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import DataError
from tasks.core.masks import mask_iou
from tasks.core.matching.boxes_of_images import Boxes
from tasks.core.matching.outcome import Booleans, Floats, ImageResult, Integers

MATCHING_SIMILARITY = 0.5  # of a mask's IoU, and of OKS
COCO_SIGMAS = np.array(
    [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]
) / 10.0  # fmt: skip


def badly_shaped(results: Sequence[ImageResult], truths: Boxes, detections: Boxes, taker: Integers) -> Booleans:
    """(truths,) whose detection has their box and not their shape. taker: (truths,) rows of detections, -1 for none."""
    bad = np.zeros(len(truths), np.bool_)
    if not any(has_shapes(result) for result in results):
        return bad
    for row in np.flatnonzero(taker >= 0).tolist():
        result = results[int(truths.image[row])]
        found = similarity(result, int(truths.row[row]), int(detections.row[taker[row]]))
        bad[row] = found is not None and found < MATCHING_SIMILARITY
    return bad


def has_shapes(result: ImageResult) -> bool:
    """Whether both sides have masks, or keypoints."""
    truths, found = result.truths, result.detections
    masks = truths.masks is not None and found.masks is not None
    return masks or (truths.keypoints is not None and found.keypoints is not None)


def similarity(result: ImageResult, truth: int, detection: int) -> float | None:
    """How well a detection has the shape of a ground truth, 0 to 1, the worse of masks and keypoints; None for neither.

    Raises DataError for masks of different images and for different numbers of keypoints.
    """
    truths, found = result.truths, result.detections
    agreement = []
    if truths.masks is not None and found.masks is not None:
        wanted = truths.masks[truth]
        if wanted is not None:
            agreement.append(mask_iou(wanted, found.masks[detection]))
    if truths.keypoints is not None and found.keypoints is not None:
        oks = keypoint_similarity(truths.keypoints[truth], found.keypoints[detection], truths.area_of(truth))
        agreement += [] if oks is None else [oks]
    return min(agreement, default=None)


def keypoint_similarity(truth: NDArray[Any], found: NDArray[Any], area: float) -> float | None:
    """OKS of one object: (k, 3) x, y and visibility or confidence. None when none of the truth's is labelled."""
    if truth.shape != found.shape:
        raise DataError(
            f"keypoints: {found.shape[0]} detected for {truth.shape[0]} labelled ones: label the model's own"
        )
    labelled = truth[:, 2] > 0
    if not labelled.any():
        return None
    squares = ((found[:, :2].astype(np.float64) - truth[:, :2]) ** 2).sum(axis=1)
    spread = (2 * sigmas_of(len(truth))) ** 2
    return float(np.exp(-squares / spread / (area + np.spacing(1)) / 2)[labelled].mean())


def sigmas_of(keypoints: int) -> Floats:
    """(keypoints,) how far annotators disagree about each, in parts of the object's size."""
    return COCO_SIGMAS if keypoints == len(COCO_SIGMAS) else np.full(keypoints, 1.0 / max(keypoints, 1))
