"""What a person drew in the App as a label, and the reasons for which it is not taken.

The App keeps boxes as left, top, width, height in shares of the image. Its page shows the classes of the batch alone,
but its server takes any, and editing in a filtered view deletes the boxes that the filter hides: both are found here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from tasks.adapters.labels.dataset import BadBox, checked_box, number
from tasks.core.boxes import iou_matrix
from tasks.core.corrections import SAME_PIXELS
from tasks.core.entities import Label, LabelBox, Sample, Xyxy
from tasks.core.errors import LabelsInvalid
from tasks.core.matching import LOCALISATION_IOU

TO_DO, DONE, SKIPPED = "todo", "done", "skip"
STATES = (TO_DO, DONE, SKIPPED)
CONFIRMED_TAG = "confirmed empty"  # on an image, instead of the field `confirm`
VANISHED_SHARE = 0.5  # of the boxes that a person began with; when more are gone, something else may have deleted them
FEW = 2  # boxes; of fewer, one that is gone says nothing
LONGEST_REASON = 200


def fraction_of(xyxy: Xyxy, width: int, height: int) -> list[float]:
    """A box in pixels as the App's left, top, width, height, in shares of the image."""
    x1, y1, x2, y2 = xyxy
    return [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]


def pixels_of(bounding_box: Any, width: int, height: int) -> Xyxy:
    """The inverse of `fraction_of`: exact to the 4th decimal of a pixel, in which boxes are kept.

    Raises BadBox for what is not four numbers, lies outside the image, or has no area.
    """
    if not isinstance(bounding_box, Sequence) or isinstance(bounding_box, str) or len(bounding_box) != 4:
        raise BadBox("label that cannot be read", f"box {str(bounding_box)[:60]} is not four numbers")
    left, top, wide, high = (number(value, "a side of a box") for value in bounding_box)
    return checked_box((left * width, top * height, (left + wide) * width, (top + high) * height), width, height)


def label_of(
    document: Mapping[str, Any],
    sample: Sample,
    seed: Label | None,
    taken: Label | None,
    class_names: Sequence[str],
    annotator: str,
    moment: datetime,
) -> Label | None:
    """What a person said about one image, None while it is to do.

    document: the sample as MongoDB holds it. seed: what the person began with. taken: what was taken of it before.
    Raises LabelsInvalid where it cannot be taken as it is, with what to do about it.
    """
    state = document.get("review_status") or TO_DO
    if state == TO_DO:
        return None
    if state not in STATES:
        raise LabelsInvalid(f"review_status {str(state)[:40]!r} is none of {', '.join(STATES)}: choose one of them")
    known = {"sample_id": sample.sample_id, "annotator": annotator, "labelled_at": moment}
    if state == SKIPPED:
        reason = str(document.get("skip_reason") or "").strip()[:LONGEST_REASON]
        return Label(status="skipped", reason=reason, **known)
    boxes = boxes_of(document, sample, class_names)
    if not is_confirmed(document) and not (taken is not None and taken.boxes == boxes):
        doubts = (collapse(before.boxes if before else (), boxes) for before in (seed, taken))
        if doubt := next(filter(None, doubts), ""):
            raise LabelsInvalid(f"{doubt}: look again, and switch `confirm` on if that is right")
    return Label(boxes=boxes, **known)


def boxes_of(document: Mapping[str, Any], sample: Sample, class_names: Sequence[str]) -> tuple[LabelBox, ...]:
    """The boxes of `human` in pixels, in their order. Raises LabelsInvalid for the first bad one."""
    drawn = (document.get("human") or {}).get("detections") or ()
    boxes = []
    for place, detection in enumerate(drawn, start=1):
        name = detection.get("label")
        if name not in class_names:
            what = "has no class" if name is None else f"is of class {str(name)[:60]!r}"
            raise LabelsInvalid(f"box {place} {what}: choose one of {', '.join(class_names)}")
        try:
            xyxy = pixels_of(detection.get("bounding_box"), sample.width, sample.height)
        except BadBox as error:
            raise LabelsInvalid(f"{name}, box {place}: {error.reason}: {error}: mend it or delete it") from None
        boxes.append(LabelBox(class_name=name, xyxy=xyxy, crowd=bool(detection.get("iscrowd"))))
    return tuple(boxes)


def is_confirmed(document: Mapping[str, Any]) -> bool:
    """The reviewer's word that boxes which look lost are right as they are."""
    return bool(document.get("confirm")) or CONFIRMED_TAG in (document.get("tags") or ())


def collapse(seed: Sequence[LabelBox], boxes: Sequence[LabelBox]) -> str:
    """What looks as if boxes were lost rather than corrected, in words; empty where nothing does.

    All boxes of the seed are gone; more than half of two or more are, because nothing is left where they were (IoU
    below 0.1, whatever the class); or two or more boxes are one and the same.
    """
    if seed and not boxes:
        return f"all {len(seed)} boxes that were there at first are gone"
    if len(boxes) >= FEW:
        corners = np.array([box.xyxy for box in boxes], np.float64)
        if np.ptp(corners, axis=0).max() < SAME_PIXELS:
            return f"its {len(boxes)} boxes lie on one another"
    gone = vanished(seed, boxes)
    if gone >= FEW and gone > VANISHED_SHARE * len(seed):
        return f"{gone} of the {len(seed)} boxes that were there at first are gone"
    return ""


def vanished(seed: Sequence[LabelBox], boxes: Sequence[LabelBox]) -> int:
    """Boxes of `seed` where nothing is drawn any more."""
    if not seed or not boxes:
        return len(seed)
    iou = iou_matrix([box.xyxy for box in seed], [box.xyxy for box in boxes])
    return int((iou.max(axis=1) < LOCALISATION_IOU).sum())
