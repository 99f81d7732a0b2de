"""Predictions that are taken as labels in bulk, and what such labels are kept away from.

A prediction says nothing about the model that made it. So these labels train and do nothing else: they never stand for
a test or calibration image, nor beside or over a person's label of the same image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.core.entities import STUB, Batch, Label, Sample
from tasks.core.people.batching import Doubts, misses_and_boxes
from tasks.core.settings import Thresholds
from tasks.core.settings.base import DEFAULT_THRESHOLD
from tasks.core.splits import LabelledSample, assign_split

MEASURES = "test or calibration images, which people label"
LABELLED = "labelled by a person already"
ACCEPTED = "accepted before"
GOLD = "gold samples, which measure people"
UNSEEN = "without any pre-annotation"
OTHER_CLASS = "with a pre-annotation of another class"
NOT_SURE = "with a pre-annotation that is not sure enough"
DOUBTFUL = "in which too much may have been missed"

HELD_OUT = "label accepted in bulk, of an image that measures"
OUTDONE = "label accepted in bulk, where a person's label exists"


@dataclass(frozen=True, slots=True)
class Choice:
    """The samples whose predictions can be accepted, and how many others cannot, by reason."""

    samples: tuple[Sample, ...]
    refused: dict[str, int]


def acceptable(
    batch: Batch,
    labels: Mapping[str, Label],
    thresholds: Thresholds,
    doubts: Doubts,
    *,
    above: float,
    below_misses: float,
    classes: Collection[str] = (),
) -> Choice:
    """Which images of a batch have pre-annotations that are all surer than `above`, and few expected misses.

    labels: sample id -> what is known of it. classes: that every pre-annotation must be of; empty: any. A detection
    below its operating threshold is no pre-annotation; together they are the expected misses m(x), which must be below
    `below_misses`.
    """
    misses, _ = misses_and_boxes(batch.samples, doubts)
    expected = dict(zip((sample.sample_id for sample in batch.samples), misses.tolist()))
    chosen: list[Sample] = []
    refused: Counter[str] = Counter()
    for sample in batch.samples:
        reason = _kept_from(batch, sample, labels.get(sample.sample_id)) or _unfit(
            sample, batch.class_names, thresholds, above, classes
        )
        if not reason and expected[sample.sample_id] >= below_misses:
            reason = DOUBTFUL
        if reason:
            refused[reason] += 1
        else:
            chosen.append(sample)
    return Choice(tuple(chosen), dict(refused))


def _kept_from(batch: Batch, sample: Sample, label: Label | None) -> str:
    """Why no prediction may stand for this image, whatever the model is sure of."""
    if sample.sample_id in batch.unseeded or assign_split(sample) != "train":
        return MEASURES
    if sample.sample_id in batch.gold:
        return GOLD
    if label is not None:
        return LABELLED if label.origin == "human" else ACCEPTED
    return ""


def _unfit(
    sample: Sample, class_names: Sequence[str], thresholds: Thresholds, above: float, classes: Collection[str]
) -> str:
    shown = [
        seen
        for seen in sample.detections
        if seen.class_name in class_names and seen.confidence >= thresholds.get(seen.class_name, DEFAULT_THRESHOLD)
    ]
    if not shown or sample.model_version == STUB:
        return UNSEEN
    if classes and any(seen.class_name not in classes for seen in shown):
        return OTHER_CLASS
    return "" if all(seen.confidence > above for seen in shown) else NOT_SURE


def kept_for_training(labelled: Iterable[LabelledSample]) -> tuple[list[LabelledSample], dict[str, int]]:
    """What may become a dataset version, and how many labels may not, by reason.

    Labels of people stay. One that was accepted in bulk goes where its image measures, in any of its batches, or where
    a person has labelled it, in whatever batch and however long ago.
    """
    labelled = list(labelled)
    measuring = {item.sample.sample_id for item in labelled if assign_split(item.sample) != "train"}
    by_people = {item.sample.sample_id for item in labelled if item.label.origin == "human"}
    kept: list[LabelledSample] = []
    left_out: Counter[str] = Counter()
    for item in labelled:
        if item.label.origin == "human":
            kept.append(item)
        elif item.sample.sample_id in measuring:
            left_out[HELD_OUT] += 1
        elif item.sample.sample_id in by_people:
            left_out[OUTDONE] += 1
        else:
            kept.append(item)
    return kept, dict(left_out)
