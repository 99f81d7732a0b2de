"""faster-coco-eval: the figures that other people's papers and tools report, computed as they compute them.

The twelve of COCO (AP averaged over IoU 0.50 to 0.95 and 101 recall points) and AP50 of each class, of boxes or masks;
for keypoints COCO has ten. They use every detection that they are given, so feed what the model kept from 0.001 up: a
higher cut lowers AP. A classification has none of them: see `classification_figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.adapters.labels.shapes import compressed
from tasks.core.entities import Detections, Task
from tasks.core.errors import LabelsInvalid
from tasks.core.matching.shapes import sigmas_of

if TYPE_CHECKING:
    from tasks.core.matching import ClassifiedImage, GroundTruths

COCO_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
MAX_DETECTIONS = (1, 10, 100)  # an image and class; the last one is what AP is computed with
KEYPOINT_FIGURES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
IOU_TYPES: dict[Task, str] = {"detection": "bbox", "segmentation": "segm", "keypoints": "keypoints"}
UNDEFINED = -1.0  # COCO's mark for a figure without ground truths, as for small objects where there are none


def coco_figures(
    images: Sequence[tuple[Detections, GroundTruths]], class_names: Sequence[str], task: Task = "detection"
) -> dict[str, float]:
    """The COCO figures of a task (each 0 to 1) and `AP50/<class>` for every class.

    images: the detections and ground truths of each image, class ids as indices into `class_names`. task: what is
    compared, boxes (the twelve `COCO_FIGURES`), masks (the same) or keypoints (the ten `KEYPOINT_FIGURES`, by the
    sigmas of matching/shapes.py). Areas are those of boxes; for masks and keypoints, of objects as the labels say
    them: small is below 32 x 32 pixels, large from 96 x 96. A figure without ground truths is -1, as in COCO.
    """
    names = KEYPOINT_FIGURES if task == "keypoints" else COCO_FIGURES
    if not any(len(truths.xyxy) for _, truths in images):
        return dict.fromkeys([*names, *(class_figure(name) for name in class_names)], UNDEFINED)
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(coco_ground_truth(images, class_names, task))
    evaluation = COCOeval_faster(truth, truth.loadRes(coco_results(images, task)), IOU_TYPES[task])
    if task == "keypoints":
        evaluation.params.kpt_oks_sigmas = sigmas_of(_keypoints(images))
    else:
        evaluation.params.maxDets = list(MAX_DETECTIONS)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    figures = dict(zip(names, (float(value) for value in evaluation.all_stats)))
    precision = np.asarray(evaluation.eval["precision"])  # IoU, recall point, class, area range, maxDets
    for class_id, name in enumerate(class_names):
        at_50 = precision[0, :, class_id, 0, -1]
        defined = at_50[at_50 > UNDEFINED]
        figures[class_figure(name)] = float(defined.mean()) if len(defined) else UNDEFINED
    return figures


def classification_figures(images: Sequence[ClassifiedImage]) -> dict[str, float]:
    """`top1` and `top5`: the share of labels that are the image's most probable class, or one of its five.

    Of equally probable classes the first of the class list comes first. -1 without any label.
    """
    ranks = [
        int((image.probability > image.probability[label]).sum())
        + int((image.probability[:label] == image.probability[label]).sum())
        for image in images
        for label in image.labels
    ]
    if not ranks:
        return {"top1": UNDEFINED, "top5": UNDEFINED}
    return {name: float(np.mean([rank < best for rank in ranks])) for name, best in (("top1", 1), ("top5", 5))}


def class_figure(class_name: str) -> str:
    """The key of a class's AP50 among the figures."""
    return f"AP50/{class_name}"


def coco_ground_truth(
    images: Sequence[tuple[Detections, GroundTruths]], class_names: Sequence[str], task: Task = "detection"
) -> dict[str, list[dict[str, Any]]]:
    """Ground truths as a COCO file's content. Ids start at 1: COCO reads a match with annotation 0 as no match.

    Raises LabelsInvalid for a ground truth without the mask or the keypoints of its task.
    """
    annotations: list[dict[str, Any]] = []
    for image_id, (_, truths) in enumerate(images, start=1):
        for row, (box, class_id, crowd) in enumerate(zip(xywh(truths.xyxy), truths.class_id, truths.crowd)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(class_id) + 1,
                    "bbox": box,
                    "area": box[2] * box[3] if task == "detection" else truths.area_of(row),
                    "iscrowd": int(crowd),
                    **_shape(truths, row, task),
                }
            )
    images_of_file = [{"id": image_id, **_size(truths, task)} for image_id, (_, truths) in enumerate(images, start=1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names, start=1)]
    return {"images": images_of_file, "annotations": annotations, "categories": categories}


def coco_results(images: Sequence[tuple[Detections, GroundTruths]], task: Task = "detection") -> list[dict[str, Any]]:
    """Detections as a COCO results file's content. Raises LabelsInvalid as `coco_ground_truth` does."""
    return [
        {
            "image_id": image_id,
            "category_id": int(class_id) + 1,
            "score": float(score),
            **({"bbox": box} if task == "detection" else _shape(found, row, task)),
        }
        for image_id, (found, _) in enumerate(images, start=1)
        for row, (box, class_id, score) in enumerate(zip(xywh(found.xyxy), found.class_id, found.confidence))
    ]


def _shape(objects: Detections | GroundTruths, row: int, task: Task) -> dict[str, Any]:
    """What COCO calls the shape of one object."""
    if task == "segmentation":
        mask = None if objects.masks is None else objects.masks[row]
        if mask is None:
            raise LabelsInvalid(f"object {row}: has no mask, so that AP of masks cannot be computed: give it one")
        return {"segmentation": compressed(mask)}
    if task == "keypoints":
        if objects.keypoints is None:
            raise LabelsInvalid(f"object {row}: has no keypoints, so that their AP cannot be computed: give it some")
        keypoints = objects.keypoints[row].astype(np.float64)
        return {"keypoints": keypoints.ravel().tolist(), "num_keypoints": int((keypoints[:, 2] > 0).sum())}
    return {}


def _size(truths: GroundTruths, task: Task) -> dict[str, int]:
    """Height and width of an image, as far as a mask says them."""
    masks = (truths.masks if task == "segmentation" else None) or ()
    return next(({"height": mask.size[0], "width": mask.size[1]} for mask in masks if mask is not None), {})


def _keypoints(images: Sequence[tuple[Detections, GroundTruths]]) -> int:
    """How many keypoints an object has."""
    return next((int(t.keypoints.shape[1]) for _, t in images if t.keypoints is not None and len(t.keypoints)), 0)


def xywh(xyxy: Any) -> list[list[float]]:
    """(n, 4) corners as COCO's left, top, width and height."""
    corners = np.asarray(xyxy, np.float64).reshape(-1, 4)
    sizes: list[list[float]] = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()
    return sizes
