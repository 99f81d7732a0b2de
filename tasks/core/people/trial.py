"""Trial batches: do people label as they should, by the images whose label is known?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.core.entities import Detections, Label
from tasks.core.matching import GroundTruths, ImageResult, match

Verdict = Literal["accepted", "open", "doubtful"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Boxes of people against gold labels: a box agrees with one of its class at IoU 0.5 or more, one to one.

    images: labelled ones among the gold samples; skipped ones do not count.
    """

    images: int
    agreed: int
    drawn: int
    gold: int

    @property
    def f1(self) -> float | None:
        """2 * agreed / (drawn + gold), the harmonic mean of precision and recall; 1 where nothing is there and nothing
        was drawn; None without an image."""
        if not self.images:
            return None
        both = self.drawn + self.gold
        return 2 * self.agreed / both if both else 1.0


def agreement_with_gold(labels: Mapping[str, Label], gold: Mapping[str, Label]) -> Agreement:
    """sample id -> label, of people and of gold. Crowd boxes of gold are neither asked for nor held against anybody."""
    both = sorted(sample_id for sample_id in gold if sample_id in labels and labels[sample_id].status == "done")
    names = sorted({box.class_name for i in both for label in (labels[i], gold[i]) for box in label.boxes})
    matches = match([ImageResult(as_detections(labels[i], names), as_truths(gold[i], names)) for i in both])
    counted = matches.detections[~matches.detections.is_ignored]
    return Agreement(len(both), int(counted.is_true.sum()), len(counted), len(matches.truths))


def verdict(agreement: Agreement, complete: bool, least: float) -> Verdict:
    """accepted: all is labelled and agrees. doubtful: all is labelled, and a person must decide. Else open."""
    if not complete:
        return "open"
    return "accepted" if agreement.f1 is not None and agreement.f1 >= least else "doubtful"


def as_detections(label: Label, class_names: Sequence[str]) -> Detections:
    """A person's boxes in the place of a model's, all equally sure."""
    boxes = label.boxes
    return Detections(
        np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4),
        np.ones(len(boxes), np.float32),
        np.array([class_names.index(box.class_name) for box in boxes], np.int64),
        tuple(class_names),
    )


def as_truths(label: Label, class_names: Sequence[str]) -> GroundTruths:
    boxes = label.boxes
    return GroundTruths(
        np.array([box.xyxy for box in boxes], np.float64).reshape(-1, 4),
        np.array([class_names.index(box.class_name) for box in boxes], np.int64),
        np.array([box.crowd for box in boxes], np.bool_),
    )
