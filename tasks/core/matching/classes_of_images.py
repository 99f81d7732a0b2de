"""Classification: images with one class or several, and the probability that a model gave each class.

It is the matching of boxes with the boxes left out. Every label is a ground truth, every class from 0.005 up a
candidate, and s(g) is the probability given to the class of g. It is blind, of the kind `unseen`, when that is below
0.005: the other kinds make no sense without places.

    several labels an image    g is missed at threshold t exactly when s(g) < t, or it is blind; as with boxes
    one label an image         the answer is the top class, whatever its probability: g is missed exactly when another
                               class is the top one, or nothing is; no threshold is tried (`Matches.top_only`)

Of equally probable classes the first one of the class list is the top one, as argmax has it. Nothing else depends on
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import DataError, LabelsInvalid
from tasks.core.matching.boxes_of_images import MATCHING_FLOOR
from tasks.core.matching.outcome import Integers, MatchedDetections, MatchedTruths, Matches


@dataclass(frozen=True, slots=True)
class ClassifiedImage:
    """One labelled image and what a classifier said of it.

    probability: (classes,) 0 to 1, by class id; 0 for a class of which the model said nothing. labels: (k,) class ids;
    none for an image that was reviewed and is of no class of the list.

    Raises DataError for a probability outside 0..1 or not a number, LabelsInvalid for a class that is not in the list
    or is given twice.
    """

    probability: NDArray[Any]
    labels: Integers

    def __post_init__(self) -> None:
        bad = ~((self.probability >= 0) & (self.probability <= 1))
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"class {row}: probability {self.probability[row]} is not within 0..1: check the model's output"
            )
        outside = (self.labels < 0) | (self.labels >= len(self.probability))
        if outside.any():
            label = self.labels[int(outside.argmax())]
            raise LabelsInvalid(f"label: class {label} is not in the list of {len(self.probability)} classes")
        if len(np.unique(self.labels)) < len(self.labels):
            raise LabelsInvalid(f"labels {self.labels.tolist()}: a class is given twice: name each one once")


def match_classes(results: Sequence[ClassifiedImage], *, top_only: bool) -> Matches:
    """Labels <-> probabilities of all images. top_only: images have one label, and the answer is the top class.

    Boxes and IoUs of the outcome are 0. Detections are all classes from 0.005 up, `is_true` where the image has that
    label, whether or not it is the top class. Raises DataError for images with different numbers of classes, and with
    `top_only` LabelsInvalid for an image with several labels.
    """
    classes = {len(result.probability) for result in results}
    if len(classes) > 1:
        raise DataError(f"classification: images with {sorted(classes)} probabilities: give one for each class")
    crowded = next((n for n, result in enumerate(results) if top_only and len(result.labels) > 1), None)
    if crowded is not None:
        raise LabelsInvalid(f"image {crowded}: has {len(results[crowded].labels)} labels where one is the answer")
    probability = np.array([result.probability for result in results], np.float64).reshape(
        len(results), max(classes, default=0)
    )

    of_truth = np.repeat(np.arange(len(results)), [len(result.labels) for result in results])
    labels = np.concatenate([np.zeros(0, np.int64), *(result.labels for result in results)]).astype(np.int64)
    image, class_id = np.nonzero(probability >= MATCHING_FLOOR)
    confidence = probability[image, class_id]
    order = np.lexsort((class_id, -confidence, image))
    image, class_id, confidence = image[order], class_id[order], confidence[order]

    truth = _rows_at(probability.shape, of_truth, labels)[image, class_id]
    detection = _rows_at(probability.shape, image, class_id)[of_truth, labels]
    return Matches(
        images=len(results),
        truths=MatchedTruths(
            image=of_truth,
            row=np.concatenate([np.zeros(0, np.int64), *(np.arange(len(result.labels)) for result in results)]),
            class_id=labels,
            xyxy=np.zeros((len(labels), 4)),
            area=np.zeros(len(labels)),
            confidence=np.append(confidence, np.nan)[detection],  # -1 picks the nan
            detection=detection,
            blind=np.where(detection >= 0, "", "unseen"),
            best_iou=np.zeros(len(labels)),
        ),
        detections=MatchedDetections(
            image=image,
            row=class_id,
            class_id=class_id,
            xyxy=np.zeros((len(image), 4)),
            confidence=confidence,
            is_true=truth >= 0,
            is_ignored=np.zeros(len(image), np.bool_),
            truth=truth,
        ),
        top_only=top_only,
    )


def _rows_at(shape: tuple[int, ...], image: Integers, class_id: Integers) -> Integers:
    """(images, classes) which row has that image and class; -1 for none."""
    rows = np.full(shape, -1, np.int64)
    rows[image, class_id] = np.arange(len(image))
    return rows
