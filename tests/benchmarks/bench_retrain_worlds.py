"""The two worlds in which models are retrained: each has a start, a calibration, a pool and a test part, by seed.

    start           labelled before anything else; the live model has learnt it
    calibration     thresholds, weights and rules of the live model are fitted to it; never trained on
    pool            without labels, until a way of choosing asks for them
    test            every model is judged by it; never chosen from

Pictures are decoded and letterboxed once, so that a training does nothing but train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.adapters.labels import read_dataset
from tasks.adapters.simulation import CAMERAS, CLASS_NAMES, YardWorld, ground_truth, render
from tasks.central import truths_of
from tasks.core.entities import Label, LabelBox
from tasks.core.errors import DataError
from tasks.core.matching import GroundTruths, Integers
from tests.real.shared_data import SHARED, VEHICLES

VEHICLE_WEIGHTS = SHARED / "weights" / "yolov5nu_coco_backbone.pt"
YARD_WEIGHTS = Path("flows") / "assets" / "yard_base.pt"
FIRST_YARD = 300  # no demo, test or other bench has looked at these
DAY_FRAMES, EVERY = 500, 4  # frames of a camera's day, of which each EVERY-th is taken
GREY = 114


@dataclass(frozen=True, slots=True)
class Sizes:
    """Images of each part. test: of photographs; of the pool: what is left, but no more than this."""

    start: int
    calibration: int
    pool: int
    test: int


@dataclass(frozen=True, slots=True)
class World:
    """Pictures with their truth, one row each, and the rows of every part.

    pixels: (images, side, side, 3) uint8 RGB. truths: in pixels of these. clusters: names; none is in two parts.
    """

    name: str
    class_names: tuple[str, ...]
    pixels: NDArray[np.uint8]
    truths: list[GroundTruths]
    clusters: list[str]
    start: Integers
    calibration: Integers
    pool: Integers
    test: Integers

    def __post_init__(self) -> None:
        parts = [{self.clusters[row] for row in rows} for rows in (self.start, self.calibration, self.pool, self.test)]
        if not all(parts) or len(set.union(*parts)) < sum(map(len, parts)):
            raise DataError(f"{self.name}: a part is empty, or a cluster is in two of them: use a larger set")

    def boxes(self, rows: Integers) -> Integers:
        """(images,) ground truths of each row."""
        return np.array([len(self.truths[row]) for row in rows], np.int64)

    def boxes_by_class(self, rows: Integers) -> Integers:
        ids = [self.truths[row].class_id for row in rows]
        return np.bincount(np.concatenate([*ids, np.zeros(0, np.int64)]), minlength=len(self.class_names))


def vehicles(seed: int, side: int, sizes: Sizes, folder: Path = VEHICLES) -> World:
    """Labelled photographs, cut into parts anew for each seed."""
    dataset = read_dataset(folder)
    order = np.random.default_rng((seed, 1)).permutation(len(dataset.images))
    first, second, third = np.cumsum([sizes.start, sizes.calibration, sizes.test])
    if len(order) <= third:
        raise DataError(f"{folder}: {len(order)} images leave none for the pool: {third + 1} or more are needed")
    pixels, truths = [], []
    for image in dataset.images:
        picture, boxes = letterboxed(np.asarray(cv2.imread(str(image.path)), np.uint8), image.boxes, side)
        pixels.append(picture)
        truths.append(columns(boxes, dataset.class_names))
    return World(
        name="photographs",
        class_names=tuple(dataset.class_names),
        pixels=np.stack(pixels),
        truths=truths,
        clusters=[f"image {row}" for row in range(len(truths))],
        start=order[:first],
        calibration=order[first:second],
        test=order[second:third],
        pool=order[third : third + sizes.pool],
    )


def yard(seed: int, side: int, sizes: Sizes) -> World:
    """A simulated yard that drifts after its first day: start is of that day, the pool of the next, test of the third.

    The clusters are hours of a camera; calibration and pool share a day and no hour.
    """
    world = YardWorld(FIRST_YARD + seed, day_frames=DAY_FRAMES, days=3, drift_from=1.0)
    random = np.random.default_rng((seed, 2))
    frames = [(camera, index) for camera in range(CAMERAS) for index in range(0, 3 * DAY_FRAMES, EVERY)]
    day = np.array([index // DAY_FRAMES for _, index in frames])
    clusters = [f"camera {camera} hour {index * 24 // DAY_FRAMES}" for camera, index in frames]
    of_calibration, of_pool = by_cluster(np.flatnonzero(day == 1), clusters, sizes.calibration, random)
    parts = (
        random.permutation(np.flatnonzero(day == 0))[: sizes.start],
        of_calibration,
        random.permutation(of_pool)[: sizes.pool],
        random.permutation(np.flatnonzero(day == 2))[: sizes.test],
    )
    used = np.concatenate(parts)
    pixels, truths = [], []
    for row in used.tolist():
        picture, boxes = letterboxed(render(world, *frames[row]), ground_truth(world, *frames[row]), side)
        pixels.append(picture)
        truths.append(columns(boxes, CLASS_NAMES))
    edges = np.cumsum([len(part) for part in parts])
    start, calibration, pool, test = np.split(np.arange(len(used)), edges[:-1])
    named = [clusters[row] for row in used]
    return World("yard", CLASS_NAMES, np.stack(pixels), truths, named, start, calibration, pool, test)


def by_cluster(
    rows: Integers, clusters: Sequence[str], images: int, random: np.random.Generator
) -> tuple[Integers, Integers]:
    """Whole clusters, drawn until they hold `images` rows or more; and all the other rows."""
    names = np.array([clusters[row] for row in rows])
    drawn = random.permutation(np.unique(names))
    sizes = np.array([(names == name).sum() for name in drawn])
    taken = np.isin(names, drawn[: int(np.searchsorted(sizes.cumsum(), images)) + 1])
    return rows[taken], rows[~taken]


def letterboxed(
    picture: NDArray[np.uint8], boxes: Sequence[LabelBox], side: int
) -> tuple[NDArray[np.uint8], list[LabelBox]]:
    """BGR of any size to (side, side, 3) RGB, at the upper left of grey; the boxes with it."""
    scale = side / max(picture.shape[:2])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    canvas = np.full((side, side, 3), GREY, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)[..., ::-1]
    x1, y1, x2, y2 = range(4)
    return canvas, [
        box.model_copy(update={"xyxy": tuple(box.xyxy[side_] * scale for side_ in (x1, y1, x2, y2))}) for box in boxes
    ]


def columns(boxes: Sequence[LabelBox], class_names: Sequence[str]) -> GroundTruths:
    label = Label(sample_id="0" * 20, boxes=tuple(boxes), annotator="", labelled_at="2026-01-01T00:00:00Z")
    return truths_of(label, class_names)
