"""How far labels of the same image agree: a person's with gold, and those of two people.

Two boxes agree when they have one class and an IoU of 0.5 or more, one to one, the most alike first. Over some images

    F1 = 2 * agreed / (boxes of one + boxes of the other)

the harmonic mean of what precision and recall would be if either were the truth (Dice 1945; as an agreement without a
truth: Hripcsak and Rothschild 2005). It is the same whoever is called the first, and 1 where neither drew a box.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tasks.core.bootstrap import Floats, cluster_bootstrap, percentile_interval, ratio
from tasks.core.boxes import iou_matrix
from tasks.core.entities import Label, LabelBox
from tasks.core.intervals import wilson
from tasks.core.matching import MATCHING_IOU

FEW_IMAGES = 10  # labelled by both; of fewer, no interval is told: it would be that of single images
GOLD = "gold"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two labels of one image. iou: summed over the boxes that agree."""

    sample_id: str
    agreed: int
    first: int
    second: int
    iou: float = 0.0

    @property
    def f1(self) -> float:
        return f1_of(self.agreed, self.first + self.second)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Between two who labelled the same images.

    f1: with its 95% interval from a bootstrap of clusters of images, None for fewer than 10 images. iou: mean over the
    boxes that agree, None where none does.
    """

    first: str
    second: str
    images: int
    f1: float
    interval: tuple[float, float] | None
    iou: float | None

    @property
    def words(self) -> str:
        if self.interval is None:
            return f"{self.f1:.2f} on {self.images} image{'s' if self.images > 1 else ''}: too few to tell"
        return f"{self.f1:.2f} ({self.interval[0]:.2f} to {self.interval[1]:.2f})"


@dataclass(frozen=True, slots=True)
class Disputed:
    """An image that people labelled unlike one another. f1: the mean over all pairs of them."""

    sample_id: str
    f1: float
    annotators: tuple[str, ...]


def f1_of(agreed: float, boxes: float) -> float:
    """boxes: of both together."""
    return 2 * agreed / boxes if boxes else 1.0


def pair_of(first: Label, second: Label, class_name: str | None = None) -> Pair:
    """Two labels of one image held against each other; by one class alone where it is named.

    Boxes of crowds are asked of nobody: those, and what lies on one of the other's crowds, do not count.
    """
    one, other = (boxes_of(label, class_name) for label in (first, second))
    one, other = without_crowds(one, other), without_crowds(other, one)
    found = agreeing(one, other)
    return Pair(first.sample_id, len(found), len(one), len(other), float(sum(found)))


def boxes_of(label: Label, class_name: str | None) -> list[LabelBox]:
    return [box for box in label.boxes if class_name is None or box.class_name == class_name]


def without_crowds(boxes: Sequence[LabelBox], others: Sequence[LabelBox]) -> list[LabelBox]:
    crowds = [box for box in others if box.crowd]
    single = [box for box in boxes if not box.crowd]
    if not crowds or not single:
        return single
    iou = iou_matrix([box.xyxy for box in single], [box.xyxy for box in crowds])
    same = np.array([[box.class_name == crowd.class_name for crowd in crowds] for box in single])
    best = np.where(same, iou, 0.0).max(axis=1)
    return [box for box, overlap in zip(single, best.tolist()) if overlap < MATCHING_IOU]


def agreeing(first: Sequence[LabelBox], second: Sequence[LabelBox]) -> list[float]:
    """The IoU of each pair of boxes that agree. Of equal ones the order follows from the boxes, not from whose they
    are: so it is the same seen from the other side."""
    if not first or not second:
        return []
    iou = iou_matrix([box.xyxy for box in first], [box.xyxy for box in second])
    likely = [
        (-iou[row, column], sorted((first[row].xyxy, second[column].xyxy)), int(row), int(column))
        for row, column in np.argwhere(iou >= MATCHING_IOU)
        if first[row].class_name == second[column].class_name
    ]
    taken_first: set[int] = set()
    taken_second: set[int] = set()
    found = []
    for negative, _, row, column in sorted(likely, key=lambda pair: pair[:2]):
        if row not in taken_first and column not in taken_second:
            taken_first.add(row)
            taken_second.add(column)
            found.append(float(-negative))
    return found


def agreement(first: str, second: str, pairs: Sequence[Pair], clusters: Sequence[str], seed: int = 0) -> Agreement:
    """Over images. clusters: camera and hour of each pair's image. Raises ValueError without a pair."""
    if not pairs:
        raise ValueError(f"{first} and {second} have labelled no image both")
    agreed = np.array([pair.agreed for pair in pairs], np.float64)
    boxes = np.array([pair.first + pair.second for pair in pairs], np.float64)
    interval = None
    if len(pairs) >= FEW_IMAGES:
        draws = cluster_bootstrap(clusters, seed=seed)
        totals = draws.replicates(draws.sums(agreed, boxes))
        drawn = ratio(2 * totals[:, 0], totals[:, 1])
        interval = widened(percentile_interval(np.where(totals[:, 1] > 0, drawn, 1.0)), agreed, boxes, draws.units)
    total = agreed.sum()
    iou = sum(pair.iou for pair in pairs) / total if total else None
    return Agreement(first, second, len(pairs), f1_of(total, boxes.sum()), interval, iou)


def widened(drawn: tuple[float, float] | None, agreed: Floats, boxes: Floats, units: int) -> tuple[float, float] | None:
    """At least as wide as that of a share of so many units: where all images agree, draws of them would be sure."""
    low, high = wilson(f1_of(agreed.sum(), boxes.sum()), units)
    return (min(low, drawn[0]), max(high, drawn[1])) if drawn else None


def with_gold(labels: Iterable[Label], gold: Mapping[str, Label]) -> dict[str, list[Pair]]:
    """Annotator -> their labels against gold, image by image. gold: sample id -> label. Skips do not count."""
    found: dict[str, list[Pair]] = {}
    for label in sorted(labels, key=lambda one: (one.annotator, one.sample_id, one.labelled_at)):
        if label.sample_id in gold and is_word_of_a_person(label):
            found.setdefault(label.annotator, []).append(pair_of(label, gold[label.sample_id]))
    return found


def between_people(labels: Iterable[Label]) -> dict[tuple[str, str], list[Pair]]:
    """(annotator, annotator) in the order of names -> their labels of the images that both have labelled."""
    by_image: dict[str, dict[str, Label]] = {}
    for label in sorted(labels, key=lambda one: one.labelled_at):  # somebody's newest word counts
        if is_word_of_a_person(label):
            by_image.setdefault(label.sample_id, {})[label.annotator] = label
    found: dict[tuple[str, str], list[Pair]] = {}
    for sample_id in sorted(by_image):
        for one, other in combinations(sorted(by_image[sample_id]), 2):
            found.setdefault((one, other), []).append(pair_of(by_image[sample_id][one], by_image[sample_id][other]))
    return found


def disputed(between: Mapping[tuple[str, str], Sequence[Pair]], least: float) -> list[Disputed]:
    """Images that people labelled unlike one another, the least alike first: their mean F1 is below `least`.

    between: as of `between_people`.
    """
    of: dict[str, list[Pair]] = {}
    who: dict[str, set[str]] = {}
    for names, pairs in between.items():
        for pair in pairs:
            of.setdefault(pair.sample_id, []).append(pair)
            who.setdefault(pair.sample_id, set()).update(names)
    found = [
        Disputed(sample_id, sum(pair.f1 for pair in pairs) / len(pairs), tuple(sorted(who[sample_id])))
        for sample_id, pairs in of.items()
    ]
    return sorted((one for one in found if one.f1 < least), key=lambda one: (one.f1, one.sample_id))


def is_word_of_a_person(label: Label) -> bool:
    return label.status == "done" and label.origin == "human"
