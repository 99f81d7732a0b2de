"""faster-coco-eval: the figures that other people's papers and tools report, computed as they compute them.

The twelve of COCO (AP averaged over IoU 0.50 to 0.95 and 101 recall points) and AP50 of each class. They use every
detection that they are given, so feed what the model kept from 0.001 up: a higher cut lowers AP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.entities import Detections

if TYPE_CHECKING:
    from tasks.core.matching import GroundTruths

COCO_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
MAX_DETECTIONS = (1, 10, 100)  # an image and class; the last one is what AP is computed with
UNDEFINED = -1.0  # COCO's mark for a figure without ground truths, as for small objects where there are none


def coco_figures(images: Sequence[tuple[Detections, GroundTruths]], class_names: Sequence[str]) -> dict[str, float]:
    """The twelve COCO figures (`COCO_FIGURES`, each 0 to 1) and `AP50/<class>` for every class.

    images: the detections and ground truths of each image, class ids as indices into `class_names`. Areas are those
    of the boxes: small is below 32 x 32 pixels, large from 96 x 96. A figure without ground truths is -1, as in COCO.
    """
    if not any(len(truths.xyxy) for _, truths in images):
        return dict.fromkeys([*COCO_FIGURES, *(class_figure(name) for name in class_names)], UNDEFINED)
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(coco_ground_truth(images, class_names))
    evaluation = COCOeval_faster(truth, truth.loadRes(coco_results(images)), "bbox")
    evaluation.params.maxDets = list(MAX_DETECTIONS)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    figures = dict(zip(COCO_FIGURES, (float(value) for value in evaluation.all_stats)))
    precision = np.asarray(evaluation.eval["precision"])  # IoU, recall point, class, area range, maxDets
    for class_id, name in enumerate(class_names):
        at_50 = precision[0, :, class_id, 0, -1]
        defined = at_50[at_50 > UNDEFINED]
        figures[class_figure(name)] = float(defined.mean()) if len(defined) else UNDEFINED
    return figures


def class_figure(class_name: str) -> str:
    """The key of a class's AP50 among the figures."""
    return f"AP50/{class_name}"


def coco_ground_truth(
    images: Sequence[tuple[Detections, GroundTruths]], class_names: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Ground truths as a COCO file's content. Ids start at 1: COCO reads a match with annotation 0 as no match."""
    annotations: list[dict[str, Any]] = []
    for image_id, (_, truths) in enumerate(images, start=1):
        for box, class_id, crowd in zip(xywh(truths.xyxy), truths.class_id, truths.crowd):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(class_id) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowd),
                }
            )
    return {
        "images": [{"id": image_id} for image_id in range(1, len(images) + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)],
    }


def coco_results(images: Sequence[tuple[Detections, GroundTruths]]) -> list[dict[str, Any]]:
    """Detections as a COCO results file's content."""
    return [
        {"image_id": image_id, "category_id": int(class_id) + 1, "bbox": box, "score": float(score)}
        for image_id, (found, _) in enumerate(images, start=1)
        for box, class_id, score in zip(xywh(found.xyxy), found.class_id, found.confidence)
    ]


def xywh(xyxy: Any) -> list[list[float]]:
    """(n, 4) corners as COCO's left, top, width and height."""
    corners = np.asarray(xyxy, np.float64).reshape(-1, 4)
    sizes: list[list[float]] = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()
    return sizes
