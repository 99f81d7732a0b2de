"""Boxes of anybody's model, their masks and keypoints, as a pair of COCO files, for `edgeloop evaluate`.

    ground truth    a COCO file; images may say `camera` and `captured_at`, or `cluster`, which the bootstrap uses
    predictions     COCO results: a list of {"image_id", "category_id", "bbox", "score"}; with "segmentation" or
                    "keypoints", whose smallest box stands in for a missing "bbox"

What happens to what is odd:

    crowd annotations                        crowd regions: neither hit nor missed, and detections in them are ignored
    ground truth without area                left out, with a warning; so is one whose mask has no pixels
    a mask or keypoints missing              of a ground truth no keypoint is labelled then; else LabelsInvalid
    boxes that reach out of their image      kept as they are (predictions); clipped when by at most a pixel or 1%, else
                                             kept, with a warning, and left out when wholly outside (ground truth)
    duplicate ids, unknown images or categories, scores outside 0 to 1, anything that is no number        LabelsInvalid
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.labels.coco import CocoFile, annotation_box, corners_of
from tasks.adapters.labels.dataset import BAD_LINE, OUTSIDE, WITHOUT_AREA, BadBox, number
from tasks.adapters.labels.pair_files import MAX_SIDE, PairFiles, class_of, cluster_of, image_of, open_pair, side_of
from tasks.adapters.labels.shapes import keypoints_of, mask_of
from tasks.core.entities import Detections, LabelBox, Task
from tasks.core.errors import LabelsInvalid
from tasks.core.masks import Mask
from tasks.core.matching import GroundTruths

REACHING_OUT = "boxes reach out of their image and are kept as they are"
LEFT_OUT = "boxes without area or outside their image left out"


@dataclass(frozen=True, slots=True)
class PairedImage:
    """One image of the pair. cluster: camera x hour where the file says both, else the image itself."""

    name: str
    detections: Detections
    truths: GroundTruths
    width: int
    height: int
    cluster: str
    camera: str = ""


@dataclass(frozen=True, slots=True)
class CocoPair:
    """Class ids of boxes are indices into `class_names`, the categories in the order of their ids."""

    class_names: tuple[str, ...]
    images: tuple[PairedImage, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Object:
    """One ground truth or detection of a file. area: as the file says it, else that of its mask or box."""

    xyxy: tuple[float, float, float, float]
    class_id: int
    score: float = 1.0
    crowd: bool = False
    mask: Mask | None = None
    keypoints: NDArray[np.float64] | None = None
    area: float = 0.0


def read_coco_pair(ground_truth: Path, predictions: Path, task: Task = "detection") -> CocoPair:
    """Every image of the ground truth, with its boxes and detections. Raises LabelsInvalid, naming file and entry."""
    return coco_pair(open_pair(ground_truth, predictions), task)


def coco_pair(files: PairFiles, task: Task = "detection") -> CocoPair:
    """As `read_coco_pair`, of files that were read. Masks and keypoints are read for the task that asks for them."""
    odd: dict[str, list[str]] = {}
    rows = _prediction_rows(files, task)
    images = tuple(_image(record, files, rows, task, odd) for record in files.coco.images)
    where = files.truth_name
    warnings = [f"{where}: {len(found)} {what}, the first: {found[0]}" for what, found in odd.items()]
    if not any(len(image.detections) for image in images):
        warnings.append(f"{files.results_name}: holds no detection, so every object counts as missed")
    return CocoPair(files.coco.class_names, images, tuple(warnings))


def write_coco_pair(ground_truth: Path, predictions: Path, pair: CocoPair) -> None:
    """The two files of a pair; image and annotation ids count from 1, category ids too."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id, image in enumerate(pair.images, start=1):
        record = {"id": image_id, "file_name": image.name, "width": image.width, "height": image.height}
        images.append(record | {"cluster": image.cluster} | ({"camera": image.camera} if image.camera else {}))
        truths, detections = image.truths, image.detections
        for box, class_id, crowd in zip(truths.xyxy, truths.class_id, truths.crowd):
            bbox = _bbox(box)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(class_id) + 1, "bbox": bbox,
                 "area": round(bbox[2] * bbox[3], 4), "iscrowd": int(crowd)}
            )  # fmt: skip
        for box, class_id, score in zip(detections.xyxy, detections.class_id, detections.confidence):
            results.append(
                {"image_id": image_id, "category_id": int(class_id) + 1, "bbox": _bbox(box), "score": float(score)}
            )
    categories = [{"id": n, "name": name} for n, name in enumerate(pair.class_names, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    ground_truth.write_text(json.dumps(content))
    predictions.write_text(json.dumps(results))


def _bbox(box: Any) -> list[float]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return [round(x1, 4), round(y1, 4), round(x2 - x1, 4), round(y2 - y1, 4)]


# --- predictions -----------------------------------------------------------------------------------------------------


def _prediction_rows(files: PairFiles, task: Task) -> Mapping[Any, Sequence[_Object]]:
    """The detections of each image, by image id."""
    sizes = {record["id"]: record for record in files.coco.images} if task == "segmentation" else {}
    rows: dict[Any, list[_Object]] = {}
    for n, result in enumerate(files.results):
        where = f"{files.results_name}: results[{n}]"
        image_id = image_of(result, files, where)
        size = sizes.get(image_id)
        try:
            found = _detection(result, class_of(result, files, where), task, size)
        except BadBox as error:
            raise LabelsInvalid(f"{where}: {error}") from None
        if not 0 <= found.score <= 1:
            raise LabelsInvalid(f"{where}: score {found.score} is outside 0 to 1")
        if any(abs(v) > 10 * MAX_SIDE for v in found.xyxy):
            raise LabelsInvalid(f"{where}: bbox {found.xyxy} lies far outside of any image")
        rows.setdefault(image_id, []).append(found)
    return rows


def _detection(result: Mapping[str, Any], class_id: int, task: Task, record: Mapping[str, Any] | None) -> _Object:
    mask, keypoints = None, None
    if task == "segmentation" and record is not None:
        mask = mask_of(result, *(side_of(record, side, "the image") for side in ("height", "width")))
        if mask is None:
            raise BadBox(BAD_LINE, "has no segmentation; every result of --task segmentation has one")
    if task == "keypoints":
        keypoints = keypoints_of(result)
        if keypoints is None:
            raise BadBox(BAD_LINE, "has no keypoints; every result of --task keypoints has them")
    if result.get("bbox") is not None or (mask is None and keypoints is None):
        corners = corners_of(result)
    else:
        corners = mask.xyxy if mask is not None else _around(keypoints)
    return _Object(corners, class_id, number(result.get("score"), "score"), mask=mask, keypoints=keypoints)


def _around(keypoints: NDArray[np.float64] | None) -> tuple[float, float, float, float]:
    """The smallest box around keypoints, as COCO's own programs take it."""
    assert keypoints is not None
    (x1, y1), (x2, y2) = keypoints[:, :2].min(axis=0).tolist(), keypoints[:, :2].max(axis=0).tolist()
    return x1, y1, x2, y2


def _detections(rows: Sequence[_Object], class_names: tuple[str, ...], task: Task) -> Detections:
    """Columns in descending confidence, ties in the order of the file."""
    if not rows:
        return Detections.empty(class_names)
    detections = Detections(
        np.array([row.xyxy for row in rows], np.float32),
        np.array([row.score for row in rows], np.float32),
        np.array([row.class_id for row in rows], np.int64),
        class_names,
        masks=tuple(row.mask for row in rows if row.mask is not None) if task == "segmentation" else None,
        keypoints=_stacked(rows).astype(np.float32) if task == "keypoints" else None,
    )
    return detections[np.argsort(-detections.confidence, kind="stable")]


# --- ground truth ----------------------------------------------------------------------------------------------------


def _image(
    record: Mapping[str, Any],
    files: PairFiles,
    rows: Mapping[Any, Sequence[_Object]],
    task: Task,
    odd: dict[str, list[str]],
) -> PairedImage:
    name = str(record.get("file_name", record["id"]))
    where = f"{files.truth_name}: image {name!r}"
    width, height = (side_of(record, side, where) for side in ("width", "height"))
    objects = []
    for n, annotation in files.coco.annotations[record["id"]]:
        try:
            found, reason = _truth(annotation, width, height, files, task)
        except BadBox as error:
            raise LabelsInvalid(f"{files.truth_name}: annotations[{n}]: {error.reason}: {error}") from None
        if reason:
            odd.setdefault(reason, []).append(f"annotations[{n}]")
        if found is not None:
            objects.append(found)
    camera = record.get("camera")
    camera = camera if isinstance(camera, str) else ""
    detections = _detections(rows.get(record["id"], ()), files.coco.class_names, task)
    try:
        truths = _truths(objects, task, detections)
    except ValueError:
        raise LabelsInvalid(f"{where}: its objects have different numbers of keypoints: give each the same") from None
    return PairedImage(name, detections, truths, width, height, cluster_of(record, camera, name), camera)


def _truths(objects: Sequence[_Object], task: Task, detections: Detections) -> GroundTruths:
    keypoints = None
    if task == "keypoints":
        known = detections.keypoints.shape[1] if detections.keypoints is not None else 1
        keypoints = _stacked(objects, known)
    return GroundTruths(
        np.array([one.xyxy for one in objects], np.float64).reshape(-1, 4),
        np.array([one.class_id for one in objects], np.int64),
        np.array([one.crowd for one in objects], np.bool_),
        masks=tuple(one.mask for one in objects) if task == "segmentation" else None,
        keypoints=keypoints,
        area=None if task == "detection" else np.array([one.area for one in objects], np.float64),
    )


def _stacked(objects: Sequence[_Object], known: int = 1) -> NDArray[np.float64]:
    """(n, k, 3); an object without keypoints has none that is labelled. ValueError for different numbers of them."""
    count = next((len(one.keypoints) for one in objects if one.keypoints is not None), known)
    nothing = np.zeros((count, 3))
    stacked = [nothing if one.keypoints is None else one.keypoints for one in objects]
    return np.stack(stacked) if stacked else np.zeros((0, count, 3))


def _truth(
    annotation: Mapping[str, Any], width: int, height: int, files: PairFiles, task: Task
) -> tuple[_Object | None, str]:
    """A ground truth, None when it is left out, and what is odd about it. Raises BadBox for what cannot be read."""
    reason = ""
    try:
        box: LabelBox | None = annotation_box(annotation, width, height, files.coco.categories)
    except BadBox as error:
        if error.reason not in (OUTSIDE, WITHOUT_AREA):
            raise
        box = _reaching_out(annotation, width, height, files.coco) if error.reason == OUTSIDE else None
        reason = REACHING_OUT if box else LEFT_OUT
    if box is None:
        return None, reason
    found = _Object(box.xyxy, files.class_ids[annotation["category_id"]], crowd=box.crowd)
    if task == "segmentation":
        mask = mask_of(annotation, height, width)
        if mask is None:
            raise BadBox(BAD_LINE, "has no segmentation; every annotation has one with --task segmentation")
        found = replace(found, mask=mask)
        if not mask.area:
            return None, LEFT_OUT
    if task == "keypoints":
        found = replace(found, keypoints=keypoints_of(annotation))
    return replace(found, area=_area(annotation, found)), reason


def _area(annotation: Mapping[str, Any], found: _Object) -> float:
    """What the file says, of at least 0; else that of the mask or the box."""
    if annotation.get("area") is not None:
        area = number(annotation["area"], "area")
        if area < 0:
            raise BadBox(BAD_LINE, f"area is {area}")
        return area
    x1, y1, x2, y2 = found.xyxy
    return float(found.mask.area) if found.mask is not None else (x2 - x1) * (y2 - y1)


def _reaching_out(annotation: Mapping[str, Any], width: int, height: int, coco: CocoFile) -> LabelBox | None:
    """A ground truth that reaches out of its image, as it is; None when it lies wholly outside."""
    x1, y1, x2, y2 = corners_of(annotation)
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0 or max(map(abs, (x1, y1, x2, y2))) > 10 * MAX_SIDE:
        return None
    name = coco.categories[annotation["category_id"]]
    return LabelBox(class_name=name, xyxy=(x1, y1, x2, y2), crowd=annotation.get("iscrowd") in (1, True))
