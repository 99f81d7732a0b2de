"""What pre-annotations do to a measurement: the same images, labelled blank and with the model's boxes shown.

People who begin with the model's boxes tend to leave them as they are and to overlook what the model overlooked. Labels
of that kind flatter the model, which is why test and calibration images come blank. How much they would flatter it is
measured on a share of these images that are labelled both ways: recall of the same detections against either label,
the difference paired by image, with an interval from the cluster bootstrap (core/bootstrap.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.core.bands import missed
from tasks.core.bootstrap import Bootstrap, cluster_bootstrap, percentile_interval, ratio
from tasks.core.entities import Detections
from tasks.core.errors import DataError
from tasks.core.matching import Floats, GroundTruths, ImageResult, match

MINIMUM_IMAGES = 20  # labelled both ways; with fewer, nothing is said


@dataclass(frozen=True, slots=True)
class BothWays:
    """One image: what the model saw in it, what was labelled blank and what with pre-annotations, and its cluster."""

    detections: Detections
    blank: GroundTruths
    seeded: GroundTruths
    cluster: str


@dataclass(frozen=True, slots=True)
class SeedingDifference:
    """Recall against labels made blank and made with pre-annotations; of one class, or of all (an empty name).

    recall_blank, recall_seeded: None where there is no such box. difference: seeded less blank; positive: seeding
    flatters the model. interval: 95%, of the difference; None where it cannot be told.
    """

    class_name: str
    images: int
    boxes_blank: int
    boxes_seeded: int
    missed_blank: int
    missed_seeded: int
    recall_blank: float | None
    recall_seeded: float | None
    difference: float | None
    interval: tuple[float, float] | None

    @property
    def overlooked(self) -> float | None:
        """Share of what the model had missed, by the blank labels, that the seeded labels lack; negative: they have
        more of it."""
        return 1 - self.missed_seeded / self.missed_blank if self.missed_blank else None

    @property
    def is_told(self) -> bool:
        """Are there enough images, and is the difference beyond chance?"""
        return self.images >= MINIMUM_IMAGES and self.interval is not None and not _holds_zero(self.interval)


def seeding_difference(
    images: Sequence[BothWays], class_names: Sequence[str], thresholds: Floats, *, replicates: int = 1000, seed: int = 0
) -> list[SeedingDifference]:
    """All classes together first, then each class that was labelled, at the operating `thresholds`, (classes,)."""
    if len(thresholds) != len(class_names):
        raise DataError(f"{len(thresholds)} thresholds for {len(class_names)} classes: give one for each class")
    bootstrap = cluster_bootstrap([image.cluster for image in images], replicates=replicates, seed=seed)
    blank = _boxes_and_misses(images, [image.blank for image in images], thresholds)
    seeded = _boxes_and_misses(images, [image.seeded for image in images], thresholds)
    figures = np.concatenate([blank, seeded])  # (boxes, misses, boxes, misses) x images x classes
    found = [_difference("", figures.sum(axis=2), bootstrap)]
    for place, name in enumerate(class_names):
        if figures[:, :, place].any():
            found.append(_difference(name, figures[:, :, place], bootstrap))
    return found


def seeding_sentence(found: SeedingDifference) -> str:
    """The difference in words."""
    if found.recall_blank is None or found.recall_seeded is None or found.difference is None:
        return f"{_images(found.images)} labelled both ways hold too few objects to compare recall on."
    what = f" of {found.class_name}" if found.class_name else ""
    low, high = found.interval or (float("nan"), float("nan"))
    figures = (
        f"recall{what} is {found.recall_blank:.3f} against labels made blank and {found.recall_seeded:.3f} against "
        f"labels made with the model's boxes shown"
    )
    if found.images < MINIMUM_IMAGES:
        return f"Too few images to tell what pre-annotations change, {found.images} of {MINIMUM_IMAGES}: {figures}."
    bounds = f"{found.difference:+.3f}, 95% interval {low:+.3f} to {high:+.3f}"
    sentence = f"On {_images(found.images)} labelled both ways {figures} ({bounds})"
    if not found.is_told:
        return f"{sentence}: no difference beyond chance."
    if not found.overlooked:
        return f"{sentence}."
    did = "overlooked" if found.overlooked > 0 else "marked"
    share = f"{abs(found.overlooked):.0%} more of what it had missed"
    return f"{sentence}: people who were shown the model's boxes {did} {share}."


def seeding_row(found: SeedingDifference) -> dict[str, str | int | float | None]:
    """The difference as a row of a table; intervals in one cell."""
    low, high = found.interval or (None, None)
    return {
        "class": found.class_name or "all",
        "images": found.images,
        "boxes blank": found.boxes_blank,
        "boxes seeded": found.boxes_seeded,
        "missed blank": found.missed_blank,
        "missed seeded": found.missed_seeded,
        "recall blank": _rounded(found.recall_blank),
        "recall seeded": _rounded(found.recall_seeded),
        "difference": _rounded(found.difference),
        "95% interval": "" if low is None or high is None else f"{low:+.3f} to {high:+.3f}",
    }


def _boxes_and_misses(images: Sequence[BothWays], truths: Sequence[GroundTruths], thresholds: Floats) -> Floats:
    """(2, images, classes): labelled boxes, and those that the model missed; crowds do not count."""
    shape = (len(images), len(thresholds))
    matches = match([ImageResult(image.detections, label) for image, label in zip(images, truths)])
    cells = matches.truths.image * shape[1] + matches.truths.class_id
    size = shape[0] * shape[1]
    counts = [np.bincount(some, minlength=size) for some in (cells, cells[missed(matches, thresholds)])]
    return np.stack(counts).reshape(2, *shape).astype(np.float64)


def _difference(name: str, figures: Floats, bootstrap: Bootstrap) -> SeedingDifference:
    """figures: (4, images)."""
    totals = figures.sum(axis=1)
    blank, seeded = _recall(totals[None, :2])[0], _recall(totals[None, 2:])[0]
    drawn = bootstrap.replicates(bootstrap.sums(*figures)) if figures.shape[1] else np.zeros((0, 4))
    interval = percentile_interval(_recall(drawn[:, 2:]) - _recall(drawn[:, :2]))
    return SeedingDifference(
        class_name=name,
        images=figures.shape[1],
        boxes_blank=int(totals[0]),
        boxes_seeded=int(totals[2]),
        missed_blank=int(totals[1]),
        missed_seeded=int(totals[3]),
        recall_blank=_known(blank),
        recall_seeded=_known(seeded),
        difference=_known(seeded - blank),
        interval=interval,
    )


def _recall(boxes_and_misses: Floats) -> Floats:
    """(n, 2) to (n,); nan where there is no box."""
    return 1 - ratio(boxes_and_misses[:, 1], boxes_and_misses[:, 0])


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _holds_zero(interval: tuple[float, float]) -> bool:
    return interval[0] <= 0 <= interval[1]


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"
