"""Predictions <-> labels, matched once for every threshold.

Per image and class, in descending confidence, each detection takes the unmatched ground truth of its class with the
highest IoU >= 0.5. What a threshold cuts away comes after everything that it keeps and so cannot have changed it:
one pass from 0.005 up serves every threshold. With s(g) the confidence of the detection that took ground truth g,

    g is missed at threshold t    exactly when    s(g) < t, or nothing took g

Match first, cut afterwards: a matcher that drops low confidences first destroys the evidence of where the misses are.

A ground truth that nothing took is blind, of the first kind that applies, judged against all detections from 0.005 up
(in the spirit of TIDE, Bolya et al. 2020):

    localisation      a detection of its class with 0.1 <= IoU < 0.5
    classification    a detection of another class with IoU >= 0.5
    unseen            neither

Crowd regions follow COCO. They are neither hit nor missed and have no row in the result. A detection that took no
ground truth and has at least half of its area inside a crowd region of its class is ignored: neither true nor false.

Where both sides have masks or keypoints, a pair that agrees with less than 0.5 is taken apart again (shapes.py).
Classification has no boxes (classes_of_images.py).

Nothing depends on the order of the input. Detections of equal confidence go by their coordinates, then their class;
ground truths of equal IoU go by their coordinates.
"""

from tasks.core.matching.boxes_of_images import MATCHING_FLOOR, MAX_DETECTIONS
from tasks.core.matching.classes_of_images import ClassifiedImage, match_classes
from tasks.core.matching.match import LOCALISATION_IOU, MATCHING_IOU, match, match_image
from tasks.core.matching.outcome import (
    Booleans,
    Floats,
    GroundTruths,
    ImageResult,
    Integers,
    MatchedDetections,
    MatchedTruths,
    Matches,
)

__all__ = [
    "LOCALISATION_IOU",
    "MATCHING_FLOOR",
    "MATCHING_IOU",
    "MAX_DETECTIONS",
    "Booleans",
    "ClassifiedImage",
    "Floats",
    "GroundTruths",
    "ImageResult",
    "Integers",
    "MatchedDetections",
    "MatchedTruths",
    "Matches",
    "match",
    "match_classes",
    "match_image",
]
