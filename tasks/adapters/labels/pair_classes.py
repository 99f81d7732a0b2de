"""Classes of whole images of anybody's model, as a pair of COCO files, for `edgeloop evaluate --task classification`.

    ground truth    a COCO file whose annotations are {"image_id", "category_id"}: no boxes, one for each label
    predictions     a list of {"image_id", "category_id", "score"}: the probability of one class of one image

A class that is not listed for an image has probability 0 there. When no image of the ground truth has two labels, the
model answers with its top class; else every class has a threshold of its own. An image without a label is of no class.

A label or a prediction that is given twice, and what `pair` refuses of boxes, raises LabelsInvalid. So do crowd
annotations, of which a classification has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.adapters.labels.dataset import BadBox, number
from tasks.adapters.labels.pair_files import PairFiles, class_of, cluster_of, image_of
from tasks.core.errors import LabelsInvalid
from tasks.core.matching import ClassifiedImage


@dataclass(frozen=True, slots=True)
class ClassPair:
    """names, clusters, images: of each image. top_only: no image has two labels."""

    class_names: tuple[str, ...]
    names: tuple[str, ...]
    clusters: tuple[str, ...]
    images: tuple[ClassifiedImage, ...]
    top_only: bool
    warnings: tuple[str, ...] = ()


def class_pair(files: PairFiles) -> ClassPair:
    """Every image of the ground truth, with its labels and probabilities. Raises LabelsInvalid, naming the entry."""
    row_of = {record["id"]: row for row, record in enumerate(files.coco.images)}
    probability = np.full((len(row_of), len(files.class_ids)), np.nan)
    for n, result in enumerate(files.results):
        where = f"{files.results_name}: results[{n}]"
        cell = row_of[image_of(result, files, where)], class_of(result, files, where)
        if not np.isnan(probability[cell]):
            raise LabelsInvalid(f"{where}: image {str(result['image_id'])[:40]!r} has this category already: keep one")
        probability[cell] = _score(result, where)
    labels = [_labels(record, files) for record in files.coco.images]
    silent = int(np.isnan(probability).all(axis=1).sum())
    warnings = [f"{files.results_name}: {silent} of {len(row_of)} images have no prediction"] if silent else []
    names, clusters = [], []
    for record in files.coco.images:
        camera = record.get("camera")
        names.append(str(record.get("file_name", record["id"])))
        clusters.append(cluster_of(record, camera if isinstance(camera, str) else "", names[-1]))
    return ClassPair(
        files.coco.class_names,
        tuple(names),
        tuple(clusters),
        tuple(ClassifiedImage(row, of_image) for row, of_image in zip(np.nan_to_num(probability), labels)),
        all(len(of_image) <= 1 for of_image in labels),
        tuple(warnings),
    )


def _score(result: Mapping[str, Any], where: str) -> float:
    try:
        score = number(result.get("score"), "score")
    except BadBox as error:
        raise LabelsInvalid(f"{where}: {error}") from None
    if not 0 <= score <= 1:
        raise LabelsInvalid(f"{where}: score {score} is outside 0 to 1")
    return score


def _labels(record: Mapping[str, Any], files: PairFiles) -> Any:
    """(k,) class ids of an image."""
    labels: list[int] = []
    for n, annotation in files.coco.annotations[record["id"]]:
        where = f"{files.truth_name}: annotations[{n}]"
        label = class_of(annotation, files, where)
        if label in labels:
            raise LabelsInvalid(f"{where}: gives an image a class that it has already: keep one")
        if annotation.get("iscrowd") in (1, True):
            raise LabelsInvalid(f"{where}: is a crowd, which a classification has none of: remove it")
        labels.append(label)
    return np.array(labels, np.int64)
