"""What people begin with: the boxes that a model saw, where that does not measure it."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.adapters.labels.dataset import BadBox, checked_box
from tasks.core.corrections import count_corrections
from tasks.core.entities import STUB, Batch, Label, LabelBox, Sample
from tasks.core.settings import DEFAULT_THRESHOLD, Thresholds

OTHER = "pre-annotator "  # what seeds begin their signature with that another model than the device's made


def pre_annotations(batch: Batch, thresholds: Thresholds) -> dict[str, Label]:
    """Sample id -> what the device's model saw at or above the operating thresholds, for the images to seed."""
    return {
        sample.sample_id: pre_annotation(sample, batch.class_names, thresholds)
        for sample in batch.samples
        if is_seeded(batch, sample)
    }


def is_seeded(batch: Batch, sample: Sample) -> bool:
    """Whether people see pre-annotations: never on test and calibration images, nor where there was no model."""
    return may_be_seeded(batch, sample) and sample.model_version != STUB


def may_be_seeded(batch: Batch, sample: Sample) -> bool:
    """Whether people may see boxes of any model: never on test and calibration images."""
    return sample.sample_id not in batch.unseeded and batch.origin == "devices"


def pre_annotation(sample: Sample, class_names: Sequence[str], thresholds: Thresholds) -> Label:
    """What the model saw in a sample at the operating thresholds, in the form of a label."""
    boxes = []
    for detection in sample.detections:
        wanted = detection.confidence >= thresholds.get(detection.class_name, DEFAULT_THRESHOLD)
        if detection.class_name not in class_names or not wanted:
            continue
        try:
            xyxy = checked_box(detection.xyxy, sample.width, sample.height)
        except BadBox:  # a device may write anything; what cannot be drawn is not shown
            continue
        boxes.append(LabelBox(class_name=detection.class_name, xyxy=xyxy))
    return Label(
        sample_id=sample.sample_id,
        boxes=tuple(boxes),
        annotator=sample.model_version,
        labelled_at=sample.captured_at,
        seeded=True,
    )


def with_corrections(label: Label, seed: Label | None) -> Label:
    """The label with what we know better than its file: was it seeded, and how much of the seed was corrected.

    What comes from where people label is a person's, whatever its file says: only the loop itself accepts predictions.
    Corrections are those of the device's model; where people began with another one's boxes, `seeded_by` names it and
    there are none.
    """
    other = seed.annotator if seed is not None and seed.annotator.startswith(OTHER) else ""
    known = {"origin": "human", "seeded": seed is not None, "seeded_by": other, "corrections": 0}
    if seed is not None and not other and label.status == "done":
        known["corrections"] = count_corrections(seed.boxes, label.boxes)
    return label.model_copy(update=known)
