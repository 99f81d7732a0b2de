"""The two files of `edgeloop evaluate`: read once, checked as far as all tasks share, and which task they are of.

What the predictions hold says what the model does:

    keypoints                                    "keypoints"
    segmentation                                 "segmentation"
    bbox                                         "detection", whatever else the ground truth holds
    none of them, only category and score        "classification"

Without any prediction it is a classification when there are annotations and none of them has a box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.adapters.labels.coco import CocoFile, parse_coco, parse_json
from tasks.adapters.labels.dataset import MAX_JSON_BYTES, read_capped
from tasks.core.entities import Task, to_utc
from tasks.core.errors import LabelsInvalid

MAX_SIDE = 100_000  # pixels


@dataclass(frozen=True, slots=True)
class PairFiles:
    """class_ids: by category id, in the order of these ids. results: the entries of the predictions, all objects."""

    coco: CocoFile
    results: Sequence[Mapping[str, Any]]
    class_ids: Mapping[int, int]
    truth_name: str
    results_name: str

    @property
    def task(self) -> Task:
        """What the model does, as far as the files show it."""
        if any("keypoints" in result for result in self.results):
            return "keypoints"
        if any("segmentation" in result for result in self.results):
            return "segmentation"
        entries = self.results or [one for rows in self.coco.annotations.values() for _, one in rows]
        return "classification" if entries and not any("bbox" in entry for entry in entries) else "detection"


def open_pair(ground_truth: Path, predictions: Path) -> PairFiles:
    """Raises LabelsInvalid for files that are none of COCO, without images or categories, or with doubled ids."""
    coco = parse_coco(read_capped(ground_truth, MAX_JSON_BYTES), ground_truth.name)
    if not coco.images or not coco.categories:
        raise LabelsInvalid(f"{ground_truth.name}: has no images or no categories, so there is nothing to evaluate")
    _refuse_duplicate_ids(coco, ground_truth.name)
    results = parse_json(read_capped(predictions, MAX_JSON_BYTES), predictions.name)
    if not isinstance(results, list):
        raise LabelsInvalid(
            f'{predictions.name}: COCO results are a list of {{"image_id", "category_id", "bbox", "score"}}'
        )
    bad = next((n for n, result in enumerate(results) if not isinstance(result, dict)), None)
    if bad is not None:
        raise LabelsInvalid(f"{predictions.name}: results[{bad}]: is no object")
    class_ids = {key: i for i, key in enumerate(sorted(coco.categories))}
    return PairFiles(coco, results, class_ids, ground_truth.name, predictions.name)


def image_of(result: Mapping[str, Any], files: PairFiles, where: str) -> int | str:
    """The id of a result's image. Raises LabelsInvalid for one that the ground truth lacks."""
    image_id = result.get("image_id")
    if isinstance(image_id, bool) or not isinstance(image_id, (int, str)) or image_id not in files.coco.annotations:
        raise LabelsInvalid(f"{where}: image_id {str(image_id)[:40]!r} is not in the ground truth")
    return image_id


def class_of(entry: Mapping[str, Any], files: PairFiles, where: str) -> int:
    """The class id of a result. Raises LabelsInvalid for a category that the ground truth lacks."""
    category = entry.get("category_id")
    if isinstance(category, bool) or not isinstance(category, int) or category not in files.class_ids:
        known = ", ".join(str(key) for key in sorted(files.class_ids)[:20])
        raise LabelsInvalid(f"{where}: category_id {str(category)[:40]!r} is not one of the ground truth's {known}")
    return files.class_ids[category]


def side_of(record: Mapping[str, Any], side: str, where: str) -> int:
    """`width` or `height` of an image. Raises LabelsInvalid for what is none."""
    value = record.get(side)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIDE:
        raise LabelsInvalid(
            f"{where}: {side} is {str(value)[:40]!r}; give the pixels as a whole number from 1 to {MAX_SIDE}"
        )
    return value


def cluster_of(record: Mapping[str, Any], camera: str, name: str) -> str:
    """Camera x hour where an image says both, or its own `cluster`; else the image itself."""
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
