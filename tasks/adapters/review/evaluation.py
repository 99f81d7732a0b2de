"""Our matching's outcome as a FiftyOne evaluation, so that its panels, filters and evaluation patches work on it.

FiftyOne would match again, box by box (270 s of CPU for 5,000 images with 20 boxes each), and would cut at one
threshold. We match once at the floor and write on every ground truth the confidence of the detection that took it,
`<key>_conf`: then "misses whose candidate lies in [a, b)" is a filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.adapters.review.dataset import GROUND_TRUTH, PREDICTIONS, fiftyone, open_dataset, samples_of, set_fields
from tasks.core.errors import NotEnoughData
from tasks.core.matching import MATCHING_IOU, Matches
from tasks.core.settings import DEFAULT_THRESHOLD, Thresholds

NO_PARTNER = ""  # FiftyOne's id of the partner of an unmatched box

# (ground-truth class, detected class, IoU, confidence, ground-truth id, detection id), None where there is no partner
ResultRow = tuple[str | None, str | None, float | None, float | None, str | None, str | None]


@dataclass(slots=True)
class Written:
    """The fields to set, by document id, and the rows of the run's results."""

    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[ResultRow] = field(default_factory=list)


def write_evaluation(
    name: str,
    eval_key: str,
    sample_ids: Sequence[str],
    matches: Matches,
    class_names: Sequence[str],
    thresholds: Thresholds,
) -> int:
    """Write `matches` on the dataset `name` as the evaluation `eval_key`, replacing one of that key; images written.

    sample_ids: of the images that were matched, in their order; the boxes matched are those that `sync_dataset` was
    given, by row. On every box: `<key>` ("tp", "fp" or "fn", at the matching floor), `<key>_id` and `<key>_iou` of its
    partner; on ground truths also `<key>_conf`, empty on blind ones, and `<key>_blind`, their kind. On every sample:
    `<key>_tp`, `_fp`, `_fn`, and `misses`, the ground truths whose candidate lies below their class's threshold (0.5
    where `thresholds` has none) or that have none. What takes no part in the matching (crowd regions and detections
    in them, detections below the floor) has no outcome. Raises NotEnoughData when no image is in the dataset.
    """
    from fiftyone.utils.eval.coco import COCOEvaluationConfig
    from fiftyone.utils.eval.detection import DetectionResults

    dataset = open_dataset(name, class_names)
    documents = list(documents_of(dataset, sample_ids))
    if not documents:
        raise NotEnoughData(f"evaluation {eval_key!r}: none of its {len(sample_ids)} images is labelled in {name!r}")
    view = dataset.select([str(document["_id"]) for document in documents])
    config = COCOEvaluationConfig(PREDICTIONS, GROUND_TRUTH, iou=MATCHING_IOU, classwise=True)
    method = config.build()
    method.register_run(view, eval_key)
    method.register_samples(view, eval_key)
    for extra, kind in (("conf", fiftyone().FloatField), ("blind", fiftyone().StringField)):
        dataset.add_sample_field(f"{GROUND_TRUTH}.detections.{eval_key}_{extra}", kind)

    written = outcomes(documents, sample_ids, matches, eval_key, thresholds)
    set_fields(dataset, written.fields)
    dataset.reload()
    results = DetectionResults(view, config, eval_key, written.rows, classes=list(class_names), backend=method)
    method.save_run_results(view, eval_key, results)
    method.add_fields_to_sidebar_group(view, eval_key, omit_fields=(PREDICTIONS, GROUND_TRUTH))
    return len(documents)


def remove_evaluations(name: str, keep: str = "") -> None:
    """Remove runs whose predictions are no longer the dataset's: a run without its boxes shows nothing true."""
    fo = fiftyone()
    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        for key in dataset.list_evaluations():
            if key != keep:
                dataset.delete_evaluation(key)


def documents_of(dataset: Any, sample_ids: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    """Ids and classes of the boxes of those samples that have ground truth, as MongoDB holds them."""
    boxes = [f"{GROUND_TRUTH}.detections.{a}" for a in ("_id", "label")]
    boxes += [f"{PREDICTIONS}.detections.{a}" for a in ("_id", "label", "confidence")]
    wanted = {"sample_id": {"$in": list(sample_ids)}, GROUND_TRUTH: {"$ne": None}}
    documents: Iterable[Mapping[str, Any]] = samples_of(dataset).find(wanted, dict.fromkeys(["sample_id", *boxes], 1))
    return documents


def outcomes(
    documents: Iterable[Mapping[str, Any]],
    sample_ids: Sequence[str],
    matches: Matches,
    key: str,
    thresholds: Thresholds,
) -> Written:
    """The fields and result rows of all documents."""
    image_of = {sample_id: image for image, sample_id in enumerate(sample_ids)}
    edges = np.arange(matches.images + 1)
    truth_edges = np.searchsorted(matches.truths.image, edges)
    detection_edges = np.searchsorted(matches.detections.image, edges)
    ious = partner_ious(matches)
    written = Written()
    for document in documents:
        image = image_of[document["sample_id"]]
        truths = range(truth_edges[image], truth_edges[image + 1])
        detections = range(detection_edges[image], detection_edges[image + 1])
        write_image(written, document, matches, truths, detections, ious, key, thresholds)
    return written


def write_image(
    written: Written,
    document: Mapping[str, Any],
    matches: Matches,
    truths: range,
    detections: range,
    ious: NDArray[np.float64],
    key: str,
    thresholds: Thresholds,
) -> None:
    """Add one image's fields and rows to `written`; `truths` and `detections` are its rows in the columns."""
    labelled, predicted = boxes_in(document, GROUND_TRUTH), boxes_in(document, PREDICTIONS)
    fields: dict[str, Any] = no_outcome(labelled, predicted, key)
    counts = {"tp": 0, "fp": 0, "fn": 0}
    misses = 0
    for t in truths:
        row = int(matches.truths.row[t])
        truth, prefix = labelled[row], f"{GROUND_TRUTH}.detections.{row}.{key}"
        taker = int(matches.truths.detection[t])
        if taker < 0:
            fields |= {prefix: "fn", f"{prefix}_blind": str(matches.truths.blind[t])}
            written.rows.append((truth["label"], None, None, None, str(truth["_id"]), None))
            counts["fn"] += 1
            misses += 1
            continue
        candidate_row = int(matches.detections.row[taker])
        candidate, iou = predicted[candidate_row], float(ious[t])
        confidence = float(candidate["confidence"])
        fields |= partner(prefix, candidate, iou) | {f"{prefix}_conf": confidence}
        fields |= partner(f"{PREDICTIONS}.detections.{candidate_row}.{key}", truth, iou)
        ids = str(truth["_id"]), str(candidate["_id"])
        written.rows.append((truth["label"], candidate["label"], iou, confidence, *ids))
        counts["tp"] += 1
        misses += confidence < thresholds.get(truth["label"], DEFAULT_THRESHOLD)
    for d in detections:
        if matches.detections.is_true[d] or matches.detections.is_ignored[d]:
            continue
        row = int(matches.detections.row[d])
        false = predicted[row]
        fields[f"{PREDICTIONS}.detections.{row}.{key}"] = "fp"
        written.rows.append((None, false["label"], None, float(false["confidence"]), None, str(false["_id"])))
        counts["fp"] += 1
    fields |= {f"{key}_{outcome}": count for outcome, count in counts.items()} | {"misses": misses}
    written.fields[str(document["_id"])] = fields


def no_outcome(labelled: Sequence[Any], predicted: Sequence[Any], key: str) -> dict[str, Any]:
    """Every box as one that took no part; what did is written over it."""
    prefixes = [f"{GROUND_TRUTH}.detections.{row}.{key}" for row in range(len(labelled))]
    fields: dict[str, Any] = {f"{prefix}_{extra}": None for prefix in prefixes for extra in ("conf", "blind")}
    for prefix in [*prefixes, *(f"{PREDICTIONS}.detections.{row}.{key}" for row in range(len(predicted)))]:
        fields |= {prefix: None, f"{prefix}_id": NO_PARTNER, f"{prefix}_iou": None}
    return fields


def partner(prefix: str, box: Mapping[str, Any], iou: float) -> dict[str, Any]:
    """What FiftyOne writes on a box that is a true positive: the id of its partner, and their IoU."""
    return {prefix: "tp", f"{prefix}_id": str(box["_id"]), f"{prefix}_iou": iou}


def partner_ious(matches: Matches) -> NDArray[np.float64]:
    """(ground truths,) IoU of each with the detection that took it; of no meaning where none did."""
    if not len(matches.detections):
        return np.zeros(len(matches.truths))
    a, b = matches.truths.xyxy, matches.detections.xyxy[matches.truths.detection]
    sides = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(min=0)
    both = sides.prod(axis=1)
    area = (b[:, 2:] - b[:, :2]).prod(axis=1)
    return np.asarray(both / (matches.truths.area + area - both))


def boxes_in(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return (document.get(name) or {}).get("detections") or []
