"""Labelled images with what a model sees in them: detected once, then read from `.benchmarks/yield`.

Two sets that have nothing in common: photographs with a COCO model that somebody else trained, and simulated yards by
day and night with the demo's base checkpoint, which has seen other yards only, by day. Nothing in the bench knows which
of them it works on.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.detector import Detector, open_detector
from tasks.adapters.labels import CocoPair, PairedImage, read_dataset, write_coco_pair
from tasks.adapters.simulation import CAMERAS, CLASS_NAMES, FRAME_SIZE, YardWorld, ground_truth, render
from tasks.central import truths_of
from tasks.core.entities import Detections, Label, LabelBox
from tasks.core.errors import DataError
from tasks.core.matching import MATCHING_FLOOR, GroundTruths, ImageResult
from tasks.core.splits import source_group_of

FOLDER = Path(".benchmarks") / "yield"
DEVICE_FLOOR = 0.05  # what a device keeps, by default; a sampler sees nothing below it

YARDS, DAY_FRAMES, EVERY = 10, 500, 12  # yards, frames a camera and day, of which each EVERY-th is taken
YARD_CHECKPOINT = Path("flows") / "assets" / "yard_base.pt"
YARD_IMGSZ = 256


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Images with their ground truths and detections, one row an image.

    clusters: names; the images of a cluster are never parted. site: what an order is drawn from, "" where there is only
    one. later: whether the image was taken in the later half of the time; None of photographs, which have no time.
    """

    name: str
    model_version: str
    class_names: tuple[str, ...]
    results: list[ImageResult]
    clusters: list[str]
    site: list[str]
    later: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.results), len(self.clusters), len(self.site)}
        if len(lengths) > 1 or (self.later is not None and len(self.later) != len(self.results)):
            raise DataError(f"{self.name}: {sorted(lengths)} rows: give one cluster and site for each image")


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One image before a model has looked at it: its pixels are made when they are asked for."""

    pixels: Callable[[], NDArray[np.uint8]]
    boxes: tuple[LabelBox, ...]
    cluster: str
    site: str = ""
    later: bool | None = None


def photographs(
    folder: Path, model: Path, *, model_classes: str | None = None, known_classes_only: bool = False
) -> LabelledSet:
    """A folder of labelled images, in any layout that the importer reads, through an ONNX model.

    known_classes_only: leave out the classes that the model has never heard of, whose objects it can only miss.
    """
    import cv2

    dataset = read_dataset(folder)
    detector = _open(model, dataset.class_names, model_classes)
    if known_classes_only:
        known = [name for name in dataset.class_names if name not in detector.missing_classes]
        detector = _open(model, known, model_classes)

    def pixels_of(path: Path) -> Callable[[], NDArray[np.uint8]]:
        return lambda: np.asarray(cv2.imread(str(path)), np.uint8)

    pictures = [
        LabelledPicture(pixels_of(image.path), image.boxes, f"image:{source_group_of(image.path.name) or image.path}")
        for image in dataset.images
    ]
    fingerprint = _digest(
        part for image in dataset.images for part in (image.path.read_bytes(), repr(image.boxes).encode())
    )
    name = f"{folder.name} without {', '.join(sorted({*dataset.class_names} - {*detector.class_names}))}"
    return _seen(name if known_classes_only else folder.name, detector, pictures, fingerprint)


def yards() -> LabelledSet:
    """Two days of ten simulated yards: the first day is earlier, the second later; a cluster is a camera's hour."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    digest = _digest([YARD_CHECKPOINT.read_bytes()])
    model = FOLDER / f"yard-{digest}.onnx"
    if not model.exists():
        from tasks.adapters.trainer.export import export_onnx

        export_onnx(YARD_CHECKPOINT, model, YARD_IMGSZ)
    pictures = list(_yard_pictures())
    fingerprint = _digest(repr((YARDS, DAY_FRAMES, EVERY, [p.boxes for p in pictures])).encode() for _ in range(1))
    return _seen("yards", _open(model, CLASS_NAMES, None), pictures, fingerprint)


def _yard_pictures() -> Iterator[LabelledPicture]:
    for seed in range(YARDS):
        world = YardWorld(seed, day_frames=DAY_FRAMES, days=2, drift_from=None)
        for camera in range(CAMERAS):
            for index in range(0, 2 * DAY_FRAMES, EVERY):
                hour = index * 24 // DAY_FRAMES
                yield LabelledPicture(
                    pixels=lambda at=(world, camera, index): render(*at),  # type: ignore[misc]
                    boxes=ground_truth(world, camera, index),
                    cluster=f"yard {seed} camera {camera} hour {hour}",
                    site=f"yard {seed}",
                    later=index >= DAY_FRAMES,
                )


def write_recorded(labelled: LabelledSet, sites: Sequence[str], archive: Path) -> None:
    """Some sites of a set as `ground_truth.json` and `predictions.json` in a zip: `notebooks/three_yards.zip`.

    A file name tells the day, "day 1" or "day 2", and its cluster; coordinates have a tenth of a pixel.
    """
    height, width = FRAME_SIZE
    pairs = []
    for row, one in enumerate(labelled.results):
        if labelled.site[row] in sites:
            day = 1 if labelled.later is None or not labelled.later[row] else 2
            seen = replace(one.detections, xyxy=np.round(one.detections.xyxy, 1))
            name = f"day {day}/{labelled.clusters[row]}/{row}.jpg"
            camera = labelled.clusters[row].rpartition(" hour ")[0]
            pairs.append(PairedImage(name, seen, one.truths, width, height, labelled.clusters[row], camera))
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "ground_truth.json", Path(folder) / "predictions.json"
        write_coco_pair(*files, CocoPair(labelled.class_names, tuple(pairs)))
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
            for file in files:
                zipped.writestr(zipfile.ZipInfo(file.name), _shortened(file.read_text()), zipfile.ZIP_DEFLATED, 9)


def _shortened(text: str) -> str:
    """JSON with numbers of four digits after the point at most."""
    return json.dumps(json.loads(text, parse_float=lambda number: round(float(number), 4)), separators=(",", ":"))


# --- detections, once ------------------------------------------------------------------------------------------------


def _open(model: Path, class_names: Sequence[str], model_classes: str | None) -> Detector:
    return open_detector(
        model,
        project_classes=class_names,
        model_classes=model_classes,
        confidence_floor=MATCHING_FLOOR,
        threads=1,
    )


def _seen(name: str, detector: Detector, pictures: Sequence[LabelledPicture], fingerprint: str) -> LabelledSet:
    """The set, from the file of this model and these images where there is one."""
    class_names = tuple(detector.class_names)
    path = FOLDER / f"{name.replace(' ', '-')}-{detector.model_version}-{fingerprint}.npz"
    if not path.exists():
        found = [detector.detect(picture.pixels()) for picture in pictures]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp.npz")
        np.savez_compressed(partial, **_columns(found))
        partial.replace(path)
    with np.load(path) as columns:
        found = list(_detections(columns, len(pictures), class_names))
    has_time = all(picture.later is not None for picture in pictures)
    return LabelledSet(
        name=name,
        model_version=detector.model_version,
        class_names=class_names,
        results=[ImageResult(seen, _truths(picture, class_names)) for seen, picture in zip(found, pictures)],
        clusters=[picture.cluster for picture in pictures],
        site=[picture.site for picture in pictures],
        later=np.array([bool(picture.later) for picture in pictures]) if has_time else None,
    )


def _columns(found: Sequence[Detections]) -> dict[str, Any]:
    return {
        "count": np.array([len(seen) for seen in found]),
        "xyxy": np.concatenate([seen.xyxy for seen in found]),
        "confidence": np.concatenate([seen.confidence for seen in found]),
        "class_id": np.concatenate([seen.class_id for seen in found]),
    }


def _detections(columns: Any, images: int, class_names: tuple[str, ...]) -> Iterator[Detections]:
    ends = np.cumsum(columns["count"])
    if len(ends) != images:
        raise DataError(f"detections of {len(ends)} images for {images}: remove the folder {FOLDER}")
    xyxy, confidence, class_id = (columns[key] for key in ("xyxy", "confidence", "class_id"))
    for end, count in zip(ends.tolist(), columns["count"].tolist()):
        rows = slice(end - count, end)
        yield Detections(xyxy[rows], confidence[rows], class_id[rows], class_names)


def _truths(picture: LabelledPicture, class_names: Sequence[str]) -> GroundTruths:
    label = Label(sample_id="0" * 20, boxes=picture.boxes, annotator="", labelled_at="2026-01-01T00:00:00Z")
    return truths_of(label, class_names)


def _digest(parts: Any) -> str:
    """12 hex digits of everything in `parts`, bytes each."""
    digest = hashlib.blake2b(digest_size=6)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
