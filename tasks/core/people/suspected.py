"""Labels that a model disagrees with so surely that somebody should look again.

In the spirit of confident learning (Northcutt, Jiang and Chuang 2021): how often a model disagrees in the same way with
labelled images that it did not train on says what its word is worth. Four kinds, in this order; no box and no detection
is in two:

    class         a sure detection of another class on a labelled box, IoU >= 0.5, and no sure one of the box's own
    place         a sure detection of its class with 0.1 <= IoU < 0.5, and none that fits
    overlooked    a sure detection that no labelled box of any class explains
    nothing there a labelled box without a sure detection, of a class that the model mostly sees

A detection is sure from its class's operating threshold on. The matching is that of an evaluation (core/matching):
crowd regions explain what lies in them and are never suspected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tasks.core.boxes import iou_matrix
from tasks.core.matching import (
    LOCALISATION_IOU,
    MATCHING_IOU,
    Booleans,
    Floats,
    ImageResult,
    Integers,
    MatchedDetections,
    MatchedTruths,
    match,
)
from tasks.core.settings import DEFAULT_THRESHOLD, Thresholds

Kind = Literal["class", "place", "overlooked", "nothing there"]
Box = tuple[float, ...]  # x1, y1, x2, y2 in pixels
PRIOR = 0.034  # labels that are wrong: the mean of ten well-known test sets (Northcutt, Athalye and Mueller 2021)
MOSTLY = 0.5  # recall above which it says something that the model sees nothing


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What the word of a model is worth, by labelled images that it did not train on.

    recall: of each class at its threshold. labelled: boxes by class. disagreements: suspects by kind, class and class
    that was seen. All shares follow Laplace's rule of succession, and are 0.5 where nothing is known.
    """

    recall: Mapping[str, float]
    labelled: Mapping[str, int]
    disagreements: Mapping[tuple[str, str, str], int]

    def worth(self, kind: Kind, class_name: str, seen_class: str) -> float:
        """How likely such a disagreement is an error of the label: PRIOR / (PRIOR + how often it comes a label)."""
        count = self.disagreements.get((kind, class_name, seen_class), 0)
        often = (count + 1) / (max(self.labelled.get(class_name, 0), count) + 2)
        return PRIOR / (PRIOR + often)


@dataclass(frozen=True, slots=True)
class Suspect:
    """One box to look at again.

    image: position in the input. gain: what a second look is expected to bring, 0 to 1. row: of the labelled box in its
    image's GroundTruths, -1 for an overlooked object. xyxy: absolute pixels, of the label, or of the detection where
    there is no label. seen_class, seen_xyxy and confidence: of the detection that speaks against the label; empty, None
    and the confidence of the detection that took the box, 0 for none, where the model sees nothing.
    """

    image: int
    kind: Kind
    gain: float
    row: int
    class_name: str
    xyxy: Box
    seen_class: str = ""
    seen_xyxy: Box | None = None
    confidence: float = 0.0


def yardstick_of(measured: Sequence[ImageResult], class_names: Sequence[str], thresholds: Thresholds) -> Yardstick:
    """measured: labelled images that the model did not train on, with what it sees from 0.005 up."""
    truths, least = match(measured).truths, threshold_of(class_names, thresholds)
    seen = truths.confidence >= least[truths.class_id]  # nan, nothing took it, is not
    labelled = np.bincount(truths.class_id, minlength=len(class_names))
    recall = (np.bincount(truths.class_id[seen], minlength=len(class_names)) + 1) / (labelled + 2)
    known = Yardstick(dict(zip(class_names, recall.tolist())), dict(zip(class_names, labelled.tolist())), {})
    found = suspects(measured, class_names, thresholds, known)
    return replace(known, disagreements=Counter((one.kind, one.class_name, one.seen_class) for one in found))


def suspects(
    results: Sequence[ImageResult], class_names: Sequence[str], thresholds: Thresholds, yardstick: Yardstick
) -> list[Suspect]:
    """The boxes to look at again, the most likely errors first; ties by image, kind and place.

    results: labelled images with what the model sees, from 0.005 up. class_names: of each class id. A gain is the worth
    of the disagreement by the yardstick, x the confidence of the detection that speaks against the label; of an
    overlooked object also x (1 - IoU) with the label that it overlaps most; against a labelled box x (1 - s/t), s being
    the confidence of the detection that took it, 0 for none, and t the threshold of its class.
    """
    found, least = match(results), threshold_of(class_names, thresholds)
    truth_rows, detection_rows = (_rows_by_image(c.image, len(results)) for c in (found.truths, found.detections))
    made: list[Suspect] = []
    for truths, detections in zip(truth_rows, detection_rows):
        look = _Look(found.truths[truths], found.detections[detections], least, class_names, yardstick)
        made += [*look.misnamed(), *look.misplaced(), *look.overlooked(), *look.nothing_there()]
    return sorted(made, key=lambda s: (-s.gain, s.image, s.kind, s.xyxy, s.class_name))


def threshold_of(class_names: Sequence[str], thresholds: Thresholds) -> Floats:
    """The operating threshold of each class id, (classes,)."""
    return np.array([thresholds.get(name, DEFAULT_THRESHOLD) for name in class_names], np.float64)


def kinds_counted(found: Sequence[Suspect]) -> Mapping[Kind, int]:
    """Suspects of each kind."""
    kinds: tuple[Kind, ...] = ("class", "place", "overlooked", "nothing there")
    return {kind: sum(one.kind == kind for one in found) for kind in kinds}


def _rows_by_image(image: Integers, images: int) -> list[Integers]:
    """Row numbers of each image; both columns lie in the order of the images."""
    return np.split(np.arange(len(image)), np.searchsorted(image, np.arange(1, images))) if images else []


class _Look:
    """One image: its labelled boxes, and the sure detections that took none of them, the surest first."""

    def __init__(
        self,
        truths: MatchedTruths,
        detections: MatchedDetections,
        least: Floats,
        class_names: Sequence[str],
        yardstick: Yardstick,
    ) -> None:
        sure = detections.confidence >= least[detections.class_id]
        self.truths = truths
        self.free = detections[sure & ~detections.is_true & ~detections.is_ignored]
        self.class_names, self.yardstick = class_names, yardstick
        self.score = np.nan_to_num(truths.confidence)
        threshold = least[truths.class_id]
        self.open_truths = np.isnan(truths.confidence) | (truths.confidence < threshold)
        self.doubt = 1 - np.divide(self.score, threshold, out=np.zeros(len(truths)), where=threshold > 0)
        self.open_free = np.ones(len(self.free), np.bool_)
        self.iou = iou_matrix(truths.xyxy, self.free.xyxy)
        self.same = truths.class_id[:, None] == self.free.class_id

    def misnamed(self) -> Iterator[Suspect]:
        return self._against("class", ~self.same & (self.iou >= MATCHING_IOU))

    def misplaced(self) -> Iterator[Suspect]:
        return self._against("place", self.same & (self.iou >= LOCALISATION_IOU) & (self.iou < MATCHING_IOU))

    def overlooked(self) -> Iterator[Suspect]:
        best = self.iou.max(axis=0, initial=0.0)
        for d in np.flatnonzero(self.open_free & (best < MATCHING_IOU)).tolist():
            name, box, confidence = seen = self._seen(d)
            gain = self.yardstick.worth("overlooked", name, name) * confidence * (1 - float(best[d]))
            yield Suspect(int(self.free.image[d]), "overlooked", gain, -1, name, box, *seen)

    def nothing_there(self) -> Iterator[Suspect]:
        on_it = (self.iou >= MATCHING_IOU).any(axis=1)  # a sure detection, of whatever class: something is there
        for t in np.flatnonzero(self.open_truths & ~on_it).tolist():
            name = self.class_names[self.truths.class_id[t]]
            if self.yardstick.recall.get(name, 0.0) > MOSTLY:
                gain = self.yardstick.worth("nothing there", name, "") * float(self.doubt[t])
                yield self._label(t, "nothing there", gain, ("", None, float(self.score[t])))

    def _against(self, kind: Kind, fits: Booleans) -> Iterator[Suspect]:
        """Pairs of an open box and an open detection, the surest detections first, each with the box it overlaps most.

        Neither is open any more.
        """
        for d in np.flatnonzero((fits & self.open_truths[:, None]).any(axis=0) & self.open_free).tolist():
            iou = np.where(fits[:, d] & self.open_truths, self.iou[:, d], -1.0)
            t = int(iou.argmax())
            if iou[t] < 0:  # a surer one has it
                continue
            self.open_truths[t] = self.open_free[d] = False
            name, _, confidence = seen = self._seen(d)
            worth = self.yardstick.worth(kind, self.class_names[self.truths.class_id[t]], name)
            yield self._label(t, kind, worth * confidence * float(self.doubt[t]), seen)

    def _label(self, t: int, kind: Kind, gain: float, seen: tuple[str, Box | None, float]) -> Suspect:
        name, box = self.class_names[self.truths.class_id[t]], tuple(self.truths.xyxy[t].tolist())
        return Suspect(int(self.truths.image[t]), kind, gain, int(self.truths.row[t]), name, box, *seen)

    def _seen(self, d: int) -> tuple[str, Box, float]:
        box = tuple(self.free.xyxy[d].tolist())
        return self.class_names[self.free.class_id[d]], box, float(self.free.confidence[d])
