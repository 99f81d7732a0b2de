"""How well two labels of one image agree, and how well people agree over many images.

A box of one label agrees with a box of the other of the same class at IoU 0.5 or more, one to one, those of the highest
IoU first. Agreement is F1 = 2 * agreed / (boxes of one + boxes of the other); two empty labels agree. It is the same
from either side, and the right figure where nobody can count what both left out: kappa tends to F1 as that grows
(Hripcsak and Rothschild 2005, "Agreement, the F-measure, and reliability in information retrieval", JAMIA 12:296-298).
IoU 0.5 is that of PASCAL VOC (Everingham et al. 2010). The mean IoU of the boxes that agree tells how tightly people draw.

A crowd box is neither asked for nor held against anybody, nor is a box without a counterpart that lies in a crowd box of
its class by half of its area or more (as COCO's evaluation has it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import NDArray

from tasks.core.bootstrap import Bootstrap, cluster_bootstrap, percentile_interval, ratio
from tasks.core.boxes import areas, iou_matrix
from tasks.core.entities import Label, LabelBox
from tasks.core.intervals import wilson
from tasks.core.matching import MATCHING_IOU
from tasks.core.people.seeding import MINIMUM_IMAGES

IN_CROWD = 0.5  # share of a box's area from which on it lies in a crowd

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Boxes of two labels: those that agree, all of the one and of the other, and the IoU of the agreed ones, summed."""

    agreed: int = 0
    first: int = 0
    second: int = 0
    iou: float = 0.0

    @property
    def f1(self) -> float:
        """1 where neither label has a box."""
        both = self.first + self.second
        return 2 * self.agreed / both if both else 1.0

    @property
    def mean_iou(self) -> float | None:
        """None where no box agrees."""
        return self.iou / self.agreed if self.agreed else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two labels of one image, by class; the cluster of the image (camera x hour)."""

    sample_id: str
    cluster: str
    by_class: Mapping[str, Counts]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement over images; of one class, or of all (an empty name).

    boxes: of both sides. f1: over all boxes of all images; None without an image. interval: 95%, None where no box was
    drawn. mean_iou: of the boxes that agree.
    """

    class_name: str
    images: int
    boxes: int
    f1: float | None
    interval: tuple[float, float] | None
    mean_iou: float | None

    @property
    def is_told(self) -> bool:
        """Are there enough images to say anything?"""
        return self.images >= MINIMUM_IMAGES and self.interval is not None


def agreement(first: Label, second: Label) -> float:
    """F1 of two labels of one image, from 0 to 1."""
    return total(compare(first, second).values()).f1


def compare(first: Label, second: Label) -> dict[str, Counts]:
    """Class name -> counts, of the classes that either label has a box of."""
    names = sorted({box.class_name for label in (first, second) for box in label.boxes})
    return {name: _counts(_of_class(first, name), _of_class(second, name)) for name in names}


def total(counts: Iterable[Counts]) -> Counts:
    """Of several classes or images together, in whatever order."""
    some = list(counts)
    return Counts(
        sum(c.agreed for c in some), sum(c.first for c in some), sum(c.second for c in some), fsum(c.iou for c in some)
    )


def agreements(comparisons: Iterable[Comparison], *, replicates: int = 1000, seed: int = 0) -> list[Agreement]:
    """All classes together first, then each class; intervals from the cluster bootstrap (core/bootstrap.py).

    Comparisons of one image, by several people, count as one image: they are not independent. Where every draw gives
    the same figure, as when all agree, the bootstrap has no interval, and Wilson's of as many units stands in.
    """
    by_image: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in comparisons:
        by_image.setdefault((comparison.sample_id, comparison.cluster), []).append(comparison)
    images = [by_image[key] for key in sorted(by_image)]
    bootstrap = cluster_bootstrap([cluster for _, cluster in sorted(by_image)], replicates=replicates, seed=seed)
    names = sorted({name for some in images for comparison in some for name in comparison.by_class})
    whole = [total(counts for one in some for counts in one.by_class.values()) for some in images]
    found = [_agreement("", whole, bootstrap)]
    for name in names:
        of_class = [total(one.by_class[name] for one in some if name in one.by_class) for some in images]
        found.append(_agreement(name, of_class, bootstrap))
    return found


def agreement_words(found: Agreement) -> str:
    """'0.93 (0.90 to 0.95)', or why nothing can be said."""
    if found.f1 is None:
        return "no images"
    if not found.is_told or found.interval is None:
        return f"{found.f1:.2f}, too few images to tell ({found.images} of {MINIMUM_IMAGES})" if (
            found.images < MINIMUM_IMAGES
        ) else f"{found.f1:.2f}, no boxes to tell by"
    return f"{found.f1:.2f} ({found.interval[0]:.2f} to {found.interval[1]:.2f})"


def _agreement(name: str, images: Sequence[Counts], bootstrap: Bootstrap) -> Agreement:
    """images: of each image; those without a box of either side of a class say nothing about that class."""
    counted = sum(1 for c in images if c.first + c.second) if name else len(images)
    whole = total(images)
    interval = None
    if whole.first + whole.second:
        columns = np.array([(2 * c.agreed, c.first + c.second) for c in images], np.float64).T
        drawn = bootstrap.replicates(bootstrap.sums(*columns))
        interval = percentile_interval(ratio(drawn[:, 0], drawn[:, 1]))
        if interval is not None and interval[0] == interval[1]:
            interval = wilson(whole.f1, min(bootstrap.units, counted))
    return Agreement(
        name, counted, whole.first + whole.second, whole.f1 if counted else None, interval, whole.mean_iou
    )


def _counts(first: Sequence[LabelBox], second: Sequence[LabelBox]) -> Counts:
    """Of the boxes of one class."""
    one, crowd_one = _columns(first)
    two, crowd_two = _columns(second)
    pairs = _pairs(one, two)
    left_one = np.setdiff1d(np.arange(len(one)), [i for i, _, _ in pairs])
    left_two = np.setdiff1d(np.arange(len(two)), [j for _, j, _ in pairs])
    counted_one = len(one) - int(_in_crowd(one[left_one], crowd_two).sum())
    counted_two = len(two) - int(_in_crowd(two[left_two], crowd_one).sum())
    return Counts(len(pairs), counted_one, counted_two, fsum(iou for _, _, iou in pairs))


def _pairs(first: Floats, second: Floats) -> list[tuple[int, int, float]]:
    """Boxes (n, 4) and (m, 4) that agree, one to one, the highest IoU first.

    Of equal IoU, first the pair whose two boxes come first, whichever side they are of: neither the order of the boxes
    nor that of the sides changes what is found.
    """
    iou = iou_matrix(first, second)
    rows, columns = np.nonzero(iou >= MATCHING_IOU)
    candidates = sorted(
        ((-iou[i, j], *sorted((tuple(first[i]), tuple(second[j])))), int(i), int(j)) for i, j in zip(rows, columns)
    )
    taken_rows: set[int] = set()
    taken_columns: set[int] = set()
    pairs = []
    for _, i, j in candidates:
        if i not in taken_rows and j not in taken_columns:
            taken_rows.add(i)
            taken_columns.add(j)
            pairs.append((i, j, float(iou[i, j])))
    return pairs


def _in_crowd(boxes: Floats, crowd: Floats) -> NDArray[np.bool_]:
    """Which boxes (n, 4) lie in one of the crowd boxes (m, 4)."""
    if not len(boxes) or not len(crowd):
        return np.zeros(len(boxes), np.bool_)
    upper = np.maximum(boxes[:, None, :2], crowd[None, :, :2])
    lower = np.minimum(boxes[:, None, 2:], crowd[None, :, 2:])
    sides = np.maximum(lower - upper, 0.0)
    share = ratio(sides[..., 0] * sides[..., 1], np.broadcast_to(areas(boxes)[:, None], sides.shape[:2]))
    return np.asarray((share >= IN_CROWD).any(axis=1), np.bool_)


def _columns(boxes: Sequence[LabelBox]) -> tuple[Floats, Floats]:
    """(n, 4) boxes of single objects, and (m, 4) of crowds."""
    single, crowd = ([box.xyxy for box in boxes if box.crowd == is_crowd] for is_crowd in (False, True))
    return np.array(single, np.float64).reshape(-1, 4), np.array(crowd, np.float64).reshape(-1, 4)


def _of_class(label: Label, name: str) -> list[LabelBox]:
    return [box for box in label.boxes if box.class_name == name]
