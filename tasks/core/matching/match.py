"""The matching itself: all images at once, and the decisions that it is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.entities import Detections
from tasks.core.matching.boxes_of_images import (
    Boxes,
    Overlaps,
    areas,
    equal_pairs,
    image_and_class,
    intersection,
    iou_by_row,
    rank_detections,
    same_class_overlaps,
    stack_detections,
    stack_truths,
)
from tasks.core.matching.outcome import (
    Booleans,
    GroundTruths,
    ImageResult,
    Integers,
    MatchedDetections,
    MatchedTruths,
    Matches,
)
from tasks.core.matching.shapes import badly_shaped

MATCHING_IOU = 0.5
LOCALISATION_IOU = 0.1
IMAGES_AT_ONCE = 2_500  # their boxes still fit into the processor's caches


def match(results: Sequence[ImageResult]) -> Matches:
    """Match all images, thousands at once. Linear in the number of boxes: 5,000 x 100 well within a second."""
    starts = range(0, max(len(results), 1), IMAGES_AT_ONCE)
    return Matches.joined([_match_at_once(results[start : start + IMAGES_AT_ONCE]) for start in starts])


def _match_at_once(results: Sequence[ImageResult]) -> Matches:
    detections = rank_detections(stack_detections(results))
    truths, crowds = stack_truths(results)

    same_class = same_class_overlaps(truths, detections)
    taker, taken = _take_greedily(same_class, truths, detections)
    bad_shape = badly_shaped(results, truths, detections, taker)
    taken[taker[bad_shape]], taker[bad_shape] = -1, -1

    best_iou = np.zeros(len(truths))
    np.maximum.at(best_iou, same_class.truth, same_class.iou)
    return Matches(
        images=len(results),
        truths=MatchedTruths(
            image=truths.image,
            row=truths.row,
            class_id=truths.class_id,
            xyxy=truths.xyxy,
            area=areas(truths.xyxy),
            confidence=np.append(detections.confidence, np.nan)[taker],  # -1 picks the nan
            detection=taker,
            blind=_blind_kinds(taker, bad_shape, same_class, truths, detections),
            best_iou=best_iou,
        ),
        detections=MatchedDetections(
            image=detections.image,
            row=detections.row,
            class_id=detections.class_id,
            xyxy=detections.xyxy,
            confidence=detections.confidence,
            is_true=taken >= 0,
            is_ignored=(taken < 0) & _in_crowd(crowds, detections),
            truth=taken,
        ),
    )


def match_image(detections: Detections, truths: GroundTruths) -> Matches:
    """Match a single image."""
    return match([ImageResult(detections, truths)])


# --- decisions -------------------------------------------------------------------------------------------------------


def _take_greedily(overlaps: Overlaps, truths: Boxes, detections: Boxes) -> tuple[Integers, Integers]:
    """For each ground truth the detection that took it, for each detection the ground truth it took; -1 for none."""
    x1, y1, x2, y2 = truths.xyxy.T
    place = np.empty(len(truths), np.int64)
    place[np.lexsort((y2, x2, y1, x1))] = np.arange(len(truths))

    pairs = np.flatnonzero(overlaps.iou >= MATCHING_IOU)
    # Detections lie in descending confidence, so their row numbers are their turns.
    keys = (place[overlaps.truth[pairs]], -overlaps.iou[pairs], overlaps.detection[pairs])
    pairs = pairs[np.lexsort(keys)]

    taker, taken = [-1] * len(truths), [-1] * len(detections)
    for truth, detection in zip(overlaps.truth[pairs].tolist(), overlaps.detection[pairs].tolist()):
        if taker[truth] < 0 and taken[detection] < 0:
            taker[truth], taken[detection] = detection, truth
    return np.array(taker, np.int64), np.array(taken, np.int64)


def _blind_kinds(
    taker: Integers, bad_shape: Booleans, same_class: Overlaps, truths: Boxes, detections: Boxes
) -> NDArray[np.str_]:
    badly_placed = bad_shape.copy()
    near = (same_class.iou >= LOCALISATION_IOU) & (same_class.iou < MATCHING_IOU)
    badly_placed[same_class.truth[near]] = True

    misnamed = np.zeros(len(truths), np.bool_)
    blind = np.flatnonzero(taker < 0)
    for some, detection in equal_pairs(truths.image[blind], detections.image):
        truth = blind[some]
        other_class = truths.class_id[truth] != detections.class_id[detection]
        truth, detection = truth[other_class], detection[other_class]
        misnamed[truth[iou_by_row(truths.xyxy[truth], detections.xyxy[detection]) >= MATCHING_IOU]] = True

    return np.select([taker >= 0, badly_placed, misnamed], ["", "localisation", "classification"], "unseen")


def _in_crowd(crowds: Boxes, detections: Boxes) -> Booleans:
    """Detections with at least half of their area in a crowd region of their class."""
    inside = np.zeros(len(detections), np.bool_)
    for crowd, detection in equal_pairs(*image_and_class(crowds, detections)):
        boxes = detections.xyxy[detection]
        both = intersection(crowds.xyxy[crowd], boxes)
        inside[detection[(both > 0) & (both >= MATCHING_IOU * areas(boxes))]] = True
    return inside
