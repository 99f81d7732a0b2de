"""Ground truth and predictions of anybody's model, as a pair of COCO files, for `edgeloop evaluate`.

    ground truth    a COCO file; images may say `camera` and `captured_at`, or `cluster`, which the bootstrap uses
    predictions     COCO results: a list of {"image_id", "category_id", "bbox", "score"}

What happens to what is odd:

    crowd annotations                        crowd regions: neither hit nor missed, and detections in them are ignored
    ground truth without area                left out, with a warning
    boxes that reach out of their image      kept as they are (predictions); clipped when by at most a pixel or 1%, else
                                             kept, with a warning, and left out when wholly outside (ground truth)
    duplicate ids, unknown images or categories, scores outside 0 to 1, anything that is no number        LabelsInvalid
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tasks.adapters.labels.coco import CocoFile, annotation_box, corners_of, parse_coco, parse_json
from tasks.adapters.labels.dataset import MAX_JSON_BYTES, OUTSIDE, WITHOUT_AREA, BadBox, number, read_capped
from tasks.core.entities import Detections, LabelBox, to_utc
from tasks.core.errors import LabelsInvalid
from tasks.core.matching import GroundTruths

MAX_SIDE = 100_000  # pixels
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


def read_coco_pair(ground_truth: Path, predictions: Path) -> CocoPair:
    """Every image of the ground truth, with its boxes and detections. Raises LabelsInvalid, naming file and entry."""
    coco = parse_coco(read_capped(ground_truth, MAX_JSON_BYTES), ground_truth.name)
    if not coco.images or not coco.categories:
        raise LabelsInvalid(f"{ground_truth.name}: has no images or no categories, so there is nothing to evaluate")
    _refuse_duplicate_ids(coco, ground_truth.name)
    index = {key: i for i, key in enumerate(sorted(coco.categories))}
    rows = _prediction_rows(predictions, coco, index)
    odd: dict[str, list[str]] = {}
    images = tuple(_image(record, coco, index, rows, ground_truth.name, odd) for record in coco.images)
    warnings = [f"{ground_truth.name}: {len(found)} {what}, the first: {found[0]}" for what, found in odd.items()]
    if not any(len(image.detections) for image in images):
        warnings.append(f"{predictions.name}: holds no detection, so every object counts as missed")
    return CocoPair(coco.class_names, images, tuple(warnings))


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


def _refuse_duplicate_ids(coco: CocoFile, where: str) -> None:
    seen: set[Any] = set()
    for rows in coco.annotations.values():
        for n, annotation in rows:
            key = annotation.get("id")
            if key is None:
                continue
            if not isinstance(key, (int, str)) or key in seen:
                raise LabelsInvalid(f"{where}: annotations[{n}] has the id {str(key)[:40]!r} of another annotation")
            seen.add(key)


Rows = Mapping[Any, Sequence[tuple[tuple[float, float, float, float], float, int]]]


def _prediction_rows(path: Path, coco: CocoFile, index: Mapping[int, int]) -> Rows:
    """Box, score and class of each detection, by image id."""
    content = parse_json(read_capped(path, MAX_JSON_BYTES), path.name)
    if not isinstance(content, list):
        raise LabelsInvalid(f'{path.name}: COCO results are a list of {{"image_id", "category_id", "bbox", "score"}}')
    rows: dict[Any, list[tuple[tuple[float, float, float, float], float, int]]] = {}
    for n, result in enumerate(content):
        where = f"{path.name}: results[{n}]"
        if not isinstance(result, dict):
            raise LabelsInvalid(f"{where}: is no object")
        image_id, category = result.get("image_id"), result.get("category_id")
        if isinstance(image_id, (bool, float, list, dict)) or image_id not in coco.annotations:
            raise LabelsInvalid(f"{where}: image_id {str(image_id)[:40]!r} is not in the ground truth")
        if isinstance(category, bool) or not isinstance(category, int) or category not in index:
            known = ", ".join(str(key) for key in sorted(index)[:20])
            raise LabelsInvalid(f"{where}: category_id {str(category)[:40]!r} is not one of the ground truth's {known}")
        try:
            corners, score = corners_of(result), number(result.get("score"), "score")
        except BadBox as error:
            raise LabelsInvalid(f"{where}: {error}") from None
        if not 0 <= score <= 1:
            raise LabelsInvalid(f"{where}: score {score} is outside 0 to 1")
        if any(abs(v) > 10 * MAX_SIDE for v in corners):
            raise LabelsInvalid(f"{where}: bbox {corners} lies far outside of any image")
        rows.setdefault(image_id, []).append((corners, score, index[category]))
    return rows


def _image(
    record: Mapping[str, Any],
    coco: CocoFile,
    index: Mapping[int, int],
    rows: Rows,
    where: str,
    odd: dict[str, list[str]],
) -> PairedImage:
    name = str(record.get("file_name", record["id"]))
    width, height = (_side(record.get(side), f"{where}: image {name!r}: {side}") for side in ("width", "height"))
    boxes: list[tuple[LabelBox, int]] = []
    for n, annotation in coco.annotations[record["id"]]:
        try:
            boxes.append((annotation_box(annotation, width, height, coco.categories), annotation["category_id"]))
        except BadBox as error:
            box = _reaching_out(annotation, width, height, coco) if error.reason == OUTSIDE else None
            if error.reason not in (OUTSIDE, WITHOUT_AREA):
                raise LabelsInvalid(f"{where}: annotations[{n}]: {error.reason}: {error}") from None
            if box is not None:
                boxes.append((box, annotation["category_id"]))
            odd.setdefault(REACHING_OUT if box else LEFT_OUT, []).append(f"annotations[{n}]")
    truths = GroundTruths(
        np.array([box.xyxy for box, _ in boxes], np.float64).reshape(-1, 4),
        np.array([index[category] for _, category in boxes], np.int64),
        np.array([box.crowd for box, _ in boxes], np.bool_),
    )
    camera = record.get("camera")
    camera = camera if isinstance(camera, str) else ""
    detections = _detections(rows.get(record["id"], ()), coco.class_names)
    return PairedImage(name, detections, truths, width, height, _cluster(record, camera, name), camera)


def _detections(
    rows: Sequence[tuple[tuple[float, float, float, float], float, int]], class_names: tuple[str, ...]
) -> Detections:
    """Columns in descending confidence, ties in the order of the file."""
    if not rows:
        return Detections.empty(class_names)
    detections = Detections(
        np.array([corners for corners, _, _ in rows], np.float32),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([class_id for _, _, class_id in rows], np.int64),
        class_names,
    )
    return detections[np.argsort(-detections.confidence, kind="stable")]


def _reaching_out(annotation: Mapping[str, Any], width: int, height: int, coco: CocoFile) -> LabelBox | None:
    """A ground truth that reaches out of its image, as it is; None when it lies wholly outside."""
    x1, y1, x2, y2 = corners_of(annotation)
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0 or max(map(abs, (x1, y1, x2, y2))) > 10 * MAX_SIDE:
        return None
    name = coco.categories[annotation["category_id"]]
    return LabelBox(class_name=name, xyxy=(x1, y1, x2, y2), crowd=annotation.get("iscrowd") in (1, True))


def _side(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIDE:
        raise LabelsInvalid(f"{what} is {str(value)[:40]!r}; give the pixels as a whole number from 1 to {MAX_SIDE}")
    return value


def _cluster(record: Mapping[str, Any], camera: str, name: str) -> str:
    cluster = record.get("cluster")
    if isinstance(cluster, str) and cluster:
        return cluster
    taken = record.get("captured_at", record.get("date_captured"))
    if camera and isinstance(taken, str):
        try:
            return f"{camera}@{to_utc(datetime.fromisoformat(taken.replace('Z', '+00:00'))):%Y-%m-%dT%H}"
        except (ValueError, OverflowError):
            pass
    return f"image:{name}"
