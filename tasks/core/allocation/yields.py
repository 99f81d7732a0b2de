"""What people corrected in each cell, and how much of the difference between cells is more than chance.

A correction is an object that the model missed and a person added, or a false alarm that a person removed. The yield
of a cell is its corrections for the work of an average image: half of the work goes by the image, half by the box, so
that a crowded camera is not ahead only because each of its images holds more of everything:

    effort = (images + boxes / mean boxes an image) / 2        measured = corrections / effort

This is the harmonic mean of the corrections an image and a box, each relative to all cells together. Images, boxes and
corrections count by 2 ** (-age / half-life), for each model makes other mistakes.

Measured yields are drawn towards the mean of all cells (gamma-Poisson; Efron & Morris 1975, Marshall 1991):

    shrunk = (corrections + k * mean) / (effort + k)           k = dispersion * mean / variance between cells

The variance between cells is what is left of the spread of the yields after that which chance alone makes (the moment
estimator of one-way analysis of variance; Searle, Casella & McCulloch 1992, chapter 3). Chance is wider than Poisson,
as the corrections of an image come together: the dispersion is their variance within a cell over their mean. k is at
least 10 images, the strength with which miss weights are drawn together as well; where cells differ by no more than
chance it is infinite, and all shares are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isfinite

import numpy as np

from tasks.core.allocation.cells import Cell
from tasks.core.bands import misses_by_image
from tasks.core.errors import DataError
from tasks.core.intervals import Z
from tasks.core.matching import Floats, Integers, Matches

LEAST_PRIOR_IMAGES = 10.0


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """What a person found in one image of a cell. boxes: objects and false alarms together."""

    cell: Cell
    missed: int
    false_alarms: int
    boxes: int
    weeks_old: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The labelled images of a cell. The first four count each image once, the others by how recent it is.

    squares: of each image's corrections, summed. Raises DataError for a figure that is negative or no number, and for
    corrections without an image.
    """

    images: int = 0
    boxes: int = 0
    missed: int = 0
    false_alarms: int = 0
    recent_images: float = 0.0
    recent_boxes: float = 0.0
    recent_corrections: float = 0.0
    squares: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not isfinite(value) or value < 0:
                raise DataError(f"labels of a cell: {name} is {value}: give a number that is not negative")
        if self.recent_corrections and not self.recent_images:
            raise DataError("labels of a cell: corrections without an image: count the images that they were made in")


def corrections_by_image(matches: Matches, thresholds: Floats) -> tuple[Integers, Integers, Integers]:
    """(images,) objects that the model missed, false alarms, and boxes of both kinds that a person had to look at.

    thresholds: (classes,) the operating ones, by class id: what a person is shown, or would have been. Counted from
    the matching and not from what was edited, so that images labelled with and without pre-annotations compare, and
    a box that was moved a little is none.
    """
    detections = matches.detections
    shown = detections.confidence >= thresholds[detections.class_id]
    false_alarm = shown & ~detections.is_true & ~detections.is_ignored
    false_alarms = np.bincount(detections.image[false_alarm], minlength=matches.images)
    truths = np.bincount(matches.truths.image, minlength=matches.images)
    return misses_by_image(matches, thresholds), false_alarms, truths + false_alarms


def evidence_of(images: Iterable[LabelledImage], half_life_weeks: float) -> dict[Cell, Evidence]:
    """The evidence of every cell; the order of `images` changes nothing. Raises DataError for an impossible image."""
    by_cell: dict[Cell, list[LabelledImage]] = {}
    for image in images:
        _check(image)
        by_cell.setdefault(image.cell, []).append(image)
    return {cell: _evidence(of_cell, half_life_weeks) for cell, of_cell in sorted(by_cell.items())}


def _check(image: LabelledImage) -> None:
    for name in ("missed", "false_alarms", "boxes", "weeks_old"):
        value = getattr(image, name)
        if not isfinite(value) or (value < 0 and name != "weeks_old"):
            raise DataError(f"{image.cell.text}: an image with {name} {value}: leave it out or correct its label")


def _evidence(images: Sequence[LabelledImage], half_life_weeks: float) -> Evidence:
    # Clocks disagree: a label from the future is as recent as can be.
    weights = [2.0 ** (-max(image.weeks_old, 0.0) / half_life_weeks) for image in images]
    corrections = [image.missed + image.false_alarms for image in images]
    return Evidence(
        images=len(images),
        boxes=sum(image.boxes for image in images),
        missed=sum(image.missed for image in images),
        false_alarms=sum(image.false_alarms for image in images),
        recent_images=fsum(weights),  # exact sums: no order of the images may change a rounding
        recent_boxes=fsum(w * image.boxes for w, image in zip(weights, images)),
        recent_corrections=fsum(w * c for w, c in zip(weights, corrections)),
        squares=fsum(w * c * c for w, c in zip(weights, corrections)),
    )


def added(some: Iterable[Evidence]) -> Evidence:
    """Cells taken together."""
    rows = list(some)
    return Evidence(
        images=sum(row.images for row in rows),
        boxes=sum(row.boxes for row in rows),
        missed=sum(row.missed for row in rows),
        false_alarms=sum(row.false_alarms for row in rows),
        recent_images=fsum(row.recent_images for row in rows),
        recent_boxes=fsum(row.recent_boxes for row in rows),
        recent_corrections=fsum(row.recent_corrections for row in rows),
        squares=fsum(row.squares for row in rows),
    )


@dataclass(frozen=True, slots=True)
class Yields:
    """By cell: corrections for the work of an average image.

    measured: nan without labels. low, high: 95% of it, nan without labels. mean: of all cells; nan without any label.
    prior_images: k; infinite where cells differ by no more than chance.
    """

    measured: Floats
    low: Floats
    high: Floats
    shrunk: Floats
    mean: float
    prior_images: float
    dispersion: float


def measure(evidence: Sequence[Evidence], boxes_an_image: float | None = None) -> Yields:
    """The yields of cells, measured and shrunk towards their mean. boxes_an_image: of an average one; None: of these.

    Without a label anywhere all are equal: `shrunk` is 1 in every cell.
    """
    images, boxes, corrections, squares = (
        np.array([(e.recent_images, e.recent_boxes, e.recent_corrections, e.squares) for e in evidence], np.float64)
        .reshape(-1, 4)
        .T
    )
    effort = _effort(images, boxes, boxes_an_image)
    if not effort.any():
        unknown = np.full(len(evidence), np.nan)
        return Yields(unknown, unknown, unknown, np.ones(len(evidence)), np.nan, np.inf, 1.0)

    labelled = effort > 0
    mean = fsum(corrections) / fsum(effort)
    counted = np.array([e.images for e in evidence], np.float64)
    dispersion = _dispersion(counted[labelled], images[labelled], corrections[labelled], squares[labelled])
    variance = _variance_between(corrections[labelled], effort[labelled], mean, dispersion)
    prior = max(LEAST_PRIOR_IMAGES, dispersion * mean / variance) if variance > 0 else np.inf

    safe = np.where(labelled, effort, np.nan)
    low, high = gamma_interval(corrections / dispersion + 0.5, safe / dispersion)
    shrunk = (corrections + prior * mean) / (effort + prior) if np.isfinite(prior) else np.full(len(effort), mean)
    return Yields(corrections / safe, low, high, shrunk, mean, prior, dispersion)


def pooled_boxes_an_image(evidence: Mapping[Cell, Evidence]) -> float:
    """Of all labelled images; 0 without any box."""
    images = fsum(e.recent_images for e in evidence.values())
    return fsum(e.recent_boxes for e in evidence.values()) / images if images else 0.0


def _effort(images: Floats, boxes: Floats, boxes_an_image: float | None) -> Floats:
    """(cells,) the work that was done, in average images; by the image alone where nobody had a box to draw."""
    if boxes_an_image is None:
        boxes_an_image = fsum(boxes) / fsum(images) if images.any() else 0.0
    return np.asarray((images + boxes / boxes_an_image) / 2 if boxes_an_image else images)


def _dispersion(counted: Floats, images: Floats, corrections: Floats, squares: Floats) -> float:
    """Variance of an image's corrections within its cell over their mean, at least 1; one image has no variance."""
    within = (squares - corrections**2 / images).clip(min=0)
    expected = fsum(corrections * (1 - 1 / counted))
    return max(1.0, fsum(within) / expected) if expected else 1.0


def _variance_between(corrections: Floats, effort: Floats, mean: float, dispersion: float) -> float:
    """What the yields spread beyond chance; 0 for a single cell, or when chance alone spreads as much."""
    total = fsum(effort)
    spread = fsum(effort * (corrections / effort - mean) ** 2)
    room = total - fsum(effort**2) / total
    if len(effort) < 2 or room <= 1e-9 * total:
        return 0.0
    return max(0.0, (spread - (len(effort) - 1) * dispersion * mean) / room)


def gamma_interval(shape: Floats, rate: Floats) -> tuple[Floats, Floats]:
    """(low, high) 95% of gamma distributions, by the cube-root approximation (Wilson & Hilferty 1931)."""
    spread = 1 / (9 * shape)
    low, high = (shape * (1 - spread + z * np.sqrt(spread)).clip(min=0) ** 3 / rate for z in (-Z, Z))
    return np.asarray(low), np.asarray(high)
